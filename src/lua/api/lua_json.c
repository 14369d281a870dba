#include "lua/api/lua_json.h"

#include "base/text/json_text.h"
#include "event/topic.h"
#include "lua/api/lua_request.h"
#include "lua/vm/lua_box.h"
#include "lua/vm/lua_readonly.h"
#include "lua/vm/lua_secret.h"
#include "lua/vm/lua_vm.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

/* ---------------------------------------------------------------- text -> values */

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

/* ---------------------------------------------------------------- values -> text
 *
 * What formats return and json.encode() makes. Arrays are told from objects by the mark that decoding
 * and json.array() leave. */

/* Where in the value the encoder stands. Keys point into Lua strings that the table being walked
 * keeps alive. */
struct step {
    const char *key; /* NULL: an array index */
    lua_Integer index;
};

struct encoder {
    lua_State *L;
    struct strbuf *out;
    const char *root;
    enum lua_json_shape shape;
    unsigned depth;
    struct step path[LUA_JSON_DEPTH_MAX];
};

static int lua_json_encode_refuse(const struct encoder *e, const char *what)
{
    char where[256];
    int n = snprintf(where, sizeof where, "%s", e->root);
    for (unsigned i = 0; i < e->depth && n >= 0 && (size_t)n < sizeof where; i++) {
        const struct step *s = &e->path[i];
        size_t room = sizeof where - (size_t)n;
        n += s->key ? snprintf(where + n, room, ".%s", s->key)
                    : snprintf(where + n, room, "[" LUA_INTEGER_FMT "]", s->index);
    }
    return luaL_error(e->L, "%s: %s", where, what);
}

static void lua_json_encode_check(const struct encoder *e, int rc)
{
    if (rc == UV_ENOBUFS) {
        luaL_error(e->L, "%s: longer than %I bytes of JSON", e->root, (LUAI_UACINT)e->out->max);
    } else if (rc) {
        luaL_error(e->L, "%s: not enough memory", e->root);
    }
}

static void lua_json_encode_put(const struct encoder *e, const char *p, size_t n)
{
    lua_json_encode_check(e, strbuf_append(e->out, p, n));
}

static void put_string(const struct encoder *e, int idx)
{
    struct slice s;
    s.p = lua_tolstring(e->L, idx, &s.n);
    if (!utf8_ok(s)) {
        lua_json_encode_refuse(e, "a string that is not UTF-8 has no JSON form");
    }
    lua_json_encode_check(e, json_text_quote(e->out, s));
}

/* The shortest text that reads back as the same number. */
static void lua_json_encode_put_number(const struct encoder *e, int idx)
{
    char text[40];
    int n = 0;
    if (lua_isinteger(e->L, idx)) {
        n = snprintf(text, sizeof text, LUA_INTEGER_FMT, lua_tointeger(e->L, idx));
        lua_json_encode_put(e, text, (size_t)n);
        return;
    }
    double d = lua_tonumber(e->L, idx);
    if (!isfinite(d)) {
        lua_json_encode_refuse(e, isnan(d) ? "NaN has no JSON form"
                                           : "an infinite number has no JSON form");
    }
    for (int precision = 15; precision <= 17; precision++) {
        n = snprintf(text, sizeof text, "%.*g", precision, d);
        if (strtod(text, NULL) == d) {
            break;
        }
    }
    lua_json_encode_put(e, text, (size_t)n);
    if (!strpbrk(text, ".e")) {
        lua_json_encode_put(e, ".0", 2); /* stays a float when read back */
    }
}

static void lua_json_encode_put_value(struct encoder *e, int idx);

static struct step *lua_json_encode_enter(struct encoder *e)
{
    if (e->depth == LUA_JSON_DEPTH_MAX) {
        luaL_error(e->L, "%s: nested deeper than %d levels (does a table contain itself?)", e->root,
                   LUA_JSON_DEPTH_MAX);
    }
    luaL_checkstack(e->L, 8, "JSON");
    return &e->path[e->depth++];
}

static void put_array(struct encoder *e, int t)
{
    lua_State *L = e->L;
    lua_Integer n = (lua_Integer)lua_rawlen(L, t);
    struct step *at = lua_json_encode_enter(e);
    lua_json_encode_put(e, "[", 1);
    for (lua_Integer i = 1; i <= n; i++) {
        *at = (struct step){.index = i};
        if (i > 1) {
            lua_json_encode_put(e, ",", 1);
        }
        lua_rawgeti(L, t, i);
        lua_json_encode_put_value(e, lua_gettop(L));
        lua_pop(L, 1);
    }
    lua_json_encode_put(e, "]", 1);
    e->depth--;
}

static int compare_keys(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    int c = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    return c ? c : (x->n > y->n) - (x->n < y->n);
}

/* Pushes a userdata with the sorted keys of the table at `t`, all strings. */
static struct slice *push_sorted_keys(struct encoder *e, int t, size_t count)
{
    lua_State *L = e->L;
    struct slice *keys = lua_newuserdatauv(L, (count ? count : 1) * sizeof *keys, 0);
    size_t n = 0;
    lua_pushnil(L);
    while (lua_next(L, t)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING) {
            lua_json_encode_refuse(
                e, "the keys of an object must be strings (and a list has no holes)");
        }
        keys[n].p = lua_tolstring(L, -1, &keys[n].n);
        if (memchr(keys[n].p, '\0', keys[n].n)) {
            lua_json_encode_refuse(e, "a key with a NUL byte has no JSON form");
        }
        n++;
    }
    qsort(keys, n, sizeof *keys, compare_keys);
    return keys;
}

static void lua_json_encode_put_object(struct encoder *e, int t, size_t count)
{
    lua_State *L = e->L;
    struct slice *keys = push_sorted_keys(e, t, count); /* stack: keys */
    struct step *at = lua_json_encode_enter(e);
    lua_json_encode_put(e, "{", 1);
    for (size_t i = 0; i < count; i++) {
        *at = (struct step){.key = keys[i].p};
        if (i) {
            lua_json_encode_put(e, ",", 1);
        }
        lua_pushlstring(L, keys[i].p, keys[i].n); /* stack: keys, key */
        put_string(e, lua_gettop(L));
        lua_json_encode_put(e, ":", 1);
        lua_rawget(L, t); /* stack: keys, value */
        lua_json_encode_put_value(e, lua_gettop(L));
        lua_pop(L, 1);
    }
    lua_json_encode_put(e, "}", 1);
    lua_pop(L, 1);
    e->depth--;
}

/* How many pairs, and are they exactly 1..n? */
static size_t lua_json_encode_count_pairs(lua_State *L, int t, bool *is_list)
{
    size_t n = 0;
    lua_Integer most = (lua_Integer)lua_rawlen(L, t);
    *is_list = true;
    lua_pushnil(L);
    while (lua_next(L, t)) {
        lua_pop(L, 1);
        n++;
        lua_Integer i = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        *is_list = *is_list && i >= 1 && i <= most;
    }
    *is_list = *is_list && n == (size_t)most;
    return n;
}

static void put_table(struct encoder *e, int idx)
{
    lua_State *L = e->L;
    if (!lua_readonly_real(L, idx)) {
        lua_request_complete(L, idx);
        lua_pushvalue(L, idx);
    }
    int t = lua_gettop(L); /* stack: the real table */
    bool is_list;
    size_t n = lua_json_encode_count_pairs(L, t, &is_list);
    bool marked = lua_json_is_array(L, t);
    if (e->shape != LUA_JSON_ANY) {
        bool want_list = e->depth == 1 && e->shape == LUA_JSON_OBJECT_OF_LISTS;
        if (e->depth > 0 && !want_list) {
            lua_json_encode_refuse(e, "a string, number or boolean was expected, got a table");
        }
        if (want_list && !is_list) {
            lua_json_encode_refuse(e,
                                   "a list (keys 1..n) was expected, got a table with other keys");
        }
        is_list = want_list;
    } else {
        if (marked && !is_list) {
            lua_json_encode_refuse(e, "a json.array with holes or other keys has no JSON form");
        }
        is_list = marked || (is_list && n > 0);
    }
    if (is_list) {
        put_array(e, t);
    } else {
        lua_json_encode_put_object(e, t, n);
    }
    lua_pop(L, 1);
}

static void lua_json_encode_put_value(struct encoder *e, int idx)
{
    lua_State *L = e->L;
    char text[96];
    lua_vm_poll(L); /* one huge table without pairs, many times over, writes next to nothing */
    switch (lua_type(L, idx)) {
    case LUA_TSTRING:
        put_string(e, idx);
        return;
    case LUA_TNUMBER:
        lua_json_encode_put_number(e, idx);
        return;
    case LUA_TBOOLEAN:
        lua_json_encode_put(e, lua_toboolean(L, idx) ? "true" : "false",
                            lua_toboolean(L, idx) ? 4 : 5);
        return;
    case LUA_TTABLE:
        put_table(e, idx);
        return;
    case LUA_TLIGHTUSERDATA:
        if (e->shape == LUA_JSON_ANY && !lua_touserdata(L, idx)) {
            lua_json_encode_put(e, "null", 4);
            return;
        }
        break;
    default:
        break;
    }
    snprintf(text, sizeof text,
             e->shape == LUA_JSON_ANY ? "a %s has no JSON form"
                                      : "a string, number or boolean was expected, got a %s",
             lua_islightuserdata(L, idx) ? "json.null" : lua_secret_typename(L, idx));
    lua_json_encode_refuse(e, text);
}

void lua_json_encode(lua_State *L, int idx, const char *root, enum lua_json_shape shape,
                     struct strbuf *out)
{
    struct encoder e = {.L = L, .out = out, .root = root, .shape = shape};
    idx = lua_absindex(L, idx);
    luaL_checkstack(L, 8, "JSON");
    if (shape != LUA_JSON_ANY && lua_type(L, idx) != LUA_TTABLE) {
        luaL_error(L, "%s: a table was expected, got %s", root, luaL_typename(L, idx));
    }
    lua_json_encode_put_value(&e, idx);
}

/* ---------------------------------------------------------------- the library of policies */

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
