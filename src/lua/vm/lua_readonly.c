#include "lua/vm/lua_readonly.h"

#include "lua/vm/format_classes.h"
#include "lua/vm/lua_host.h"
#include "lua/vm/lua_vm.h"

#include <lauxlib.h>

/* Its address is the key under which a view's metatable keeps the real table. */
static const char real_key;
/* The same for the name of a deep view. */
static const char deep_key;
/* The same for `true` where reads are recorded. */
static const char recorded_key;

static int view_newindex(lua_State *L)
{
    return luaL_error(L, "%s is read-only", lua_tostring(L, lua_upvalueindex(1)));
}

static void push_real(lua_State *L, int idx)
{
    if (!lua_readonly_real(L, idx)) {
        luaL_argerror(L, idx, "a read-only table was expected");
    }
}

static int view_len(lua_State *L)
{
    push_real(L, 1);
    lua_pushinteger(L, (lua_Integer)lua_rawlen(L, -1));
    return 1;
}

/* upvalue 1: the real table. Not handed to the loop: the script cannot get hold of it. */
static int view_next(lua_State *L)
{
    lua_settop(L, 2);
    if (lua_next(L, lua_upvalueindex(1))) {
        return 2;
    }
    lua_pushnil(L);
    return 1;
}

static int view_pairs(lua_State *L)
{
    push_real(L, 1);
    lua_pushcclosure(L, view_next, 1);
    lua_pushnil(L);
    lua_pushnil(L);
    return 3;
}

/* The value on top is what real[key] holds. A table that is no view yet becomes one, in the real
 * table too, so that it is made once. `real` and `key` are absolute or upvalue indices. */
static void view_child(lua_State *L, int real, int key, int what)
{
    if (lua_type(L, -1) != LUA_TTABLE) {
        return;
    }
    if (lua_readonly_real(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    lua_readonly_wrap_deep(L, lua_tostring(L, what)); /* stack: ..., view */
    lua_pushvalue(L, key);
    lua_pushvalue(L, -2);
    lua_rawset(L, real); /* assigns a field that exists: allowed during a traversal */
}

/* upvalues: real table, name */
static int deep_index(lua_State *L)
{
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    view_child(L, lua_upvalueindex(1), 2, lua_upvalueindex(2));
    return 1;
}

static int deep_next(lua_State *L)
{
    lua_settop(L, 2);
    if (!lua_next(L, lua_upvalueindex(1))) { /* takes the key; stack: state, [next key, value] */
        lua_pushnil(L);
        return 1;
    }
    view_child(L, lua_upvalueindex(1), 2, lua_upvalueindex(2));
    return 2;
}

static int deep_pairs(lua_State *L)
{
    push_real(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushcclosure(L, deep_next, 2);
    lua_pushnil(L);
    lua_pushnil(L);
    return 3;
}

/* stack: real -> view; the caller sets __index and __pairs of the metatable it leaves on top */
static void begin_view(lua_State *L, const char *what)
{
    luaL_checkstack(L, 6, NULL);
    lua_newtable(L);          /* stack: real, view */
    lua_createtable(L, 0, 7); /* stack: real, view, metatable */
    lua_pushvalue(L, -3);
    lua_rawsetp(L, -2, &real_key);
    lua_pushstring(L, what);
    lua_pushcclosure(L, view_newindex, 1);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, view_len);
    lua_setfield(L, -2, "__len");
    lua_pushliteral(L, "read-only");
    lua_setfield(L, -2, "__metatable");
}

/* stack: real, view, metatable -> view */
static void end_view(lua_State *L)
{
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}

void lua_readonly_wrap(lua_State *L, const char *what)
{
    begin_view(L, what); /* stack: real, view, metatable */
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, view_pairs);
    lua_setfield(L, -2, "__pairs");
    end_view(L);
}

void lua_readonly_wrap_deep(lua_State *L, const char *what)
{
    begin_view(L, what); /* stack: real, view, metatable */
    lua_pushvalue(L, -3);
    lua_pushstring(L, what);
    lua_pushcclosure(L, deep_index, 2);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, what);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, -3, &deep_key);
    lua_pushcclosure(L, deep_pairs, 1);
    lua_setfield(L, -2, "__pairs");
    end_view(L);
}

/* upvalue: the real table */
static int recorded_index(lua_State *L)
{
    const struct lua_host *s = lua_vm_host(L);
    struct slice name = {NULL, 0};
    lua_settop(L, 2);
    name.p = lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &name.n) : NULL;
    if (s && s->reads && name.p) { /* params have no other keys */
        param_reads_add(s->reads, name);
    }
    lua_rawget(L, lua_upvalueindex(1));
    return 1;
}

void lua_readonly_wrap_recorded(lua_State *L, const char *what)
{
    begin_view(L, what); /* stack: real, view, metatable */
    lua_pushvalue(L, -3);
    lua_pushcclosure(L, recorded_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, view_pairs);
    lua_setfield(L, -2, "__pairs");
    lua_pushboolean(L, true);
    lua_rawsetp(L, -2, &recorded_key);
    end_view(L);
}

/* stack: metatable of a view: who sees the table behind it may read all of it */
static void note_all(lua_State *L)
{
    if (lua_rawgetp(L, -1, &recorded_key) != LUA_TNIL) {
        const struct lua_host *s = lua_vm_host(L);
        if (s && s->reads) {
            s->reads->all = true;
        }
    }
    lua_pop(L, 1);
}

bool lua_readonly_real(lua_State *L, int idx)
{
    if (lua_type(L, idx) != LUA_TTABLE || !lua_getmetatable(L, idx)) {
        return false;
    }
    note_all(L);
    if (lua_rawgetp(L, -1, &real_key) != LUA_TTABLE) { /* stack: metatable, real or nil */
        lua_pop(L, 2);
        return false;
    }
    lua_remove(L, -2);
    return true;
}

int lua_readonly_next(lua_State *L)
{
    lua_settop(L, 2);
    push_real(L, 1);
    lua_getmetatable(L, 1);
    lua_rawgetp(L, -1, &deep_key);
    lua_replace(L, -2);
    lua_pushvalue(L, 2); /* stack: view, key, real, name or nil, key */
    if (!lua_next(L, 3)) {
        lua_pushnil(L);
        return 1;
    }
    if (!lua_isnil(L, 4)) {
        view_child(L, 3, 5, 4);
    }
    return 2;
}
