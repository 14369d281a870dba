#include "lua/load/lua_format_spec.h"

#include "base/alloc.h"
#include "base/text/json_text.h"
#include "base/utf8.h"
#include "filter/format_values.h"
#include "lua/api/lua_json.h"
#include "lua/vm/lua_secret.h"
#include "lua/vm/lua_shape.h"

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

static struct format_rules *lua_format_spec_edit(struct format_spec *spec)
{
    if (!spec->edit) {
        spec->edit = format_rules_new();
    }
    return spec->edit;
}

static void add(lua_State *L, const char *what, struct format_spec *spec,
                const struct format_rule *rule)
{
    struct err e;
    if (format_rules_add(lua_format_spec_edit(spec), rule, &e)) {
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
    if (type != LUA_TTABLE) {
        luaL_error(L, "%s.%s: %s was expected, got %s", what, name, expected,
                   lua_typename(L, type));
    }
    return true;
}

/* `text`: see struct format_rule. */
static bool read_paths(lua_State *L, int idx, const char *what, const char *name,
                       enum format_rules_rule kind, struct slice text, struct format_spec *spec)
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
        struct format_rule rule = {
            .kind = kind, .path = lua_shape_string(L, -1, place), .text = text};
        add(L, place, spec, &rule);
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
            luaL_error(L, "%s: texts were expected as keys, got a %s", place, luaL_typename(L, -1));
        }
        bool after = lua_isnil(L, last) || lua_compare(L, last, -1, LUA_OPLT);
        if (after && (lua_isnil(L, last + 1) || lua_compare(L, -1, last + 1, LUA_OPLT))) {
            lua_pushvalue(L, -1);
            lua_replace(L, last + 1);
        }
    }
    lua_remove(L, last);
}

/* Reads one entry of a table: `key`, and the value on top. */
typedef void (*lua_format_entry)(lua_State *L, const char *place, struct slice key,
                                 struct format_spec *spec);

static void lua_format_spec_read_map(lua_State *L, int idx, const char *what, const char *name,
                                     const char *expected, lua_format_entry read,
                                     struct format_spec *spec)
{
    char place[WHAT_MAX];
    snprintf(place, sizeof place, "%s.%s", what, name);
    if (!lua_format_spec_push_table(L, idx, what, name, expected)) {
        return;
    }
    int t = lua_gettop(L);
    lua_pushnil(L);
    for (next_key(L, t, place); !lua_isnil(L, -1); next_key(L, t, place)) {
        struct slice key = lua_shape_string(L, -1, place);
        lua_pushvalue(L, -1);
        lua_rawget(L, t);
        read(L, place, key, spec);
        lua_pop(L, 1);
    }
    lua_settop(L, t - 1);
}

/* The scalar on top as JSON, in the scratch buffer. */
static struct slice lua_format_spec_scalar(lua_State *L, const char *place, struct slice key,
                                           struct format_spec *spec)
{
    int type = lua_type(L, -1);
    if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN) {
        luaL_error(L, "%s: '%s': a string, number or boolean was expected, got %s", place, key.p,
                   lua_typename(L, type));
    }
    strbuf_reset(&spec->scratch);
    lua_json_encode(L, -1, place, LUA_JSON_ANY, &spec->scratch);
    return strbuf_slice(&spec->scratch);
}

static void read_mask(lua_State *L, const char *place, struct slice path, struct format_spec *spec)
{
    struct format_rule rule = {FORMAT_RULES_MASK, path,
                               lua_format_spec_scalar(L, place, path, spec), 0};
    add(L, place, spec, &rule);
}

static unsigned lua_format_spec_count(lua_State *L, const char *place, struct slice path,
                                      lua_Integer least, lua_Integer most)
{
    int whole = 0;
    lua_Integer n = lua_tointegerx(L, -1, &whole);
    if (lua_type(L, -1) != LUA_TNUMBER || !whole || n < least || n > most) {
        luaL_error(L, "%s: '%s': an integer from %d to %d was expected, got %s", place, path.p,
                   (int)least, (int)most, luaL_tolstring(L, -1, NULL));
    }
    return (unsigned)n;
}

static void read_round(lua_State *L, const char *place, struct slice path, struct format_spec *spec)
{
    struct format_rule rule = {.kind = FORMAT_RULES_ROUND, .path = path};
    rule.n = lua_format_spec_count(L, place, path, 0, FORMAT_DECIMALS_MAX);
    add(L, place, spec, &rule);
}

static void read_cut(lua_State *L, const char *place, struct slice path, struct format_spec *spec)
{
    struct format_rule rule = {.kind = FORMAT_RULES_CUT, .path = path};
    rule.n = lua_format_spec_count(L, place, path, 0, FORMAT_CUT_MAX);
    add(L, place, spec, &rule);
}

static void read_rename(lua_State *L, const char *place, struct slice path,
                        struct format_spec *spec)
{
    struct format_rule rule = {FORMAT_RULES_RENAME, path, lua_shape_string(L, -1, place), 0};
    add(L, place, spec, &rule);
}

/* "$name" is a member of params, "$$name" the text "$name". */
static void read_set(lua_State *L, const char *place, struct slice name, struct format_spec *spec)
{
    struct err e;
    struct slice value = lua_format_spec_scalar(L, place, name, spec);
    bool dollar = value.n > 2 && value.p[0] == '"' && value.p[1] == '$';
    bool of_params = dollar && value.p[2] != '$';
    if (of_params) {
        size_t n;
        const char *text = lua_tolstring(L, -1, &n);
        value = slice_of(text + 1, n - 1);
        if (value.n == 0) {
            luaL_error(
                L, "%s: '%s': the name of a param was expected behind $; \"$$\" is the text \"$\"",
                place, name.p);
        }
    } else if (dollar) {
        spec->scratch.data[1] = '"';
        value = slice_of(value.p + 1, value.n - 1);
    }
    if (format_rules_set(lua_format_spec_edit(spec), name, value, of_params, &e)) {
        luaL_error(L, "%s: '%s': %s", place, name.p, e.text);
    }
}

static void lua_format_spec_read_hash(lua_State *L, int idx, const char *what,
                                      struct format_spec *spec)
{
    char place[WHAT_MAX];
    struct slice key = {NULL, 0};
    snprintf(place, sizeof place, "%s.hash_key", what);
    bool has_key = lua_shape_field(L, idx, "hash_key") != LUA_TNIL;
    if (has_key) {
        key = lua_secret_or_string(L, -1, place);
        if (key.n < FORMAT_HASH_KEY_MIN_BYTES || key.n > FORMAT_HASH_KEY_MAX_BYTES) {
            luaL_error(L, "%s: a secret of %d to %d bytes was expected, got %d bytes", place,
                       FORMAT_HASH_KEY_MIN_BYTES, FORMAT_HASH_KEY_MAX_BYTES, (int)key.n);
        }
    }
    bool hashes = read_paths(L, idx, what, "hash", FORMAT_RULES_HASH, key, spec);
    lua_pop(L, 1);
    if (hashes != has_key) {
        luaL_error(
            L,
            hashes
                ? "%s: hash wants hash_key, a secret: without one, who knows a value finds its hash"
                : "%s: hash_key is of no use without hash",
            what);
    }
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
    static const char *const keys[] = {"drop",   "keep", "mask",     "hash",  "round", "cut",
                                       "rename", "set",  "hash_key", "event", NULL};
    const struct slice none = {NULL, 0};
    luaL_checkstack(L, 12, NULL);
    lua_shape_closed(L, idx, what, keys);
    bool drops = read_paths(L, idx, what, "drop", FORMAT_RULES_DROP, none, spec);
    if (read_paths(L, idx, what, "keep", FORMAT_RULES_KEEP, none, spec) && drops) {
        luaL_error(L, "%s: drop and keep exclude each other: what is not kept is dropped", what);
    }
    lua_format_spec_read_map(L, idx, what, "mask", "a table {path = replacement}", read_mask, spec);
    lua_format_spec_read_hash(L, idx, what, spec);
    lua_format_spec_read_map(L, idx, what, "round", "a table {path = decimals}", read_round, spec);
    lua_format_spec_read_map(L, idx, what, "cut", "a table {path = characters}", read_cut, spec);
    lua_format_spec_read_map(L, idx, what, "rename", "a table {path = new name}", read_rename,
                             spec);
    lua_format_spec_read_map(L, idx, what, "set", "a table {name = value}", read_set, spec);
    lua_format_spec_read_event(L, idx, what, spec);
}

bool lua_format_spec_reads_params(const struct format_spec *spec)
{
    struct slice name;
    return spec->edit && format_rules_param(spec->edit, 0, &name);
}

int lua_format_spec_bind(const struct format_spec *spec, struct slice params, struct err *e)
{
    struct slice name, value;
    for (unsigned i = 0; spec->edit && format_rules_param(spec->edit, i, &name); i++) {
        if (!json_text_member(params, name, &value) || *value.p == '{' || *value.p == '[') {
            return err_set(
                e, UV_EINVAL,
                "set reads $%.*s, but params has no text, number or boolean of that name",
                (int)name.n, name.p);
        }
    }
    return 0;
}

void lua_format_spec_reads(const struct format_spec *spec, struct param_reads *reads)
{
    struct slice name;
    for (unsigned i = 0; format_rules_param(spec->edit, i, &name); i++) {
        param_reads_add(reads, name);
    }
}

enum format_result lua_format_spec_apply(const struct format_spec *spec, struct event *ev,
                                         struct slice params, struct formatted *out, struct err *e)
{
    struct slice data = event_data(ev);
    int rc = spec->edit ? format_rules_apply(spec->edit, data, params, &out->data, e)
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
