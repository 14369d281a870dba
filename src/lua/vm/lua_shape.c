#include "lua/vm/lua_shape.h"

#include "base/text/nearest.h"
#include "lua/vm/lua_readonly.h"
#include "lua/vm/lua_secret.h"

#include <lauxlib.h>
#include <stdio.h>

/* Pushes what `given` may be meant for: "did you mean 'x'?", or all names. */
static const char *lua_shape_hint(lua_State *L, const char *given, const char *const *names,
                                  size_t n)
{
    const char *nearest = nearest_name(names, n, slice_str(given));
    if (nearest) {
        return lua_pushfstring(L, "did you mean '%s'?", nearest);
    }
    char list[256];
    size_t len = 0;
    list[0] = '\0';
    for (size_t i = 0; i < n && len < sizeof list; i++) {
        int more = snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", names[i]);
        len += more > 0 ? (size_t)more : 0;
    }
    return lua_pushfstring(L, "there %s: %s", n == 1 ? "is" : "are", n ? list : "none");
}

int lua_shape_unknown(lua_State *L, const char *what, const char *word, const char *given,
                      const char *const *names, size_t n)
{
    return luaL_error(L, "%s: unknown %s '%s' (%s)", what, word, given,
                      lua_shape_hint(L, given, names, n));
}

int lua_shape_no_field(lua_State *L, const char *what, int idx, const char *const *names, size_t n)
{
    if (lua_type(L, idx) != LUA_TSTRING) {
        return luaL_error(L, "%s has no field of type %s", what, luaL_typename(L, idx));
    }
    const char *given = lua_tostring(L, idx);
    return luaL_error(L, "%s has no field '%s' (%s)", what, given,
                      lua_shape_hint(L, given, names, n));
}

void lua_shape_closed(lua_State *L, int idx, const char *what, const char *const *names)
{
    luaL_checkstack(L, 6, NULL);
    if (lua_readonly_real(L, idx)) {
        lua_replace(L, idx);
    }
    if (lua_type(L, idx) != LUA_TTABLE) {
        luaL_error(L, "%s: a table was expected, got %s", what, lua_secret_typename(L, idx));
    }
    size_t n = 0;
    while (names[n]) {
        n++;
    }
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        lua_pop(L, 1); /* stack: ..., key */
        if (lua_type(L, -1) != LUA_TSTRING) {
            luaL_error(L, "%s: keys must be names, got a %s", what, luaL_typename(L, -1));
        }
        struct slice key = lua_shape_string(L, -1, what);
        size_t i = 0;
        while (i < n && !slice_is(key, names[i])) {
            i++;
        }
        if (i == n) {
            lua_shape_unknown(L, what, "key", key.p, names, n);
        }
    }
}

int lua_shape_field(lua_State *L, int t, const char *name)
{
    luaL_checkstack(L, 4, NULL);
    lua_pushstring(L, name);
    int type = lua_rawget(L, t);
    if (lua_readonly_real(L, -1)) { /* a list of tg.settings, for instance */
        lua_replace(L, -2);
    }
    return type;
}

lua_Integer lua_shape_list(lua_State *L, int idx, const char *what, const char *of,
                           lua_Integer least, lua_Integer most)
{
    if (lua_type(L, idx) != LUA_TTABLE) {
        luaL_error(L, "%s: a list of %s was expected, got %s", what, of,
                   lua_secret_typename(L, idx));
    }
    int top = lua_gettop(L);
    lua_Integer n = (lua_Integer)lua_rawlen(L, idx), pairs = 0;
    luaL_checkstack(L, 4, NULL);
    lua_pushnil(L);
    while (n <= most && pairs <= n && lua_next(L, idx)) { /* no more than it takes to know */
        lua_pop(L, 1);
        pairs++;
    }
    lua_settop(L, top);
    bool exact = n > most || pairs == n;
    if (n < least || n > most || !exact) {
        luaL_error(L, "%s: a list of %s %I %s was expected%s", what, least ? "1 to" : "at most",
                   (LUAI_UACINT)most, of, exact ? "" : " (no holes, no other keys)");
    }
    return n;
}

struct slice lua_shape_string(lua_State *L, int idx, const char *what)
{
    struct slice s = {NULL, 0};
    if (lua_type(L, idx) != LUA_TSTRING) {
        luaL_error(L, "%s: a string was expected, got %s", what, lua_secret_typename(L, idx));
    }
    s.p = lua_tolstring(L, idx, &s.n);
    return s;
}

static bool lua_shape_name_ok(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i && ((c >= '0' && c <= '9') || c == '-'))) {
            return false;
        }
    }
    return s.n > 0 && s.n <= LUA_SHAPE_NAME_MAX;
}

struct slice lua_shape_name(lua_State *L, int idx, const char *what)
{
    struct slice s = {0};
    if (lua_type(L, idx) == LUA_TSTRING) {
        s.p = lua_tolstring(L, idx, &s.n);
    }
    if (!s.p || !lua_shape_name_ok(s)) {
        luaL_error(L, "%s: names are letters, digits, _ and - (at most %d)", what,
                   LUA_SHAPE_NAME_MAX);
    }
    return s;
}

lua_Integer lua_shape_integer(lua_State *L, int idx, const char *what, lua_Integer least,
                              lua_Integer most)
{
    int is_integer = 0;
    lua_Integer i =
        lua_type(L, idx) == LUA_TNUMBER ? lua_tointegerx(L, idx, &is_integer) : (lua_Integer)0;
    if (!is_integer || i < least || i > most) {
        luaL_error(L, "%s: a whole number from %I to %I was expected, got %s", what,
                   (LUAI_UACINT)least, (LUAI_UACINT)most,
                   lua_type(L, idx) == LUA_TNUMBER ? lua_tostring(L, idx)
                                                   : lua_secret_typename(L, idx));
    }
    return i;
}

lua_Integer lua_shape_time(lua_State *L, int idx, const char *what, lua_Integer after_s,
                           lua_Integer most)
{
    if (lua_type(L, idx) != LUA_TNUMBER) {
        luaL_error(L, "%s: a number such as os.time() + 300 was expected, got %s", what,
                   lua_secret_typename(L, idx));
    }
    lua_Number given = lua_tonumber(L, idx);
    if (given > (lua_Number)most && given / 1000 <= (lua_Number)most) {
        luaL_error(L, "%s: %s is in milliseconds: divide by 1000", what, lua_tostring(L, idx));
    }
    if (given > 0 && given <= (lua_Number)after_s) {
        luaL_error(L, "%s: was %I s ago", what, (LUAI_UACINT)(after_s - (lua_Integer)given));
    }
    return lua_shape_integer(L, idx, what, after_s + 1, most);
}

double lua_shape_positive(lua_State *L, int idx, const char *what, double most)
{
    double d = lua_type(L, idx) == LUA_TNUMBER ? lua_tonumber(L, idx) : 0;
    if (!(d > 0 && d <= most)) { /* also refuses NaN and infinity */
        luaL_error(
            L, "%s: a number above 0 and up to %I was expected, got %s", what, (LUAI_UACINT)most,
            lua_type(L, idx) == LUA_TNUMBER ? lua_tostring(L, idx) : lua_secret_typename(L, idx));
    }
    return d;
}
