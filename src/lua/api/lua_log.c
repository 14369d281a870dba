#include "lua/api/lua_log.h"

#include "base/logging.h"
#include "lua/vm/lua_host.h"
#include "lua/vm/lua_readonly.h"
#include "lua/vm/lua_secret.h"

#include <lauxlib.h>
#include <stdlib.h>

enum { FIELDS_MAX = 16 };

/* Names of fields are written as they are: only what cannot be mistaken for another field. */
static bool lua_log_name_ok(const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i && c >= '0' && c <= '9')) {
            return false;
        }
    }
    return n > 0 && n <= 64;
}

static struct log_field field_of(lua_State *L, const char *name, int idx)
{
    struct slice s;
    switch (lua_type(L, idx)) {
    case LUA_TNUMBER:
        return lua_isinteger(L, idx) ? log_int(name, lua_tointeger(L, idx))
                                     : log_float(name, lua_tonumber(L, idx));
    case LUA_TBOOLEAN:
        return log_str(name, lua_toboolean(L, idx) ? "true" : "false");
    case LUA_TSTRING:
        s.p = lua_tolstring(L, idx, &s.n);
        return log_slice(name, s);
    default:
        luaL_error(L, "log: field '%s': a string, number or boolean was expected, got %s", name,
                   lua_secret_typename(L, idx));
        return (struct log_field){0};
    }
}

static int lua_log_by_name(const void *a, const void *b)
{
    const struct log_field *x = a, *y = b;
    return strcmp(x->key, y->key);
}

/* The pairs of the table at `t`, sorted; strings are the table's own. */
static size_t read_fields(lua_State *L, int t, struct log_field *out)
{
    size_t n = 0;
    lua_pushnil(L);
    while (lua_next(L, t)) { /* stack: ..., name, value */
        size_t len = 0;
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &len) : "";
        if (!lua_log_name_ok(name, len)) {
            luaL_error(L, "log: field names are letters, digits and _ (at most 64)");
        }
        if (n == FIELDS_MAX) {
            luaL_error(L, "log: more than %d fields", FIELDS_MAX);
        }
        out[n++] = field_of(L, name, -1);
        lua_pop(L, 1);
    }
    qsort(out, n, sizeof *out, lua_log_by_name);
    return n;
}

/* log.x("text"), log.x{key = value}, log.x("text", {key = value}) */
static int lua_log_write_line(lua_State *L, enum log_level level)
{
    struct log_field fields[FIELDS_MAX + 1];
    size_t n = 0;
    const char *text = "policy";
    int t = 1;
    lua_settop(L, 2);
    if (lua_type(L, 1) != LUA_TTABLE) {
        text = luaL_checkstring(L, 1);
        t = 2;
    }
    if (!lua_isnil(L, t)) {
        luaL_checktype(L, t, LUA_TTABLE);
        if (!lua_readonly_real(L, t)) {
            lua_pushvalue(L, t);
        }
        n = read_fields(L, lua_gettop(L), fields);
    }
    fields[n] = (struct log_field){.key = NULL};
    if (!lua_host_is_dry_run(L)) {
        log_write(level, "script", text, fields);
    }
    return 0;
}

static int l_info(lua_State *L)
{
    return lua_log_write_line(L, LOG_LEVEL_INFO);
}

static int l_warn(lua_State *L)
{
    return lua_log_write_line(L, LOG_LEVEL_WARN);
}

int lua_log_print(lua_State *L)
{
    int n = lua_gettop(L);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        if (i > 1) {
            luaL_addchar(&b, '\t');
        }
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    if (!lua_host_is_dry_run(L)) {
        log_write(LOG_LEVEL_INFO, "script", lua_tostring(L, -1), NULL);
    }
    return 0;
}

void lua_log_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"info", l_info}, {"warn", l_warn}, {NULL, NULL}};
    luaL_newlib(L, functions);
}
