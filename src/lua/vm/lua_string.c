#include "lua/vm/lua_string.h"

#include "lua/vm/lua_pattern.h"
#include "lua/vm/lua_vm.h"

#include <lauxlib.h>
#include <string.h>

static struct slice lua_string_check_text(lua_State *L, int arg)
{
    struct slice s;
    s.p = luaL_checklstring(L, arg, &s.n);
    return s;
}

/* Argument `init`: negative ones count from the end. The offset, or beyond the text. */
static size_t start_of(lua_State *L, int arg, size_t n)
{
    lua_Integer i = luaL_optinteger(L, arg, 1);
    if (i > 0) {
        return (lua_Unsigned)i - 1 > n ? n + 1 : (size_t)i - 1;
    }
    return i == 0 || i < -(lua_Integer)n ? 0 : n - (size_t)-i;
}

static bool lua_string_is_plain(struct slice pattern)
{
    for (size_t i = 0; i < pattern.n; i++) {
        if (pattern.p[i] && strchr("^$*+?.([%-", pattern.p[i])) {
            return false;
        }
    }
    return true;
}

/* memmem() needs linear time whatever it is given, memchr() and memcmp() by turns do not. */
static int find_plain(lua_State *L, struct slice text, struct slice wanted, size_t from)
{
    const char *at =
        wanted.n ? memmem(text.p + from, text.n - from, wanted.p, wanted.n) : text.p + from;
    if (!at) {
        luaL_pushfail(L);
        return 1;
    }
    lua_pushinteger(L, at - text.p + 1);
    lua_pushinteger(L, at - text.p + (lua_Integer)wanted.n);
    return 2;
}

static int find_pattern(lua_State *L, struct slice text, struct slice pattern, size_t from,
                        bool find)
{
    struct lua_pattern m;
    bool anchored = pattern.n && pattern.p[0] == '^';
    if (anchored) {
        pattern = slice_of(pattern.p + 1, pattern.n - 1);
    }
    lua_pattern_init(&m, L, text, pattern);
    for (const char *s = text.p + from; s <= text.p + text.n; s++) {
        const char *end = lua_pattern_at(&m, s);
        if (end && find) {
            lua_pushinteger(L, s - text.p + 1);
            lua_pushinteger(L, end - text.p);
            return 2 + lua_pattern_push_all(&m, s, end, false);
        }
        if (end) {
            return lua_pattern_push_all(&m, s, end, true);
        }
        if (anchored) {
            break;
        }
        lua_pattern_spend(&m, 1);
    }
    luaL_pushfail(L);
    return 1;
}

static int find_or_match(lua_State *L, bool find)
{
    struct slice text = lua_string_check_text(L, 1), pattern = lua_string_check_text(L, 2);
    size_t from = start_of(L, 3, text.n);
    if (from > text.n) {
        luaL_pushfail(L);
        return 1;
    }
    if (find && (lua_toboolean(L, 4) || lua_string_is_plain(pattern))) {
        return find_plain(L, text, pattern, from);
    }
    return find_pattern(L, text, pattern, from, find);
}

static int l_find(lua_State *L)
{
    return find_or_match(L, true);
}

static int l_match(lua_State *L)
{
    return find_or_match(L, false);
}

/* ---- gmatch: upvalues text, pattern, offset to go on at, offset where the last match ended or -1
 */

static int gmatch_next(lua_State *L)
{
    struct lua_pattern m;
    struct slice text, pattern;
    text.p = lua_tolstring(L, lua_upvalueindex(1), &text.n);
    pattern.p = lua_tolstring(L, lua_upvalueindex(2), &pattern.n);
    lua_Integer from = lua_tointeger(L, lua_upvalueindex(3));
    lua_Integer last = lua_tointeger(L, lua_upvalueindex(4));
    lua_pattern_init(&m, L, text, pattern);
    for (; from <= (lua_Integer)text.n; from++) {
        const char *end = lua_pattern_at(&m, text.p + from);
        if (end && end - text.p != last) {
            lua_pushinteger(L, end - text.p);
            lua_copy(L, -1, lua_upvalueindex(3));
            lua_replace(L, lua_upvalueindex(4));
            return lua_pattern_push_all(&m, text.p + from, end, true);
        }
        lua_pattern_spend(&m, 1);
    }
    lua_pushinteger(L, from); /* stays at its end */
    lua_replace(L, lua_upvalueindex(3));
    return 0;
}

static int l_gmatch(lua_State *L)
{
    struct slice text = lua_string_check_text(L, 1);
    (void)lua_string_check_text(L, 2);
    size_t from = start_of(L, 3, text.n);
    lua_settop(L, 2);
    lua_pushinteger(L, (lua_Integer)from);
    lua_pushinteger(L, -1);
    lua_pushcclosure(L, gmatch_next, 4);
    return 1;
}

/* ---- gsub */

/* Captures ("%1") in a replacement text. */
static void add_template(struct lua_pattern *m, luaL_Buffer *b, const char *from, const char *to)
{
    struct slice r;
    r.p = lua_tolstring(m->L, 3, &r.n);
    lua_vm_poll(m->L); /* writing is no step of the pattern's: memory bounds it */
    for (const char *p = r.p, *end = r.p + r.n; p < end; p++) {
        if (*p != '%') {
            luaL_addchar(b, *p);
            continue;
        }
        char kind = ++p < end ? *p : '\0';
        if (kind == '%' && p < end) {
            luaL_addchar(b, '%');
        } else if (kind == '0') {
            luaL_addlstring(b, from, (size_t)(to - from));
        } else if (kind >= '1' && kind <= '9') {
            lua_pattern_push(m, kind - '1', from, to);
            luaL_tolstring(m->L, -1, NULL); /* a position is a number */
            lua_remove(m->L, -2);
            luaL_addvalue(b);
        } else {
            luaL_error(m->L, "invalid use of '%c' in replacement string", '%');
        }
    }
}

/* Appends what replaces the match; false: the match itself. */
static bool add_replacement(struct lua_pattern *m, luaL_Buffer *b, const char *from, const char *to)
{
    lua_State *L = m->L;
    int type = lua_type(L, 3);
    if (type == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, lua_pattern_push_all(m, from, to, true), 1);
    } else if (type == LUA_TTABLE) {
        lua_pattern_push(m, 0, from, to);
        lua_gettable(L, 3);
    } else {
        add_template(m, b, from, to);
        return true;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(b, from, (size_t)(to - from));
        return false;
    }
    if (!lua_isstring(L, -1)) {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    }
    luaL_addvalue(b);
    return true;
}

static int l_gsub(lua_State *L)
{
    struct lua_pattern m;
    luaL_Buffer b;
    struct slice text = lua_string_check_text(L, 1), pattern = lua_string_check_text(L, 2);
    int type = lua_type(L, 3);
    luaL_argexpected(L,
                     type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
                         type == LUA_TTABLE,
                     3, "string/function/table");
    lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)text.n + 1), n = 0;
    bool anchored = pattern.n && pattern.p[0] == '^', changed = false;
    if (anchored) {
        pattern = slice_of(pattern.p + 1, pattern.n - 1);
    }
    const char *s = text.p, *last = NULL, *end = text.p + text.n;
    lua_pattern_init(&m, L, text, pattern);
    luaL_buffinit(L, &b);
    while (n < most) {
        const char *to = lua_pattern_at(&m, s);
        lua_pattern_spend(&m, 1);
        if (to && to != last) {
            n++;
            changed = add_replacement(&m, &b, s, to) || changed;
            s = last = to;
        } else if (s < end) {
            luaL_addchar(&b, *s);
            s++;
        } else {
            break;
        }
        if (anchored) {
            break;
        }
    }
    if (changed) {
        luaL_addlstring(&b, s, (size_t)(end - s));
        luaL_pushresult(&b);
    } else {
        lua_pushvalue(L, 1);
    }
    lua_pushinteger(L, n);
    return 2;
}

void lua_string_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"find", l_find}, {"match", l_match}, {"gmatch", l_gmatch}, {"gsub", l_gsub}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
