/* base/logging: what parts of the broker log in the process of the specs. Collected from the first collect() on, up to
 * LOG_MAX bytes between two calls of clear(); what is more is left out, which the text says. */
#include "base/alloc.h"
#include "base/logging.h"
#include "base/require.h"
#include "native.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { LOG_MAX = 1 << 20 };

static uv_mutex_t lock; /* threads of a store log, too */
static char *lines;     /* LOG_MAX bytes; NULL: not collected */
static size_t used;
static bool full;

static void native_log_take(const char *line, size_t n)
{
    uv_mutex_lock(&lock);
    full = full || n > LOG_MAX - used;
    if (!full) {
        memcpy(lines + used, line, n);
        used += n;
    }
    uv_mutex_unlock(&lock);
}

/* A process that dies says what it has logged. */
static void native_log_abort(int number)
{
    ssize_t ignored = write(STDERR_FILENO, lines, used);
    (void)ignored;
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

/* collect(): from now on, if not already */
static int l_collect(lua_State *L)
{
    (void)L;
    if (!lines) {
        REQUIRE(uv_mutex_init(&lock) == 0);
        lines = xmalloc(LOG_MAX);
        log_set_sink(native_log_take);
        (void)signal(SIGABRT, native_log_abort);
    }
    return 0;
}

/* size() -> bytes collected since clear() */
static int l_size(lua_State *L)
{
    uv_mutex_lock(&lock);
    size_t n = used;
    uv_mutex_unlock(&lock);
    lua_pushinteger(L, (lua_Integer)n);
    return 1;
}

/* text(from) -> what was collected behind the first `from` bytes */
static int l_text(lua_State *L)
{
    size_t from = (size_t)luaL_optinteger(L, 1, 0);
    uv_mutex_lock(&lock);
    size_t n = used;
    bool cut = full;
    uv_mutex_unlock(&lock);
    luaL_argcheck(L, from <= n, 1, "less was collected");
    lua_pushlstring(L, lines + from, n - from);
    if (cut) {
        lua_pushliteral(L, "further lines were left out\n");
        lua_concat(L, 2);
    }
    return 1;
}

static int l_clear(lua_State *L)
{
    (void)L;
    uv_mutex_lock(&lock);
    used = 0;
    full = false;
    uv_mutex_unlock(&lock);
    return 0;
}

int native_open_log(lua_State *L)
{
    static const luaL_Reg functions[] = {{"collect", l_collect},
                                         {"size", l_size},
                                         {"text", l_text},
                                         {"clear", l_clear},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
