/* filter/: filter texts and format rules. */
#include "filter/filter.h"
#include "filter/format_rules.h"
#include "native.h"
#include "native_policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static const char set_class[] = "native.filter_set";
static const char args_class[] = "native.filter_args";

struct set_box {
    struct filter_set *set;
    struct value_slot slots[FILTER_SETS_MAX];
    char *names[FILTER_SETS_MAX]; /* owned */
    size_t slot_count;
};

struct args_box {
    struct filter_args *args; /* the user value is the set: finalizers run in reverse order */
};

static struct slice check_slice(lua_State *L, int arg)
{
    size_t n;
    const char *p = luaL_checklstring(L, arg, &n);
    return slice_of(p, n);
}

static int l_new(lua_State *L)
{
    struct set_box *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct set_box){.set = filter_set_new()};
    luaL_setmetatable(L, set_class);
    return 1;
}

static int l_set_gc(lua_State *L)
{
    struct set_box *b = luaL_checkudata(L, 1, set_class);
    filter_set_free(b->set);
    b->set = NULL;
    for (size_t i = 0; i < b->slot_count; i++) {
        value_set_free((struct value_set *)(uintptr_t)b->slots[i].values);
        free(b->names[i]);
    }
    b->slot_count = 0;
    return 0;
}

static struct filter_value scalar_at(lua_State *L, int arg)
{
    struct filter_value v = {.type = FILTER_MISSING};
    if (lua_type(L, arg) == LUA_TSTRING) {
        v.type = FILTER_STRING;
        v.s.p = lua_tolstring(L, arg, &v.s.n);
    } else if (lua_isboolean(L, arg)) {
        v.type = FILTER_BOOLEAN;
        v.b = lua_toboolean(L, arg);
    } else if (lua_isinteger(L, arg)) {
        v.type = FILTER_INTEGER;
        v.i = lua_tointeger(L, arg);
    } else if (lua_isnumber(L, arg)) {
        v.type = FILTER_FLOAT;
        v.f = lua_tonumber(L, arg);
    }
    return v;
}

/* What is at 3: a list of scalars, or how many names there are. */
static int fill_values(lua_State *L, struct value_set *s, struct err *e)
{
    lua_Integer n = lua_isinteger(L, 3) ? lua_tointeger(L, 3) : (lua_Integer)lua_rawlen(L, 3);
    int rc = 0;
    for (lua_Integer i = 1; i <= n && rc == 0; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "user-%08lld", (long long)i);
        struct filter_value v = {.type = FILTER_STRING, .s = slice_str(name)};
        if (lua_istable(L, 3)) {
            lua_rawgeti(L, 3, i);
            v = scalar_at(L, -1);
        }
        rc = value_set_add(s, &v, e);
        lua_settop(L, 5);
    }
    return rc ? rc : value_set_seal(s, e);
}

/* set:values(name, values [, most values, most bytes]) -> how many, bytes, seconds; or nil, message.
 * Declares the set, or gives it other values: nil (none that may be trusted), a list of scalars, or a
 * number n: "user-00000001" to that of n. */
static int l_values(lua_State *L)
{
    struct set_box *b = luaL_checkudata(L, 1, set_class);
    const char *name = luaL_checkstring(L, 2);
    size_t i = 0;
    lua_settop(L, 5);
    while (i < b->slot_count && strcmp(b->names[i], name) != 0) {
        i++;
    }
    if (i == b->slot_count) {
        b->names[i] = strdup(name);
        b->slots[i].values = NULL;
        luaL_argcheck(L, filter_set_add_values(b->set, b->names[i]), 2, "too many");
        filter_set_bind_values(b->set, b->names[i], &b->slots[i]);
        b->slot_count++;
    }
    struct value_set *s = NULL;
    struct err e = {0};
    uint64_t start = uv_hrtime();
    if (!lua_isnil(L, 3)) {
        s = value_set_new((size_t)luaL_optinteger(L, 4, 1 << 24),
                          (size_t)luaL_optinteger(L, 5, 1 << 30));
        if (fill_values(L, s, &e)) {
            value_set_free(s);
            lua_pushnil(L);
            lua_pushstring(L, e.text);
            return 2;
        }
    }
    value_set_free((struct value_set *)(uintptr_t)b->slots[i].values);
    b->slots[i].values = s;
    lua_pushinteger(L, s ? (lua_Integer)value_set_count(s) : 0);
    lua_pushinteger(L, s ? (lua_Integer)value_set_bytes(s) : 0);
    lua_pushnumber(L, (double)(uv_hrtime() - start) / 1e9);
    return 3;
}

/* set:compile(text) -> program, or nil, message, line, column */
static int l_compile(lua_State *L)
{
    struct set_box *b = luaL_checkudata(L, 1, set_class);
    struct filter_error e;
    const struct filter *m = filter_compile(b->set, check_slice(L, 2), &e);
    if (!m) {
        lua_pushnil(L);
        lua_pushstring(L, e.text);
        lua_pushinteger(L, e.line);
        lua_pushinteger(L, e.column);
        return 4;
    }
    lua_pushlightuserdata(L, (void *)(uintptr_t)m);
    return 1;
}

/* set:bind(program [, params]) -> args, or nil, message */
static int l_bind(lua_State *L)
{
    struct set_box *set = luaL_checkudata(L, 1, set_class);
    struct slice params = lua_isnoneornil(L, 3) ? slice_of(NULL, 0) : check_slice(L, 3);
    struct err e = {0};
    (void)set;
    luaL_checktype(L, 2, LUA_TLIGHTUSERDATA);
    struct args_box *b = lua_newuserdatauv(L, sizeof *b, 1);
    b->args = NULL;
    luaL_setmetatable(L, args_class);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    b->args = filter_bind(lua_touserdata(L, 2), params, &e);
    if (!b->args) {
        lua_pushnil(L);
        lua_pushstring(L, e.text);
        return 2;
    }
    return 1;
}

static int l_args_gc(lua_State *L)
{
    struct args_box *b = luaL_checkudata(L, 1, args_class);
    filter_args_free(b->args);
    b->args = NULL;
    return 0;
}

/* args:test(event [, times]) -> boolean, seconds per call */
static int l_test(lua_State *L)
{
    struct args_box *b = luaL_checkudata(L, 1, args_class);
    struct event *ev = native_check_event(L, 2);
    lua_Integer times = luaL_optinteger(L, 3, 1);
    bool deliver = false;
    uint64_t start = uv_hrtime();
    for (lua_Integer i = 0; i < times; i++) {
        deliver = filter_test(b->args, ev);
    }
    lua_pushboolean(L, deliver);
    lua_pushnumber(L, (double)(uv_hrtime() - start) / 1e9 / (double)times);
    return 2;
}

/* args:explain(event [, most bytes]) -> boolean, text; or nil, code */
static int l_explain(lua_State *L)
{
    struct args_box *b = luaL_checkudata(L, 1, args_class);
    struct strbuf out;
    bool deliver = false;
    strbuf_init(&out, (size_t)luaL_optinteger(L, 3, 1 << 20));
    int rc = filter_explain(b->args, native_check_event(L, 2), &deliver, &out);
    if (rc) {
        lua_pushnil(L);
        lua_pushinteger(L, rc);
    } else {
        lua_pushboolean(L, deliver);
        lua_pushlstring(L, out.len ? out.data : "", out.len);
    }
    strbuf_clear(&out);
    return 2;
}

/* args:discriminator() -> attribute, {value as text, ..}; or nil */
static int l_discriminator(lua_State *L)
{
    struct args_box *b = luaL_checkudata(L, 1, args_class);
    struct filter_discriminator d = filter_discriminator(b->args);
    if (!d.attr.p) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushlstring(L, d.attr.p, d.attr.n);
    lua_newtable(L);
    for (size_t i = 0; i < d.count; i++) {
        struct strbuf text;
        strbuf_init(&text, 4096);
        bool ok = filter_value_print(&d.values[i], &text) == 0;
        lua_pushlstring(L, ok && text.len ? text.data : "", text.len);
        strbuf_clear(&text);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 2;
}

/* set:counts() -> mismatches, missing */
static int l_counts(lua_State *L)
{
    struct set_box *b = luaL_checkudata(L, 1, set_class);
    lua_pushinteger(L, (lua_Integer)filter_set_mismatches(b->set));
    lua_pushinteger(L, (lua_Integer)filter_set_missing(b->set));
    return 2;
}

/* set:refused() -> tests that were false because a set had no values */
static int l_refused(lua_State *L)
{
    struct set_box *b = luaL_checkudata(L, 1, set_class);
    lua_pushinteger(L, (lua_Integer)filter_set_refused(b->set));
    return 1;
}

static const char *add_rules(lua_State *L, struct format_rules *edit, struct err *e)
{
    static const char *const names[] = {"drop", "keep"};
    for (int kind = 0; kind < 2; kind++) {
        lua_getfield(L, 1, names[kind]);
        for (lua_Integer i = 1; lua_istable(L, -1) && lua_rawgeti(L, -1, i) == LUA_TSTRING; i++) {
            struct format_rule rule = {.kind = (enum format_rules_rule)kind,
                                       .path = check_slice(L, -1)};
            if (format_rules_add(edit, &rule, e)) {
                return e->text;
            }
            lua_pop(L, 1);
        }
        lua_settop(L, 3);
    }
    lua_getfield(L, 1, "mask");
    for (lua_Integer i = 1; lua_istable(L, -1) && lua_rawgeti(L, -1, i) == LUA_TTABLE; i++) {
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        struct format_rule rule = {FORMAT_RULES_MASK, check_slice(L, -2), check_slice(L, -1), 0};
        if (format_rules_add(edit, &rule, e)) {
            return e->text;
        }
        lua_pop(L, 3);
    }
    lua_settop(L, 3);
    return NULL;
}

/* edit({drop = {path, ..}, keep = {..}, mask = {{path, json}, ..}}, text [, most bytes]) -> text;
 * or nil, message, what the buffer holds */
static int l_edit(lua_State *L)
{
    struct format_rules *edit = format_rules_new();
    struct strbuf out;
    struct err e = {0};
    lua_settop(L, 3);
    strbuf_init(&out, (size_t)luaL_optinteger(L, 3, 1 << 20));
    const char *bad = add_rules(L, edit, &e);
    if (!bad && strbuf_append_str(&out, "<") == 0 &&
        format_rules_apply(edit, check_slice(L, 2), slice_of(NULL, 0), &out, &e)) {
        bad = e.text;
    }
    if (bad) {
        lua_pushnil(L);
        lua_pushstring(L, bad);
        lua_pushlstring(L, out.len ? out.data : "", out.len);
    } else {
        lua_pushlstring(L, out.data + 1, out.len - 1);
    }
    strbuf_clear(&out);
    format_rules_free(edit);
    return bad ? 3 : 1;
}

static void new_class(lua_State *L, const char *name, const luaL_Reg *methods)
{
    native_class(L, name, methods);
}

int native_open_filter(lua_State *L)
{
    static const luaL_Reg set_methods[] = {
        {"__gc", l_set_gc},   {"compile", l_compile}, {"bind", l_bind}, {"values", l_values},
        {"counts", l_counts}, {"refused", l_refused}, {NULL, NULL}};
    static const luaL_Reg args_methods[] = {{"__gc", l_args_gc},
                                            {"test", l_test},
                                            {"explain", l_explain},
                                            {"discriminator", l_discriminator},
                                            {NULL, NULL}};
    static const luaL_Reg functions[] = {{"new", l_new}, {"edit", l_edit}, {NULL, NULL}};
    new_class(L, set_class, set_methods);
    new_class(L, args_class, args_methods);
    luaL_newlib(L, functions);
    return 1;
}
