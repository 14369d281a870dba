#include "lua/api/lua_rate.h"

#include "base/logging.h"
#include "lua/vm/lua_host.h"
#include "lua/vm/lua_shape.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

static const double rate_max_per_s = 1e6, rate_max_burst = 1e6, rate_max_s = 7 * 86400;

/* The text at `arg`; an integer will do. */
static struct slice lua_rate_text(lua_State *L, int arg, size_t most, const char *expected)
{
    struct slice s = {NULL, 0};
    if (lua_type(L, arg) == LUA_TSTRING || lua_isinteger(L, arg)) {
        s.p = lua_tolstring(L, arg, &s.n);
    }
    if (s.n == 0 || s.n > most) {
        luaL_argerror(L, arg, expected);
    }
    return s;
}

/* One pass over the options: they are read at each call. */
static struct rate_rule lua_rate_rule(lua_State *L, int options)
{
    static const char *const keys[] = {"per_s", "burst", NULL};
    double per_s = 0, burst = 0;
    if (lua_getmetatable(L, options)) { /* it may be a view of a table */
        lua_pop(L, 1);
        lua_shape_closed(L, options, "options of tg.rate", keys);
    }
    lua_pushnil(L);
    while (lua_next(L, options)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        if (strcmp(key, keys[0]) == 0) {
            per_s = lua_shape_positive(L, -1, "per_s", rate_max_per_s);
        } else if (strcmp(key, keys[1]) == 0) {
            burst = (double)lua_shape_integer(L, -1, "burst", 1, (lua_Integer)rate_max_burst);
        } else {
            lua_shape_closed(L, options, "options of tg.rate", keys); /* says which are known */
        }
        lua_pop(L, 1);
    }
    if (per_s <= 0) { /* it is not there */
        lua_pushnil(L);
        per_s = lua_shape_positive(L, -1, "per_s", rate_max_per_s);
    }
    burst = burst > 0 ? burst : fmax(1, ceil(per_s));
    if (burst / per_s > rate_max_s) {
        luaL_error(
            L, "per_s: so much that an empty bucket is full again within seven days was expected");
    }
    return (struct rate_rule){.interval_ns = (uint64_t)(1e9 / per_s), .burst = (uint64_t)burst};
}

/* Some key is refused that may have used nothing. */
static void lua_rate_no_room(struct lua_rates *r, uint64_t now_ns)
{
    uint32_t keys, capacity;
    r->metrics->rate_no_room++;
    if (log_pace_take(&r->pace, now_ns / 1000000)) {
        rate_table_figures(r->table, &keys, &capacity);
        log_warn("policy", "tg.rate refuses keys that it has no room for; raise policy.rate_keys",
                 LOG_F(log_uint("rate_keys", capacity)));
    }
}

int lua_rate(lua_State *L)
{
    const struct lua_host *host = lua_vm_host(L);
    struct lua_rates *r = host->rates;
    uint64_t wait_ns;
    if (host->pure || host->loading || !r) {
        return luaL_error(
            L, "tg.rate: only hooks may ask for a rate, such as authenticate and publish");
    }
    struct slice name =
        lua_rate_text(L, 1, RATE_NAME_MAX_BYTES, "a name of 1 to 64 bytes was expected");
    struct slice key =
        lua_rate_text(L, 2, RATE_KEY_MAX_BYTES, "a key of 1 to 1024 bytes was expected");
    luaL_checktype(L, 3, LUA_TTABLE);
    const struct rate_rule rule = lua_rate_rule(L, 3);
    if (host->dry_run) { /* a question of the past: nothing is taken of what clients have now */
        lua_pushboolean(L, true);
        return 1;
    }
    uint64_t now = r->now_ns(r->ctx);
    enum rate_answer answer = rate_take(r->table, name, key, &rule, now, &wait_ns);
    lua_pushboolean(L, answer == RATE_TAKEN);
    if (answer == RATE_TAKEN) {
        return 1;
    }
    if (answer == RATE_NO_ROOM) {
        lua_rate_no_room(r, now);
    } else {
        r->metrics->rate_refused++;
    }
    lua_pushnumber(L, (double)wait_ns / 1e9);
    return 2;
}
