/* What several workers add to a broker, as far as it is pure: the sum of their metrics pages. */
#include "admin/metrics/metrics_sum.h"
#include "base/require.h"
#include "native.h"

#include <lauxlib.h>

/* sum(workers, scrapes): each scrape is a list of pages, false where a worker did not answer. The
 * page of the last one. */
static int l_sum(lua_State *L)
{
    unsigned workers = (unsigned)luaL_checkinteger(L, 1);
    struct metrics_sum *m = metrics_sum_new(workers);
    struct strbuf out;
    luaL_checktype(L, 2, LUA_TTABLE);
    for (lua_Integer i = 1; i <= luaL_len(L, 2); i++) {
        lua_rawgeti(L, 2, i);
        metrics_sum_begin(m);
        for (unsigned w = 0; w < workers; w++) {
            size_t n = 0;
            lua_rawgeti(L, -1, (lua_Integer)w + 1);
            const char *page = lua_tolstring(L, -1, &n);
            if (page) {
                metrics_sum_add(m, w, slice_of(page, n));
            }
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    strbuf_init(&out, 1 << 20);
    REQUIRE(metrics_sum_render(m, &out) == 0);
    lua_pushlstring(L, out.data ? out.data : "", out.len);
    strbuf_clear(&out);
    metrics_sum_free(m);
    return 1;
}

int native_open_workers(lua_State *L)
{
    static const luaL_Reg functions[] = {{"sum", l_sum}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
