#include "lua/api/lua_request.h"

#include "base/decimal.h"
#include "base/require.h"
#include "lua/vm/lua_host.h"
#include "lua/vm/lua_shape.h"
#include "net/tls/tls_info.h"
#include "policy/saved_request.h"

#include <ctype.h>
#include <lauxlib.h>
#include <string.h>

/* What the fields that are made when they are first read are made of: the broker's own request may be gone by
 * then. One block, however many header fields a stranger sends; an upvalue of the request's metatable. */
struct lua_request_source {
    bool saved; /* it is what is left of a request once it is authenticated */
    size_t header_count, param_count, path_count;
    struct lua_request_pair {
        uint32_t name_len, value_len;
    } pairs[]; /* header fields, parameters, params; behind them the bytes of each, in that order */
};

static void lua_request_set_field(lua_State *L, const char *name, struct slice value)
{
    if (value.p) {
        lua_pushlstring(L, value.p, value.n);
        lua_setfield(L, -2, name);
    }
}

static struct slice lua_request_trim(struct slice s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s = slice_of(s.p + 1, s.n - 1);
    }
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) {
        s.n--;
    }
    return s;
}

/* t[name] = value unless there is one: the first wins. stack: ..., t */
static void set_first(lua_State *L, struct slice name, struct slice value)
{
    lua_pushlstring(L, name.p, name.n);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushlstring(L, value.p ? value.p : "", value.n);
        lua_rawset(L, -3);
    } else {
        lua_pop(L, 2);
    }
}

/* A walk over the pairs of a source. */
struct lua_request_cursor {
    const struct lua_request_source *from;
    const char *at;
    size_t next;
    struct slice name, value;
};

static struct lua_request_cursor lua_request_walk(const struct lua_request_source *r)
{
    size_t n = r->header_count + r->param_count + r->path_count;
    return (struct lua_request_cursor){.from = r, .at = (const char *)(r->pairs + n)};
}

static bool lua_request_step(struct lua_request_cursor *c, size_t end)
{
    if (c->next >= end) {
        return false;
    }
    const struct lua_request_pair *pair = &c->from->pairs[c->next++];
    c->name = slice_of(c->at, pair->name_len);
    c->value = slice_of(c->at + pair->name_len, pair->value_len);
    c->at += pair->name_len + pair->value_len;
    return true;
}

static bool lua_request_next_header(struct lua_request_cursor *c)
{
    return lua_request_step(c, c->from->header_count);
}

static bool lua_request_next_param(struct lua_request_cursor *c)
{
    while (lua_request_next_header(c)) {
    }
    return lua_request_step(c, c->from->header_count + c->from->param_count);
}

static bool lua_request_next_of_path(struct lua_request_cursor *c)
{
    while (lua_request_next_param(c)) {
    }
    return lua_request_step(c, c->from->header_count + c->from->param_count + c->from->path_count);
}

/* What the path has for the names in braces of its route. */
static void push_params(lua_State *L, const struct lua_request_source *r)
{
    struct lua_request_cursor c = lua_request_walk(r);
    lua_createtable(L, 0, (int)r->path_count);
    while (lua_request_next_of_path(&c)) {
        set_first(L, c.name, c.value);
    }
}

/* Every value of each name, in order. */
static void push_query_all(lua_State *L, const struct lua_request_source *r)
{
    const struct lua_host *s = lua_vm_host(L);
    const struct saved_request_rules rules = {s->credential_params, s->credential_param_count};
    struct lua_request_cursor c = lua_request_walk(r);
    lua_newtable(L);
    while (lua_request_next_param(&c)) {
        if (r->saved && saved_request_is_credential(&rules, c.name)) {
            continue;
        }
        lua_pushlstring(L, c.name.p, c.name.n);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_newtable(L);
            lua_pushvalue(L, -2);
            lua_pushvalue(L, -2);
            lua_rawset(L, -5); /* stack: all, name, list */
        }
        lua_pushlstring(L, c.value.p ? c.value.p : "", c.value.n);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
        lua_pop(L, 2);
    }
}

static void push_query(lua_State *L, const struct lua_request_source *r)
{
    const struct lua_host *s = lua_vm_host(L);
    const struct saved_request_rules rules = {s->credential_params, s->credential_param_count};
    struct lua_request_cursor c = lua_request_walk(r);
    lua_createtable(L, 0, (int)r->param_count);
    while (lua_request_next_param(&c)) {
        if (!r->saved || !saved_request_is_credential(&rules, c.name)) {
            set_first(L, c.name, c.value);
        }
    }
}

static void push_topics(lua_State *L, const struct lua_request_source *r)
{
    struct lua_request_cursor c = lua_request_walk(r);
    lua_Integer n = 0;
    lua_newtable(L);
    while (lua_request_next_param(&c)) {
        if (slice_is(c.name, "topic")) {
            lua_pushlstring(L, c.value.p, c.value.n);
            lua_rawseti(L, -2, ++n);
        }
    }
}

static void push_lower(lua_State *L, struct slice name)
{
    luaL_Buffer b;
    char *p = luaL_buffinitsize(L, &b, name.n);
    for (size_t i = 0; i < name.n; i++) {
        p[i] = (char)tolower((unsigned char)name.p[i]);
    }
    luaL_pushresultsize(&b, name.n);
}

/* Fields of one name are one list (RFC 9110, 5.3); of Cookie, joined by "; " (RFC 6265, 5.4). */
static void push_headers(lua_State *L, const struct lua_request_source *r)
{
    struct lua_request_cursor c = lua_request_walk(r);
    lua_createtable(L, 0, (int)r->header_count);
    while (lua_request_next_header(&c)) {
        push_lower(L, c.name);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TSTRING) { /* stack: headers, name, earlier */
            lua_pushstring(L, slice_is_nocase(c.name, "cookie") ? "; " : ", ");
            lua_pushlstring(L, c.value.p, c.value.n);
            lua_concat(L, 3);
        } else {
            lua_pop(L, 1);
            lua_pushlstring(L, c.value.p, c.value.n);
        }
        lua_rawset(L, -3);
    }
}

/* name=value pairs (RFC 6265, 4.2.1). The first of a name wins: user agents send the most specific
 * path first (5.4). */
static void add_cookies(lua_State *L, struct slice header)
{
    while (header.n) {
        const char *semicolon = memchr(header.p, ';', header.n);
        size_t n = semicolon ? (size_t)(semicolon - header.p) : header.n;
        struct slice pair = lua_request_trim(slice_of(header.p, n));
        const char *equals = pair.n ? memchr(pair.p, '=', pair.n) : NULL;
        if (equals) {
            size_t name = (size_t)(equals - pair.p);
            set_first(L, lua_request_trim(slice_of(pair.p, name)),
                      lua_request_trim(slice_of(equals + 1, pair.n - name - 1)));
        }
        n += semicolon != NULL;
        header = slice_of(header.p + n, header.n - n);
    }
}

/* Authorization: Bearer TOKEN (RFC 6750, 2.1); the scheme's case does not matter (RFC 9110, 11.1).
 * p == NULL: none. */
static struct slice bearer_of(struct slice value)
{
    static const char scheme[] = "bearer ";
    size_t n = sizeof scheme - 1;
    if (value.n <= n || strncasecmp(value.p, scheme, n) != 0) {
        return slice_of(NULL, 0);
    }
    return lua_request_trim(slice_of(value.p + n, value.n - n));
}

static void push_cookies(lua_State *L, const struct lua_request_source *r)
{
    struct lua_request_cursor c = lua_request_walk(r);
    lua_newtable(L);
    while (lua_request_next_header(&c)) {
        if (slice_is_nocase(c.name, "cookie")) {
            add_cookies(L, c.value);
        }
    }
}

/* ---------------------------------------------------------------- fields on first use */

struct lua_request_lazy {
    const char *name;
    void (*push)(lua_State *L, const struct lua_request_source *r);
    bool gone; /* once it is authenticated */
};

static const struct lua_request_lazy lazy_fields[] = {
    {"headers", push_headers, true}, {"cookies", push_cookies, true},
    {"query", push_query, false},    {"query_all", push_query_all, false},
    {"params", push_params, false},  {"topics", push_topics, false}};
enum { LAZY_FIELDS = sizeof lazy_fields / sizeof *lazy_fields };

/* Known fields that may be absent: nil instead of an error. */
static const char *const optional_fields[] = {"bearer", "last_event_id", "mark", "published",
                                              "tls"};
/* What a stored request does not have. */
static const char *const gone_fields[] = {"headers", "cookies", "bearer", "tls"};

static bool lua_request_is_one_of(struct slice key, const char *const *names, size_t n)
{
    for (size_t i = 0; key.p && i < n; i++) {
        if (slice_is(key, names[i])) {
            return true;
        }
    }
    return false;
}

static struct slice lua_request_key(lua_State *L)
{
    struct slice key = slice_of(NULL, 0);
    key.p = lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &key.n) : NULL;
    return key;
}

static const struct lua_request_lazy *lua_request_lazy_of(const struct lua_request_source *r,
                                                          struct slice key)
{
    for (size_t i = 0; key.p && i < LAZY_FIELDS; i++) {
        if (slice_is(key, lazy_fields[i].name)) {
            return r->saved && lazy_fields[i].gone ? NULL : &lazy_fields[i];
        }
    }
    return NULL;
}

/* Makes the field, which the request at `idx` (absolute) keeps, and pushes it. */
static void lua_request_make(lua_State *L, int idx, const struct lua_request_source *r,
                             const struct lua_request_lazy *f)
{
    luaL_checkstack(L, 10, NULL);
    f->push(L, r);
    lua_pushstring(L, f->name);
    lua_pushvalue(L, -2);
    lua_rawset(L, idx);
}

static int request_index(lua_State *L)
{
    const struct lua_request_source *r = lua_touserdata(L, lua_upvalueindex(1));
    struct slice key = lua_request_key(L);
    const struct lua_request_lazy *f = lua_request_lazy_of(r, key);
    if (f) {
        lua_request_make(L, 1, r, f);
        return 1;
    }
    if (r->saved &&
        lua_request_is_one_of(key, gone_fields, sizeof gone_fields / sizeof *gone_fields)) {
        return luaL_error(L,
                          "subscribe sees no request.%s: it runs again without it when the "
                          "policy changes. Read it in authenticate and return what is needed "
                          "as part of the identity",
                          key.p);
    }
    if (lua_request_is_one_of(key, optional_fields,
                              sizeof optional_fields / sizeof *optional_fields)) {
        return 0;
    }
    static const char *const names[] = {
        "id",     "ip",     "method",        "path",      "query", "headers",   "cookies", "bearer",
        "topics", "params", "last_event_id", "query_all", "tls",   "published", "mark"};
    return lua_shape_no_field(L, "request", 2, names, sizeof names / sizeof *names);
}

/* A field that is not made yet may be written like one that is there. */
static int request_newindex(lua_State *L)
{
    const struct lua_request_source *r = lua_touserdata(L, lua_upvalueindex(1));
    if (lua_request_lazy_of(r, lua_request_key(L))) {
        lua_settop(L, 3);
        lua_rawset(L, 1);
        return 0;
    }
    return luaL_error(L, "request has no field '%s' to write", luaL_tolstring(L, 2, NULL));
}

static void lua_request_make_all(lua_State *L, int idx, const struct lua_request_source *r)
{
    for (size_t i = 0; i < LAZY_FIELDS; i++) {
        lua_pushstring(L, lazy_fields[i].name);
        if (lua_rawget(L, idx) == LUA_TNIL && !(r->saved && lazy_fields[i].gone)) {
            lua_request_make(L, idx, r, &lazy_fields[i]);
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
}

static int request_next(lua_State *L)
{
    lua_settop(L, 2);
    return lua_next(L, 1) ? 2 : 0;
}

static int request_pairs(lua_State *L)
{
    lua_settop(L, 1);
    lua_request_make_all(L, 1, lua_touserdata(L, lua_upvalueindex(1)));
    lua_pushcfunction(L, request_next);
    lua_pushvalue(L, 1);
    return 2;
}

static struct lua_request_source *lua_request_source_of(lua_State *L, int idx)
{
    struct lua_request_source *r = NULL;
    if (lua_type(L, idx) == LUA_TTABLE && lua_getmetatable(L, idx)) {
        r = lua_rawgetp(L, -1, lazy_fields) == LUA_TUSERDATA ? lua_touserdata(L, -1) : NULL;
        lua_pop(L, 2);
    }
    return r;
}

void lua_request_complete(lua_State *L, int idx)
{
    const struct lua_request_source *r = lua_request_source_of(L, idx);
    if (r) {
        luaL_checkstack(L, 10, NULL);
        lua_request_make_all(L, idx, r);
    }
}

/* stack: request, source -> request */
static void lua_request_set_source(lua_State *L)
{
    static const struct {
        const char *name;
        lua_CFunction call;
    } events[] = {
        {"__index", request_index}, {"__newindex", request_newindex}, {"__pairs", request_pairs}};
    lua_createtable(L, 0, 5); /* stack: request, source, metatable */
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        lua_pushvalue(L, -2);
        lua_pushcclosure(L, events[i].call, 1);
        lua_setfield(L, -2, events[i].name);
    }
    lua_pushliteral(L, "request");
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -2);
    lua_rawsetp(L, -2, lazy_fields);
    lua_setmetatable(L, -3);
    lua_pop(L, 1);
}

static char *lua_request_put(char *to, struct lua_request_pair *pair, struct slice name,
                             struct slice value)
{
    *pair = (struct lua_request_pair){(uint32_t)name.n, (uint32_t)value.n};
    if (name.n) {
        memcpy(to, name.p, name.n);
    }
    if (value.n) {
        memcpy(to + name.n, value.p, value.n);
    }
    return to + name.n + value.n;
}

/* `http`: NULL where none of its fields are to be seen. */
static void lua_request_push_source(lua_State *L, const struct http_request *http,
                                    const struct http_query *q, const struct http_query *path)
{
    static const struct http_query none = {.params = NULL};
    size_t headers = http ? http->header_count : 0;
    path = path ? path : &none;
    size_t pairs = headers + q->count + path->count;
    size_t bytes = 0;
    for (size_t i = 0; i < headers; i++) {
        bytes += http->headers[i].name.n + http->headers[i].value.n;
    }
    for (size_t i = 0; i < q->count; i++) {
        bytes += q->params[i].name.n + q->params[i].value.n;
    }
    for (size_t i = 0; i < path->count; i++) {
        bytes += path->params[i].name.n + path->params[i].value.n;
    }
    struct lua_request_source *r =
        lua_newuserdatauv(L, sizeof *r + pairs * sizeof *r->pairs + bytes, 0);
    *r = (struct lua_request_source){.saved = !http,
                                     .header_count = headers,
                                     .param_count = q->count,
                                     .path_count = path->count};
    char *to = (char *)(r->pairs + pairs);
    for (size_t i = 0; i < headers; i++) {
        to = lua_request_put(to, &r->pairs[i], http->headers[i].name, http->headers[i].value);
    }
    for (size_t i = 0; i < q->count; i++) {
        to = lua_request_put(to, &r->pairs[headers + i], q->params[i].name, q->params[i].value);
    }
    for (size_t i = 0; i < path->count; i++) {
        to = lua_request_put(to, &r->pairs[headers + q->count + i], path->params[i].name,
                             path->params[i].value);
    }
}

/* ---------------------------------------------------------------- */

static void set_bearer(lua_State *L, const struct http_request *rq)
{
    for (size_t i = 0; i < rq->header_count; i++) {
        if (slice_is_nocase(rq->headers[i].name, "authorization")) {
            struct slice token = bearer_of(rq->headers[i].value);
            if (token.p) {
                lua_request_set_field(L, "bearer", token);
                return;
            }
        }
    }
}

static void remove_field(lua_State *L, int table, const char *name)
{
    lua_pushstring(L, name);
    lua_pushnil(L);
    lua_rawset(L, table);
}

void lua_request_strip(lua_State *L, int idx)
{
    const struct lua_host *s = lua_vm_host(L);
    struct lua_request_source *r = lua_request_source_of(L, idx);
    REQUIRE(r != NULL);
    luaL_checkstack(L, 5, NULL);
    for (size_t i = 0; i < sizeof gone_fields / sizeof *gone_fields; i++) {
        remove_field(L, idx, gone_fields[i]);
    }
    static const char *const queries[] = {"query", "query_all"};
    for (size_t k = 0; k < sizeof queries / sizeof *queries; k++) {
        lua_pushstring(L, queries[k]);
        if (lua_rawget(L, idx) == LUA_TTABLE) { /* unless authenticate put something else there */
            int query = lua_gettop(L);
            for (size_t i = 0; i < s->credential_param_count; i++) {
                remove_field(L, query, s->credential_params[i]);
            }
        }
        lua_pop(L, 1);
    }
    r->saved = true;
}

static void lua_request_set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* The alternative names of that kind, a list. stack: client */
static void set_names(lua_State *L, const char *field, const struct tls_info *t,
                      enum tls_name_kind kind)
{
    lua_Integer n = 0;
    lua_newtable(L);
    for (size_t at = 0; at < t->names.n;) {
        const char *name = t->names.p + at + 1;
        if (t->names.p[at] == (char)kind) {
            lua_pushstring(L, name);
            lua_rawseti(L, -2, ++n);
        }
        at += strlen(name) + 2;
    }
    lua_setfield(L, -2, field);
}

static void push_tls_info(lua_State *L, const struct tls_info *t)
{
    lua_createtable(L, 0, 6);
    lua_request_set_text(L, "version", t->version);
    lua_request_set_text(L, "cipher", t->cipher);
    lua_request_set_field(L, "sni", *t->sni ? slice_str(t->sni) : slice_of(NULL, 0));
    lua_request_set_field(L, "alpn", *t->alpn ? slice_str(t->alpn) : slice_of(NULL, 0));
    lua_pushboolean(L, t->resumed);
    lua_setfield(L, -2, "resumed");
    if (!t->has_client) {
        return;
    }
    lua_createtable(L, 0, 8); /* stack: tls, client */
    lua_request_set_text(L, "subject", t->subject);
    lua_request_set_text(L, "issuer", t->issuer);
    lua_request_set_text(L, "serial", t->serial);
    lua_request_set_text(L, "sha256", t->sha256);
    lua_pushinteger(L, (lua_Integer)t->not_after);
    lua_setfield(L, -2, "not_after");
    set_names(L, "dns", t, TLS_NAME_DNS);
    set_names(L, "uri", t, TLS_NAME_URI);
    set_names(L, "email", t, TLS_NAME_EMAIL);
    lua_setfield(L, -2, "client");
}

/* stack: request */
static void push_tls(lua_State *L, const struct http_request *rq)
{
    struct tls_info own;
    const struct tls_info *info = rq->tls_told;
    if (!info && rq->tls) {
        tls_facts_read(rq->tls, &own);
        info = &own;
    }
    if (info) {
        push_tls_info(L, info);
        lua_setfield(L, -2, "tls");
    }
}

void lua_request_id(const struct policy_request *rq, struct request_id *out)
{
    size_t n = rq->request_id.n < REQUEST_ID_MAX ? rq->request_id.n : REQUEST_ID_MAX;
    if (n) {
        memcpy(out->text, rq->request_id.p, n);
    } else {
        n = decimal_put(out->text, rq->id);
    }
    out->text[n] = '\0';
}

static void push_common(lua_State *L, const struct policy_request *rq)
{
    struct request_id id;
    char ip[ADDRESS_TEXT_MAX];
    lua_request_id(rq, &id);
    peer_address_text(&rq->client, ip);
    luaL_checkstack(L, 10, NULL);
    lua_createtable(L, 0, 10); /* stack: request */
    lua_request_set_field(L, "id", slice_str(id.text));
    lua_request_set_field(L, "ip", slice_str(ip));
    lua_request_set_field(L, "method",
                          rq->http          ? rq->http->method_name
                          : rq->published.p ? slice_str("POST")
                                            : slice_str("GET"));
    lua_request_set_field(L, "path", rq->http ? rq->http->path : rq->path);
    lua_request_set_field(L, "last_event_id", rq->last_event_id);
    lua_request_set_field(L, "mark", rq->mark);
}

void lua_request_push_saved(lua_State *L, const struct policy_request *rq)
{
    push_common(L, rq);
    lua_request_push_source(L, NULL, rq->query, rq->params);
    lua_request_set_source(L);
}

void lua_request_push(lua_State *L, const struct policy_request *rq)
{
    push_common(L, rq);
    set_bearer(L, rq->http);
    push_tls(L, rq->http);
    lua_request_push_source(L, rq->http, rq->query, rq->params);
    lua_request_set_source(L);
}
