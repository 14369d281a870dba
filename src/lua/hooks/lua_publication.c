#include "lua/hooks/lua_publication.h"

#include "event/expiry.h"
#include "lua/api/lua_event.h"
#include "lua/api/lua_json.h"
#include "lua/vm/lua_box.h"
#include "lua/vm/lua_host.h"
#include "lua/vm/lua_shape.h"
#include "lua/vm/lua_vm.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <stdio.h>

/* What `pub` may be asked for, first what publish may return. */
enum { PUBLICATION_FIELDS = 8, PUBLICATION_NAMES };
static const char *const publication_names[PUBLICATION_NAMES + 1] = {
    "topic", "type", "raw", "attrs", "key", "source", "expires", "ttl", "data"};

/* Its address: in the registry, the metatable of those whose data nobody has asked for. */
static const char publication_meta;
/* Addresses: in a metatable of its own, what was decoded, and the text that it was decoded from. */
static const char decoded_key, decoded_from;

static void lua_publication_push_meta(lua_State *L);

static bool lua_publication_knows(lua_State *L, int idx, size_t names)
{
    struct slice key = {NULL, 0};
    key.p = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &key.n) : NULL;
    for (size_t i = 0; key.p && i < names; i++) {
        if (slice_is(key, publication_names[i])) {
            return true;
        }
    }
    return false;
}

/* stack: pub -> pub's text, pub, data. The text comes first for luaL_argerror(), which tells the
 * publisher's faults from those of the policy. */
static int lua_publication_data(lua_State *L)
{
    struct lua_json_error why;
    lua_pushliteral(L, "raw");
    lua_rawget(L, 1);
    lua_insert(L, 1);
    lua_settop(L, 2); /* stack: text, pub */
    struct slice raw = {NULL, 0};
    raw.p = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &raw.n) : NULL;
    if (!raw.p) {
        return 0; /* the policy took it away, or has put something else there */
    }
    if (lua_getmetatable(L, 2) && lua_rawgetp(L, 3, &decoded_from) != LUA_TNIL &&
        lua_rawequal(L, 4, 1)) {
        lua_rawgetp(L, 3, &decoded_key);
        return 1;
    }
    lua_settop(L, 2);
    if (!lua_event_push_data(L, raw, "pub.data", &why)) {
        return luaL_argerror(
            L, 1,
            lua_pushfstring(L, "pub.data cannot be decoded: %s; pub.raw has the text", why.text));
    }
    lua_publication_push_meta(L); /* stack: text, pub, data, metatable */
    lua_pushvalue(L, 1);
    lua_rawsetp(L, 4, &decoded_from);
    lua_pushvalue(L, 3);
    lua_rawsetp(L, 4, &decoded_key);
    lua_setmetatable(L, 2);
    return 1;
}

static int64_t lua_publication_now(lua_State *L)
{
    const struct lua_host *host = lua_vm_host(L);
    return host->unix_ms(host->ctx);
}

/* The one of `expires` and `ttl` that is not in the table, by the one that is. stack: pub, its name */
static int lua_publication_other(lua_State *L, bool ttl)
{
    lua_pushstring(L, ttl ? "expires" : "ttl");
    if (lua_rawget(L, 1) != LUA_TNUMBER) {
        return 0;
    }
    double now_s = (double)lua_publication_now(L) / 1000, value = lua_tonumber(L, -1);
    lua_pushnumber(L, ttl ? value - now_s : now_s + value);
    return 1;
}

static bool lua_publication_is(lua_State *L, int idx, const char *name)
{
    return lua_type(L, idx) == LUA_TSTRING && strcmp(lua_tostring(L, idx), name) == 0;
}

static int lua_publication_index(lua_State *L)
{
    lua_settop(L, 2);
    bool ttl = lua_publication_is(L, 2, "ttl");
    if (ttl || lua_publication_is(L, 2, "expires")) {
        return lua_publication_other(L, ttl);
    }
    if (lua_publication_knows(L, 2, PUBLICATION_FIELDS)) {
        return 0; /* there is none */
    }
    if (lua_publication_knows(L, 2, PUBLICATION_NAMES)) {
        lua_settop(L, 1);
        return lua_publication_data(L);
    }
    return lua_shape_no_field(L, "pub", 2, publication_names, PUBLICATION_NAMES);
}

static int lua_publication_newindex(lua_State *L)
{
    lua_settop(L, 3);
    if (lua_publication_knows(L, 2, PUBLICATION_FIELDS)) {
        bool ttl = lua_publication_is(L, 2, "ttl");
        if (ttl || lua_publication_is(L, 2, "expires")) { /* it counts instead of the other one */
            lua_pushstring(L, ttl ? "expires" : "ttl");
            lua_pushnil(L);
            lua_rawset(L, 1);
        }
        lua_rawset(L, 1);
        return 0;
    }
    if (lua_publication_knows(L, 2, PUBLICATION_NAMES)) {
        return luaL_error(L, "pub.data is what pub.raw says: set pub.raw = json.encode(...)");
    }
    return lua_shape_no_field(L, "pub", 2, publication_names, PUBLICATION_FIELDS);
}

static void lua_publication_push_meta(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"__index", lua_publication_index}, {"__newindex", lua_publication_newindex}, {NULL, NULL}};
    luaL_newlib(L, methods);
    lua_pushliteral(L, "publication");
    lua_setfield(L, -2, "__metatable");
}

static void lua_publication_push_shared_meta(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &publication_meta) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_publication_push_meta(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &publication_meta);
        lua_vm_data_function(L, lua_publication_index);
    }
}

static void lua_publication_set_field(lua_State *L, const char *name, struct slice s)
{
    if (s.p) {
        lua_pushlstring(L, s.p, s.n);
        lua_setfield(L, -2, name);
    }
}

void lua_publication_push(lua_State *L, const struct event *ev)
{
    struct slice attrs = event_attrs(ev);
    struct lua_json_error why;
    luaL_checkstack(L, 8, NULL);
    lua_createtable(L, 0, PUBLICATION_FIELDS); /* stack: pub */
    lua_publication_set_field(L, "topic", event_topic(ev));
    lua_publication_set_field(L, "type", event_type(ev));
    lua_publication_set_field(L, "raw", event_data(ev));
    lua_publication_set_field(L, "key", event_key(ev));
    lua_publication_set_field(L, "source", slice_str("http"));
    if (ev->expires_ms) {
        lua_pushnumber(L, (double)ev->expires_ms / 1000.0);
        lua_setfield(L, -2, "expires");
    }
    if (attrs.n == 0) {
        lua_newtable(L);
    } else if (lua_json_decode(L, attrs, &why) != LUA_JSON_OK) {
        luaL_error(L, "attrs cannot be read: %s", why.text);
    }
    lua_setfield(L, -2, "attrs");
    lua_publication_push_shared_meta(L);
    lua_setmetatable(L, -2);
}

static struct slice optional_string(lua_State *L, int t, const char *name, const char *what)
{
    if (lua_shape_field(L, t, name) == LUA_TNIL) {
        return slice_of(NULL, 0);
    }
    return lua_shape_string(L, -1, what);
}

static bool is_taken(struct slice key, const struct publication_out *out, size_t from)
{
    for (size_t i = from; i < out->events.n; i++) {
        if (slice_eq(event_key(out->events.v[i]), key)) {
            return true;
        }
    }
    return false;
}

/* FNV-1a: tells long keys apart whose ends had to go. */
static uint64_t digest(struct slice s)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < s.n; i++) {
        h = (h ^ (unsigned char)s.p[i]) * UINT64_C(1099511628211);
    }
    return h;
}

/* "KEY#N", or where that is too long "BEGINNING~DIGEST#N". The cut may not split a character. */
static struct slice numbered(struct slice key, size_t number, char *text, size_t size)
{
    enum { DIGEST = 17 };
    char tail[32], middle[DIGEST + 1] = "";
    size_t n = (size_t)snprintf(tail, sizeof tail, "#%zu", number);
    if (key.n + n > EVENT_KEY_MAX_BYTES) {
        (void)snprintf(middle, sizeof middle, "~%016" PRIx64, digest(key));
        for (key.n = EVENT_KEY_MAX_BYTES - DIGEST - n;
             key.n && ((unsigned char)key.p[key.n] & 0xc0) == 0x80;) {
            key.n--;
        }
    }
    (void)snprintf(text, size, "%.*s%s%s", (int)key.n, key.p, middle, tail);
    return slice_str(text);
}

/* The second and later events made of one must not be taken for repetitions of another of them. */
static struct slice distinct_key(struct slice key, const struct publication_out *out, size_t from,
                                 char *text, size_t size)
{
    struct slice own = key;
    for (size_t number = out->events.n - from + 1; is_taken(own, out, from); number++) {
        own = numbered(key, number, text, size);
    }
    return own;
}

/* Can the asked event itself be stored? Once only: an event gets one id. */
static bool unchanged(const struct event *ev, const struct event_fields *f,
                      const struct publication_out *out, size_t from)
{
    for (size_t i = from; i < out->events.n; i++) {
        if (out->events.v[i] == ev) {
            return false;
        }
    }
    return slice_eq(event_topic(ev), f->topic) && slice_eq(event_type(ev), f->type) &&
           slice_eq(event_key(ev), f->key) && slice_eq(event_attrs(ev), f->attrs) &&
           slice_eq(event_data(ev), f->data) && ev->expires_ms == f->expires_ms;
}

/* Everything `f` points at is kept alive by the Lua stack and `box` until the event exists. */
static void add_event(lua_State *L, const struct event_fields *f, struct event *asked, size_t from,
                      struct publication_out *out)
{
    if (unchanged(asked, f, out, from)) {
        event_list_push(&out->events, event_ref(asked));
        return;
    }
    const char *bad = event_check(f, out->max_data);
    if (bad) {
        luaL_error(L, "publication.%s", bad);
    }
    size_t cost = f->topic.n + f->type.n + f->key.n + f->attrs.n + f->data.n + sizeof *asked;
    if (cost > out->bytes_left) {
        luaL_error(L, "the events of one request take more than the policy's memory limit");
    }
    struct event *ev = event_new(f);
    if (!ev) {
        luaL_error(L, "not enough memory");
    }
    out->bytes_left -= cost;
    event_list_push(&out->events, ev);
}

/* A plain table with nothing in it: the attributes of most events. */
static bool is_bare(lua_State *L, int idx)
{
    if (lua_type(L, idx) != LUA_TTABLE) {
        return false;
    }
    if (lua_getmetatable(L, idx)) {
        lua_pop(L, 1);
        return false;
    }
    lua_pushnil(L);
    if (lua_next(L, idx)) {
        lua_pop(L, 2);
        return false;
    }
    return true;
}

/* stack: ..., expires, ttl. Numbers, and of `expires` a text, too. */
static void lua_publication_read_expiry(lua_State *L, const struct event *asked,
                                        struct event_fields *f)
{
    char detail[256];
    int expires = lua_gettop(L) - 1, ttl = expires + 1;
    bool has_expires = !lua_isnil(L, expires), has_ttl = !lua_isnil(L, ttl), good = true;
    if (has_expires && has_ttl) {
        luaL_error(L, "publication.expires and publication.ttl are both set; set one of them");
    }
    if (has_ttl && lua_type(L, ttl) != LUA_TNUMBER) {
        luaL_error(L, "publication.ttl: expected seconds, a number, got %s", luaL_typename(L, ttl));
    }
    if (has_expires && lua_type(L, expires) != LUA_TNUMBER && lua_type(L, expires) != LUA_TSTRING) {
        luaL_error(L,
                   "publication.expires: expected Unix seconds, a number, or a text as "
                   "\"2026-11-30T12:00:00Z\", got %s",
                   luaL_typename(L, expires));
    }
    if (has_ttl) {
        good = expiry_of_ttl(lua_tonumber(L, ttl), asked->time_ms, &f->expires_ms, detail,
                             sizeof detail);
    } else if (has_expires && lua_type(L, expires) == LUA_TNUMBER) {
        good = expiry_of_time(lua_tonumber(L, expires), asked->time_ms, &f->expires_ms, detail,
                              sizeof detail);
    } else if (has_expires) {
        struct slice text = {NULL, 0};
        text.p = lua_tolstring(L, expires, &text.n);
        good = expiry_parse(text, slice_of(NULL, 0), asked->time_ms, &f->expires_ms, detail,
                            sizeof detail);
    }
    if (!good) {
        luaL_error(L, "publication.%s", detail);
    }
}

static void read_one(lua_State *L, int t, struct event *asked, size_t from,
                     struct publication_out *out)
{
    static const char *const keys[] = {"topic",  "type",    "raw", "attrs", "key",
                                       "source", "expires", "ttl", NULL};
    char key_text[EVENT_KEY_MAX_BYTES + 24];
    struct event_fields f = {.time_ms = asked->time_ms};
    luaL_checkstack(L, 12, NULL);
    if (lua_type(L, t) == LUA_TTABLE && lua_shape_field(L, t, "data") != LUA_TNIL) {
        luaL_error(L, "publication.data: set raw = json.encode(...) instead");
    }
    lua_settop(L, t);
    lua_shape_closed(L, t, "publication", keys);
    f.topic = optional_string(L, t, "topic", "publication.topic");
    f.type = optional_string(L, t, "type", "publication.type");
    f.data = optional_string(L, t, "raw", "publication.raw");
    f.key = optional_string(L, t, "key", "publication.key");
    lua_shape_field(L, t, "expires");
    lua_shape_field(L, t, "ttl");
    lua_publication_read_expiry(L, asked, &f);
    lua_pop(L, 2);
    if (!f.data.p) {
        luaL_error(L, "publication.raw: the data is missing");
    }
    if (f.key.n > EVENT_KEY_MAX_BYTES) {
        luaL_error(L, "publication.key: is longer than %d bytes", EVENT_KEY_MAX_BYTES);
    }
    if (f.key.p) {
        f.key = distinct_key(f.key, out, from, key_text, sizeof key_text);
    }
    if (lua_shape_field(L, t, "attrs") == LUA_TNIL || is_bare(L, lua_gettop(L))) {
        add_event(L, &f, asked, from, out);
        lua_settop(L, t);
        return;
    }
    int attrs = lua_gettop(L);
    struct lua_box *box = lua_box_push(L, EVENT_ATTRS_MAX_BYTES);
    lua_json_encode(L, attrs, "publication.attrs", LUA_JSON_OBJECT_OF_SCALARS, &box->text);
    if (box->text.len > 2) { /* not {} */
        f.attrs = strbuf_slice(&box->text);
    }
    add_event(L, &f, asked, from, out);
    lua_closeslot(L, attrs + 1);
    lua_settop(L, t);
}

void lua_publication_read(lua_State *L, int idx, struct event *asked, struct publication_out *out)
{
    size_t from = out->events.n;
    lua_Unsigned n = lua_rawlen(L, idx);
    if (n == 0) {
        lua_pushvalue(L, idx);
        read_one(L, lua_gettop(L), asked, from, out);
        lua_pop(L, 1);
        return;
    }
    if (n > PUBLICATION_OUTPUTS_MAX) {
        luaL_error(L, "publish returned a list of %I events, at most %d were expected",
                   (LUAI_UACINT)n, PUBLICATION_OUTPUTS_MAX);
    }
    for (lua_Integer i = 1; i <= (lua_Integer)n; i++) {
        lua_rawgeti(L, idx, i);
        read_one(L, lua_gettop(L), asked, from, out);
        lua_pop(L, 1);
    }
}
