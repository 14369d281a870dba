/* See test_reload.h. */
#include "tools/test/test_reload.h"

#include "tools/test/test_values.h"

#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT_FILE = 1, KEPT_SETTINGS, KEPT_PATH };

bool test_given_take(lua_State *L, int bench, int file, int settings, int path,
                     struct test_broker_given *out)
{
    char real[PATH_MAX];
    *out = (struct test_broker_given){.policy = NULL};
    bench = lua_absindex(L, bench);
    if (!realpath(luaL_checkstring(L, file), real)) {
        int why = errno;
        lua_pushnil(L);
        lua_pushfstring(L, "%s: %s", lua_tostring(L, file), strerror(why));
        return false;
    }
    out->policy = lua_pushstring(L, real);
    lua_setiuservalue(L, bench, KEPT_FILE);
    if (!lua_isnil(L, settings)) {
        const struct test_settings *s = test_settings_push(L, settings);
        out->settings = s->v;
        out->setting_count = s->n;
        lua_pushvalue(L, settings);
        lua_setiuservalue(L, -2, POLICY_SETTINGS_MAX + 1); /* its texts are those of the list */
        lua_setiuservalue(L, bench, KEPT_SETTINGS);
    }
    if (!lua_isnil(L, path)) {
        size_t n = lua_rawlen(L, path);
        char **v = lua_newuserdatauv(L, (n + 1) * sizeof *v, 1);
        for (size_t i = 0; i < n; i++) {
            lua_rawgeti(L, path, (lua_Integer)i + 1);
            v[i] = (char *)(uintptr_t)luaL_checkstring(L, -1); /* the list holds it */
            lua_pop(L, 1);
        }
        lua_pushvalue(L, path);
        lua_setiuservalue(L, -2, 1);
        lua_setiuservalue(L, bench, KEPT_PATH);
        out->path = v;
        out->path_count = n;
    }
    return true;
}

static void test_reload_set_count(lua_State *L, const char *name, unsigned n)
{
    lua_pushinteger(L, (lua_Integer)n);
    lua_setfield(L, -2, name);
}

static void test_reload_set_text(lua_State *L, const char *name, const char *text)
{
    if (text) {
        lua_pushstring(L, text);
        lua_setfield(L, -2, name);
    }
}

static void test_reload_push(void *ctx, uint64_t token, const struct policy_report *rep)
{
    static const char *const modes[] = {[RELOAD_RESUBSCRIBE] = "resubscribe",
                                        [RELOAD_KEEP] = "keep",
                                        [RELOAD_RECONNECT] = "reconnect"};
    lua_State *L = ctx;
    bool reloaded = rep->outcome == POLICY_RELOADED;
    (void)token;
    lua_createtable(L, 0, 6);
    test_reload_set_text(L, "outcome", reloaded ? "reloaded" : "refused");
    test_reload_set_text(L, "error", rep->error);
    test_reload_set_text(L, "mode", reloaded ? modes[rep->mode] : NULL);
    test_reload_set_text(L, "version", rep->version);
    test_reload_set_text(L, "previous", rep->previous);
    if (rep->dry_run) {
        lua_createtable(L, 0, 4);
        test_reload_set_count(L, "connects", rep->dry_run->connects);
        test_reload_set_count(L, "streams", rep->dry_run->streams);
        test_reload_set_count(L, "judgements", rep->dry_run->judgements);
        test_reload_set_count(L, "errors", rep->dry_run->errors);
        lua_setfield(L, -2, "tried");
    }
}

int test_reload(lua_State *L, struct test_broker *w)
{
    struct test_broker_given given;
    lua_settop(L, 4);
    luaL_checkstack(L, 20, NULL);
    /* What was given before goes on to be used where this is refused: it is kept until then. */
    for (int i = 1; i <= TEST_RELOAD_KEPT; i++) {
        lua_getiuservalue(L, 1, i);
    }
    if (!test_given_take(L, 1, 2, 3, 4, &given)) {
        return 2;
    }
    test_broker_reload(w, &given, test_reload_push, L); /* pushes */
    lua_getfield(L, -1, "mode");
    if (lua_isnil(L, -1)) {
        for (int i = 1; i <= TEST_RELOAD_KEPT; i++) {
            lua_pushvalue(L, 4 + i);
            lua_setiuservalue(L, 1, i);
        }
    }
    lua_pop(L, 1);
    return 1;
}
