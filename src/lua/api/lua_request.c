#include "lua/api/lua_request.h"

#include "base/decimal.h"
#include "lua/vm/lua_host.h"
#include "net/tls/tls_info.h"
#include "policy/saved_request.h"

#include <ctype.h>
#include <lauxlib.h>

static const char *const request_type = "tidegate.request";
static const char *const saved_request_type = "tidegate.saved_request";

/* Known fields that may be absent: nil instead of an error. */
static const char *const optional_fields[] = {"bearer", "last_event_id", "tls"};

static int request_index(lua_State *L)
{
    struct slice key;
    key.p = lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &key.n) : NULL;
    for (size_t i = 0; key.p && i < sizeof optional_fields / sizeof *optional_fields; i++) {
        if (slice_is(key, optional_fields[i])) {
            return 0;
        }
    }
    return luaL_error(L, "request has no field '%s'", key.p ? key.p : luaL_typename(L, 2));
}

/* What is left of a request once it is authenticated. */
static int saved_request_index(lua_State *L)
{
    static const char *const gone[] = {"headers", "cookies", "bearer", "tls"};
    struct slice key;
    key.p = lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &key.n) : NULL;
    for (size_t i = 0; key.p && i < sizeof gone / sizeof *gone; i++) {
        if (slice_is(key, gone[i])) {
            return luaL_error(L,
                              "subscribe sees no request.%s: it runs again without it when the "
                              "policy changes. Read it in authenticate and return what is needed "
                              "as part of the identity",
                              key.p);
        }
    }
    return request_index(L);
}

static int request_newindex(lua_State *L)
{
    return luaL_error(L, "request has no field '%s' to write", luaL_tolstring(L, 2, NULL));
}

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

static void push_query(lua_State *L, const struct http_query *q, bool credentials)
{
    const struct lua_host *s = lua_vm_host(L);
    const struct saved_request_rules rules = {s->credential_params, s->credential_param_count};
    lua_createtable(L, 0, (int)q->count);
    for (size_t i = 0; i < q->count; i++) {
        if (credentials || !saved_request_is_credential(&rules, q->params[i].name)) {
            set_first(L, q->params[i].name, q->params[i].value);
        }
    }
}

static void push_topics(lua_State *L, const struct http_query *q)
{
    lua_Integer n = 0;
    lua_newtable(L);
    for (size_t i = 0; i < q->count; i++) {
        if (slice_is(q->params[i].name, "topic")) {
            lua_pushlstring(L, q->params[i].value.p, q->params[i].value.n);
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
static void lua_request_push_headers(lua_State *L, const struct http_request *rq)
{
    lua_createtable(L, 0, (int)rq->header_count);
    for (size_t i = 0; i < rq->header_count; i++) {
        const struct http_header *h = &rq->headers[i];
        push_lower(L, h->name);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TSTRING) { /* stack: headers, name, earlier */
            lua_pushstring(L, slice_is_nocase(h->name, "cookie") ? "; " : ", ");
            lua_pushlstring(L, h->value.p, h->value.n);
            lua_concat(L, 3);
        } else {
            lua_pop(L, 1);
            lua_pushlstring(L, h->value.p, h->value.n);
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

static void set_credentials(lua_State *L, const struct http_request *rq)
{
    bool bearer = false;
    lua_newtable(L); /* stack: request, cookies */
    for (size_t i = 0; i < rq->header_count; i++) {
        const struct http_header *h = &rq->headers[i];
        if (slice_is_nocase(h->name, "cookie")) {
            add_cookies(L, h->value);
        } else if (!bearer && slice_is_nocase(h->name, "authorization")) {
            struct slice token = bearer_of(h->value);
            bearer = token.p != NULL;
            lua_insert(L, -2); /* stack: cookies, request */
            lua_request_set_field(L, "bearer", token);
            lua_insert(L, -2);
        }
    }
    lua_setfield(L, -2, "cookies");
}

static void make_metatable(lua_State *L, const char *type, lua_CFunction index)
{
    luaL_newmetatable(L, type);
    lua_pushcfunction(L, index);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, request_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushliteral(L, "request");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void lua_request_open(lua_State *L)
{
    make_metatable(L, request_type, request_index);
    make_metatable(L, saved_request_type, saved_request_index);
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
    luaL_checkstack(L, 5, NULL);
    remove_field(L, idx, "headers");
    remove_field(L, idx, "cookies");
    remove_field(L, idx, "bearer");
    remove_field(L, idx, "tls");
    lua_pushliteral(L, "query");
    if (lua_rawget(L, idx) == LUA_TTABLE) { /* unless authenticate put something else there */
        int query = lua_gettop(L);
        for (size_t i = 0; i < s->credential_param_count; i++) {
            remove_field(L, query, s->credential_params[i]);
        }
    }
    lua_pop(L, 1);
    lua_pushvalue(L, idx);
    luaL_setmetatable(L, saved_request_type);
    lua_pop(L, 1);
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

static void push_tls(lua_State *L, const struct tls_facts *facts)
{
    struct tls_info t;
    tls_facts_read(facts, &t);
    lua_createtable(L, 0, 6);
    lua_request_set_text(L, "version", t.version);
    lua_request_set_text(L, "cipher", t.cipher);
    lua_request_set_field(L, "sni", *t.sni ? slice_str(t.sni) : slice_of(NULL, 0));
    lua_request_set_field(L, "alpn", *t.alpn ? slice_str(t.alpn) : slice_of(NULL, 0));
    lua_pushboolean(L, t.resumed);
    lua_setfield(L, -2, "resumed");
    if (!t.has_client) {
        return;
    }
    lua_createtable(L, 0, 8); /* stack: tls, client */
    lua_request_set_text(L, "subject", t.subject);
    lua_request_set_text(L, "issuer", t.issuer);
    lua_request_set_text(L, "serial", t.serial);
    lua_request_set_text(L, "sha256", t.sha256);
    lua_pushinteger(L, (lua_Integer)t.not_after);
    lua_setfield(L, -2, "not_after");
    set_names(L, "dns", &t, TLS_NAME_DNS);
    set_names(L, "uri", &t, TLS_NAME_URI);
    set_names(L, "email", &t, TLS_NAME_EMAIL);
    lua_setfield(L, -2, "client");
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

static void push_common(lua_State *L, const struct policy_request *rq, bool credentials)
{
    struct request_id id;
    char ip[ADDRESS_TEXT_MAX];
    lua_request_id(rq, &id);
    peer_address_text(&rq->client, ip);
    luaL_checkstack(L, 10, NULL);
    lua_createtable(L, 0, 10); /* stack: request */
    lua_request_set_field(L, "id", slice_str(id.text));
    lua_request_set_field(L, "ip", slice_str(ip));
    lua_request_set_field(L, "method", rq->http ? rq->http->method_name : slice_str("GET"));
    lua_request_set_field(L, "path", rq->http ? rq->http->path : rq->path);
    lua_request_set_field(L, "last_event_id", rq->last_event_id);
    push_query(L, rq->query, credentials);
    lua_setfield(L, -2, "query");
    push_topics(L, rq->query);
    lua_setfield(L, -2, "topics");
}

void lua_request_push_saved(lua_State *L, const struct policy_request *rq)
{
    push_common(L, rq, false);
    luaL_setmetatable(L, saved_request_type);
}

void lua_request_push(lua_State *L, const struct policy_request *rq)
{
    push_common(L, rq, true);
    lua_request_push_headers(L, rq->http);
    lua_setfield(L, -2, "headers");
    set_credentials(L, rq->http);
    if (rq->http->tls) {
        push_tls(L, rq->http->tls);
        lua_setfield(L, -2, "tls");
    }
    luaL_setmetatable(L, request_type);
}
