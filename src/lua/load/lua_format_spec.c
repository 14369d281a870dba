#include "lua/load/lua_format_spec.h"

#include "base/alloc.h"
#include "base/utf8.h"
#include "lua/api/lua_json.h"
#include "lua/api/lua_shape.h"
#include "lua/vm/lua_readonly.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

enum { REPLACEMENT_MAX_BYTES = 1024, WHAT_MAX = 160 };

struct format_spec *lua_format_spec_new(void)
{
    struct format_spec *spec = xcalloc(1, sizeof *spec);
    strbuf_init(&spec->scratch, REPLACEMENT_MAX_BYTES);
    return spec;
}

void lua_format_spec_free(struct format_spec *spec)
{
    if (spec) {
        format_rules_free(spec->edit);
        strbuf_clear(&spec->scratch);
        free(spec);
    }
}

static void add(lua_State *L, const char *what, struct format_spec *spec,
                enum format_rules_rule rule, struct slice path, struct slice replacement)
{
    struct err e;
    if (!spec->edit) {
        spec->edit = format_rules_new();
    }
    if (format_rules_add(spec->edit, rule, path, replacement, &e)) {
        luaL_error(L, "%s: %s", what, e.text);
    }
}

/* Pushes the table `name` of the spec, without a view around it. False: there is none. */
static bool lua_format_spec_push_table(lua_State *L, int idx, const char *what, const char *name,
                                       const char *expected)
{
    int type = lua_shape_field(L, idx, name);
    if (type == LUA_TNIL) {
        lua_pop(L, 1);
        return false;
    }
    if (lua_readonly_real(L, -1)) {
        lua_replace(L, -2);
    }
    if (type != LUA_TTABLE) {
        luaL_error(L, "%s.%s: %s was expected, got %s", what, name, expected,
                   lua_typename(L, type));
    }
    return true;
}

static bool read_paths(lua_State *L, int idx, const char *what, const char *name,
                       enum format_rules_rule rule, struct format_spec *spec)
{
    char place[WHAT_MAX];
    snprintf(place, sizeof place, "%s.%s", what, name);
    if (!lua_format_spec_push_table(L, idx, what, name, "a list of paths")) {
        return false;
    }
    int list = lua_gettop(L);
    lua_Integer n = (lua_Integer)lua_rawlen(L, list), pairs = 0;
    lua_pushnil(L);
    while (lua_next(L, list)) {
        lua_pop(L, 1);
        pairs++;
    }
    if (n == 0 || n != pairs) {
        luaL_error(L, "%s: a list of at least one path was expected", place);
    }
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, list, i);
        add(L, place, spec, rule, lua_shape_string(L, -1, place), slice_of(NULL, 0));
        lua_pop(L, 1);
    }
    lua_settop(L, list - 1);
    return true;
}

/* Pushes the least key of the table at `t` above the one on top (nil: of all); in an order that
 * does not depend on the run. Pops the old one; pushes nil when there is none left. */
static void next_key(lua_State *L, int t, const char *place)
{
    int last = lua_gettop(L);
    lua_pushnil(L); /* stack: last, best */
    lua_pushnil(L);
    while (lua_next(L, t)) {
        lua_pop(L, 1); /* stack: last, best, key */
        if (lua_type(L, -1) != LUA_TSTRING) {
            luaL_error(L, "%s: paths were expected as keys, got a %s", place, luaL_typename(L, -1));
        }
        bool after = lua_isnil(L, last) || lua_compare(L, last, -1, LUA_OPLT);
        if (after && (lua_isnil(L, last + 1) || lua_compare(L, -1, last + 1, LUA_OPLT))) {
            lua_pushvalue(L, -1);
            lua_replace(L, last + 1);
        }
    }
    lua_remove(L, last);
}

static void read_masks(lua_State *L, int idx, const char *what, struct format_spec *spec)
{
    char place[WHAT_MAX];
    snprintf(place, sizeof place, "%s.mask", what);
    if (!lua_format_spec_push_table(L, idx, what, "mask", "a table {path = replacement}")) {
        return;
    }
    int t = lua_gettop(L);
    lua_pushnil(L);
    for (next_key(L, t, place); !lua_isnil(L, -1); next_key(L, t, place)) {
        struct slice path = lua_shape_string(L, -1, place);
        lua_pushvalue(L, -1);
        int type = lua_rawget(L, t);
        if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN) {
            luaL_error(L, "%s: '%s': a string, number or boolean was expected, got %s", place,
                       path.p, lua_typename(L, type));
        }
        strbuf_reset(&spec->scratch);
        lua_json_encode(L, -1, place, LUA_JSON_ANY, &spec->scratch);
        add(L, place, spec, FORMAT_RULES_MASK, path, strbuf_slice(&spec->scratch));
        lua_pop(L, 1);
    }
    lua_settop(L, t - 1);
}

static void lua_format_spec_read_event(lua_State *L, int idx, const char *what,
                                       struct format_spec *spec)
{
    char place[WHAT_MAX];
    snprintf(place, sizeof place, "%s.event", what);
    if (lua_shape_field(L, idx, "event") != LUA_TNIL) {
        struct slice name = lua_shape_string(L, -1, place);
        if (name.n == 0 || name.n > EVENT_TYPE_MAX_BYTES || memchr(name.p, '\n', name.n) ||
            memchr(name.p, '\r', name.n) || memchr(name.p, '\0', name.n) || !utf8_ok(name)) {
            luaL_error(L, "%s: one line of 1 to %d bytes was expected", place,
                       EVENT_TYPE_MAX_BYTES);
        }
        memcpy(spec->event, name.p, name.n);
    }
    lua_pop(L, 1);
}

void lua_format_spec_read(lua_State *L, int idx, const char *what, struct format_spec *spec)
{
    static const char *const keys[] = {"drop", "keep", "mask", "event", NULL};
    luaL_checkstack(L, 12, NULL);
    lua_shape_closed(L, idx, what, keys);
    bool drops = read_paths(L, idx, what, "drop", FORMAT_RULES_DROP, spec);
    if (read_paths(L, idx, what, "keep", FORMAT_RULES_KEEP, spec) && drops) {
        luaL_error(L, "%s: drop and keep exclude each other: what is not kept is dropped", what);
    }
    read_masks(L, idx, what, spec);
    lua_format_spec_read_event(L, idx, what, spec);
}

enum format_result lua_format_spec_apply(const struct format_spec *spec, struct event *ev,
                                         struct formatted *out, struct err *e)
{
    struct slice data = event_data(ev);
    int rc = spec->edit ? format_rules_apply(spec->edit, data, &out->data, e)
                        : strbuf_append(&out->data, data.p, data.n);
    if (rc && !spec->edit) {
        err_set(e, rc, "the data is longer than %zu bytes, or memory is short", out->data.max);
    }
    if (rc == 0) {
        rc = strbuf_append_str(&out->event, spec->event);
        if (rc) { /* the name was checked */
            err_set(e, rc, "memory is short");
        }
    }
    return format_result_of(rc);
}
