#include "lua/api/lua_json.h"

#include "lua/vm/lua_box.h"
#include "lua/vm/lua_readonly.h"
#include "lua/vm/lua_vm.h"

#include <lauxlib.h>
#include <stdio.h>

static const char array_key; /* its address: the array metatable in the registry */

static void push_array_metatable(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key) == LUA_TTABLE) {
        return;
    }
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "json.array");
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &array_key);
}

void lua_json_mark_array(lua_State *L)
{
    push_array_metatable(L);
    lua_setmetatable(L, -2);
}

bool lua_json_is_array(lua_State *L, int idx)
{
    if (!lua_getmetatable(L, idx)) {
        return false;
    }
    push_array_metatable(L);
    bool is = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return is;
}

static void push_tree(lua_State *L, const json_t *v, int depth);

static void push_array(lua_State *L, const json_t *v, int depth)
{
    size_t n = json_array_size(v);
    lua_createtable(L, (int)n, 0);
    lua_json_mark_array(L);
    for (size_t i = 0; i < n; i++) {
        push_tree(L, json_array_get(v, i), depth);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static void push_object(lua_State *L, const json_t *v, int depth)
{
    const char *key;
    json_t *value;
    lua_createtable(L, 0, (int)json_object_size(v));
    /* iterating does not change the object, but jansson's macro takes it without const */
    void *it = json_object_iter((json_t *)(uintptr_t)v);
    for (; it; it = json_object_iter_next((json_t *)(uintptr_t)v, it)) {
        key = json_object_iter_key(it);
        value = json_object_iter_value(it);
        lua_pushstring(L, key);
        push_tree(L, value, depth);
        lua_rawset(L, -3);
    }
}

static void push_tree(lua_State *L, const json_t *v, int depth)
{
    luaL_checkstack(L, 6, "JSON");
    lua_vm_poll(L);
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        push_object(L, v, depth + 1);
        break;
    case JSON_ARRAY:
        push_array(L, v, depth + 1);
        break;
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        lua_pushinteger(L, json_integer_value(v));
        break;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(v));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_is_true(v));
        break;
    case JSON_NULL:
    default:
        lua_pushlightuserdata(L, NULL);
        break;
    }
}

/* jansson's parser goes 2048 deep; what is turned into tables is bounded tighter. */
static bool too_deep(const json_t *v, int depth)
{
    if (!json_is_array(v) && !json_is_object(v)) {
        return false;
    }
    if (depth == LUA_JSON_DEPTH_MAX) {
        return true;
    }
    if (json_is_array(v)) {
        for (size_t i = 0; i < json_array_size(v); i++) {
            if (too_deep(json_array_get(v, i), depth + 1)) {
                return true;
            }
        }
        return false;
    }
    void *it = json_object_iter((json_t *)(uintptr_t)v);
    for (; it; it = json_object_iter_next((json_t *)(uintptr_t)v, it)) {
        if (too_deep(json_object_iter_value(it), depth + 1)) {
            return true;
        }
    }
    return false;
}

static enum lua_json_result classify(const json_error_t *e)
{
    enum json_error_code code = json_error_code(e);
    return code == json_error_invalid_syntax || code == json_error_premature_end_of_input ||
                   code == json_error_end_of_input_expected || code == json_error_invalid_utf8
               ? LUA_JSON_NOT_JSON
               : LUA_JSON_REFUSED;
}

enum lua_json_result lua_json_decode(lua_State *L, struct slice text, struct lua_json_error *why)
{
    if (text.n > LUA_JSON_DECODE_MAX_BYTES) {
        snprintf(why->text, sizeof why->text, "JSON text longer than %d bytes",
                 LUA_JSON_DECODE_MAX_BYTES);
        return LUA_JSON_REFUSED;
    }
    if (text.n && memchr(text.p, '\0', text.n)) { /* jansson overlooks one behind a number */
        snprintf(why->text, sizeof why->text, "holds a NUL byte");
        return LUA_JSON_NOT_JSON;
    }
    struct lua_box *box = lua_box_push(L, 0); /* stack: box */
    int at = lua_gettop(L);
    json_error_t e;
    box->tree = json_loadb(text.p ? text.p : "", text.n,
                           JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
    if (!box->tree) {
        lua_box_pop(L);
        snprintf(why->text, sizeof why->text, "line %d column %d: %s", e.line, e.column, e.text);
        return classify(&e);
    }
    if (too_deep(box->tree, 0)) {
        lua_box_pop(L);
        snprintf(why->text, sizeof why->text, "nested deeper than %d levels", LUA_JSON_DEPTH_MAX);
        return LUA_JSON_REFUSED;
    }
    push_tree(L, box->tree, 0); /* stack: box, value */
    lua_closeslot(L, at);
    lua_remove(L, at); /* stack: value */
    return LUA_JSON_OK;
}

/* json.decode(text) -> value, or nil and what is wrong */
static int l_decode(lua_State *L)
{
    struct slice text;
    text.p = luaL_checklstring(L, 1, &text.n);
    struct lua_json_error why;
    if (lua_json_decode(L, text, &why) == LUA_JSON_OK) {
        return 1;
    }
    lua_pushnil(L);
    lua_pushfstring(L, "not JSON: %s", why.text);
    return 2;
}

/* json.encode(value) -> text */
static int l_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    struct lua_box *box = lua_box_push(L, LUA_JSON_DECODE_MAX_BYTES);
    lua_json_encode(L, 1, "value", LUA_JSON_ANY, &box->text);
    lua_pushlstring(L, box->text.data, box->text.len);
    return 1;
}

/* json.array(t) -> t, encoded as an array even when empty */
static int l_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (lua_json_is_array(L, 1)) {
        return 1;
    }
    if (lua_getmetatable(L, 1)) {
        return luaL_argerror(L, 1, "a table without a metatable was expected");
    }
    lua_json_mark_array(L);
    return 1;
}

void lua_json_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"decode", l_decode}, {"encode", l_encode}, {"array", l_array}, {NULL, NULL}};
    luaL_newlib(L, functions);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
}
