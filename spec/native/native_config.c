/* config.c through its contract, and lua_config.c with schemas of the spec's own. */
#include "config/config.h"
#include "config/lua_config.h"
#include "native.h"

#include <stdlib.h>

enum { PROBLEMS_MAX_BYTES = 1 << 20, LISTEN_MAX = 8 };

/* Pushes the outcome of a load, given what to push on success: settings | nil, problems, rc */
static int push_failure(lua_State *L, int rc, struct strbuf *problems)
{
    struct slice text = strbuf_slice(problems);
    lua_pushnil(L);
    lua_pushlstring(L, text.p, text.n);
    lua_pushinteger(L, rc);
    strbuf_clear(problems);
    return 3;
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, int64_t i)
{
    lua_pushinteger(L, i);
    lua_setfield(L, -2, name);
}

/* settings = { "name type text [items, with commas between]", ... } */
static void push_policy_settings(lua_State *L, const struct config *c)
{
    lua_newtable(L);
    for (size_t i = 0; i < c->policy.settings.n; i++) {
        const struct policy_setting *s = &c->policy.settings.v[i];
        luaL_Buffer b;
        luaL_buffinit(L, &b);
        lua_pushfstring(L, "%s %s %s", s->name, s->type, s->text);
        luaL_addvalue(&b);
        for (size_t k = 0; k < s->items.n; k++) {
            luaL_addstring(&b, k ? "," : " [");
            luaL_addstring(&b, s->items.v[k]);
        }
        luaL_addstring(&b, s->items.n ? "]" : "");
        luaL_pushresult(&b);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "settings");
}

static void push_settings(lua_State *L, const struct config *c)
{
    lua_newtable(L);
    lua_newtable(L);
    for (size_t i = 0; i < c->listen.n; i++) {
        lua_pushstring(L, c->listen.v[i].address);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "listen");
    set_text(L, "admin", c->admin);
    set_text(L, "store_path", c->store.path);
    set_text(L, "policy_file", c->policy.file);
    set_text(L, "on_lag", c->sse.on_lag);
    set_text(L, "prime", c->sse.prime);
    set_integer(L, "heartbeat_s", c->sse.heartbeat_s);
    set_integer(L, "retain_age_s", c->store.retain_age_s);
    set_integer(L, "drain_timeout_s", c->drain.timeout_s);
    set_integer(L, "cors_origins", (int64_t)c->http.cors_origins.n);
    lua_pushboolean(L, c->http.page);
    lua_setfield(L, -2, "page");
    push_policy_settings(L, c);
}

static const char *field(lua_State *L, const char *name)
{
    lua_getfield(L, 2, name);
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1); /* the table keeps it alive */
    return text;
}

/* Of the table at 2; it keeps the texts. */
static size_t read_list(lua_State *L, const char *name, const char *out[LISTEN_MAX])
{
    size_t n = 0;
    if (lua_getfield(L, 2, name) == LUA_TTABLE) {
        while (n < LISTEN_MAX && lua_rawgeti(L, -1, (lua_Integer)n + 1) == LUA_TSTRING) {
            out[n++] = lua_tostring(L, -1);
            lua_pop(L, 1);
        }
    }
    lua_settop(L, 2);
    return n;
}

/* load(path[, { listen = {...}, admin = , store = , policy = , settings = {...} }]) */
static int l_load(lua_State *L)
{
    struct config c;
    struct strbuf problems;
    struct config_overrides o = {0};
    const char *listen[LISTEN_MAX], *settings[LISTEN_MAX];
    const char *path = luaL_checkstring(L, 1);
    lua_settop(L, 2);
    if (lua_istable(L, 2)) {
        o = (struct config_overrides){.listen = listen,
                                      .admin = field(L, "admin"),
                                      .store = field(L, "store"),
                                      .policy = field(L, "policy"),
                                      .settings = settings};
        o.listen_count = read_list(L, "listen", listen);
        o.setting_count = read_list(L, "settings", settings);
    }
    strbuf_init(&problems, PROBLEMS_MAX_BYTES);
    int rc = config_load(&c, path, &o, &problems);
    if (rc) {
        return push_failure(L, rc, &problems);
    }
    push_settings(L, &c);
    config_clear(&c);
    strbuf_clear(&problems);
    return 1;
}

static int l_reference(lua_State *L)
{
    struct strbuf out;
    strbuf_init(&out, PROBLEMS_MAX_BYTES);
    int rc = config_reference(&out);
    struct slice text = strbuf_slice(&out);
    lua_pushlstring(L, text.p, text.n);
    lua_pushinteger(L, rc);
    strbuf_clear(&out);
    return 2;
}

struct pair {
    int64_t number;
    char *text;
};

/* load_pair(path, schema): a struct of { number, text } against a schema of the spec's own */
static int l_load_pair(lua_State *L)
{
    static const struct lua_config_key keys[] = {
        {"number", LUA_CONFIG_INTEGER, offsetof(struct pair, number), 0, NULL},
        {"text", LUA_CONFIG_TEXT, offsetof(struct pair, text), 0, NULL}};
    struct pair pair;
    struct strbuf problems;
    struct lua_config_spec spec = {
        .schema = slice_str(luaL_checkstring(L, 2)), .keys = keys, .key_count = 2};
    strbuf_init(&problems, PROBLEMS_MAX_BYTES);
    int rc = lua_config_load(&spec, luaL_checkstring(L, 1), NULL, 0, &pair, &problems, NULL);
    if (rc) {
        return push_failure(L, rc, &problems);
    }
    lua_newtable(L);
    set_integer(L, "number", pair.number);
    set_text(L, "text", pair.text);
    lua_config_clear(&spec, &pair);
    strbuf_clear(&problems);
    return 1;
}

struct thing {
    char *name, *label;
    int64_t size;
    char **items;
    size_t item_count;
};

struct things {
    struct thing *v;
    size_t n;
};

static void push_thing(lua_State *L, const struct thing *t)
{
    lua_newtable(L);
    set_text(L, "name", t->name);
    set_text(L, "label", t->label);
    set_integer(L, "size", t->size);
    lua_newtable(L);
    for (size_t i = 0; i < t->item_count; i++) {
        lua_pushstring(L, t->items[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "items");
}

/* load_map(path, schema): a map "things" of { size, label, items } against a schema of the spec's
 * own */
static int l_load_map(lua_State *L)
{
    static const struct lua_config_key fields[] = {
        {"size", LUA_CONFIG_INTEGER, offsetof(struct thing, size), 0, NULL},
        {"label", LUA_CONFIG_TEXT, offsetof(struct thing, label), 0, NULL},
        {"items", LUA_CONFIG_LIST, offsetof(struct thing, items),
         offsetof(struct thing, item_count), NULL}};
    static const struct lua_config_entry entry = {sizeof(struct thing),
                                                  offsetof(struct thing, name), fields, 3};
    static const struct lua_config_key map = {"things", LUA_CONFIG_MAP, offsetof(struct things, v),
                                              offsetof(struct things, n), &entry};
    struct things things;
    struct strbuf problems;
    struct lua_config_spec spec = {
        .schema = slice_str(luaL_checkstring(L, 2)), .keys = &map, .key_count = 1};
    strbuf_init(&problems, PROBLEMS_MAX_BYTES);
    int rc = lua_config_load(&spec, luaL_checkstring(L, 1), NULL, 0, &things, &problems, NULL);
    if (rc) {
        return push_failure(L, rc, &problems);
    }
    lua_newtable(L);
    for (size_t i = 0; i < things.n; i++) {
        push_thing(L, &things.v[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_config_clear(&spec, &things);
    strbuf_clear(&problems);
    return 1;
}

/* setenv(name[, value]); without a value it is unset */
static int l_setenv(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const char *value = luaL_optstring(L, 2, NULL);
    lua_pushinteger(L, value ? setenv(name, value, 1) : unsetenv(name));
    return 1;
}

int native_open_config(lua_State *L)
{
    static const luaL_Reg functions[] = {{"load", l_load},         {"load_pair", l_load_pair},
                                         {"load_map", l_load_map}, {"reference", l_reference},
                                         {"setenv", l_setenv},     {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
