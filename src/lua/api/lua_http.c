#include "lua/api/lua_http.h"

#include "base/logging.h"
#include "lua/api/lua_json.h"
#include "lua/vm/lua_box.h"
#include "lua/vm/lua_coro.h"
#include "lua/vm/lua_host.h"
#include "lua/vm/lua_readonly.h"
#include "lua/vm/lua_secret.h"
#include "lua/vm/lua_shape.h"
#include "net/client/http_url.h"

#include <stdlib.h>

enum {
    PARAMS_MAX = 32,   /* of a query */
    SEGMENTS_MAX = 32, /* of a path */
    HEADERS_MAX = 64,  /* the target's and the policy's */
    NAMES_MAX = 256,   /* targets */
    HEADER_NAME_MAX = 128,
    BODY_MAX_BYTES = 4 * 1024 * 1024,
    TIMEOUT_MAX_MS = 600000,
};

/* ---- the answer */

struct answer {
    const struct http_client_response *res; /* NULL: `e` */
    const struct err *e;
};

/* One line of the head into the table on top of the stack; of equal names all, joined by ", ". */
static void set_header(lua_State *L, const char *line, const char *end)
{
    char name[HEADER_NAME_MAX];
    const char *colon = memchr(line, ':', (size_t)(end - line));
    size_t n = colon ? (size_t)(colon - line) : 0;
    if (n == 0 || n > sizeof name) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        char c = line[i];
        name[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    const char *value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r')) {
        end--;
    }
    lua_pushlstring(L, name, n); /* stack: headers, name */
    lua_pushvalue(L, -1);
    int before = lua_rawget(L, -3); /* stack: headers, name, value before */
    lua_pushlstring(L, value, (size_t)(end - value));
    if (before == LUA_TSTRING) {
        lua_pushliteral(L, ", ");
        lua_insert(L, -2);
        lua_concat(L, 3);
    } else {
        lua_remove(L, -2);
    }
    lua_rawset(L, -3);
}

static void lua_http_push_headers(lua_State *L, struct slice head)
{
    lua_newtable(L);
    const char *end = head.p ? head.p + head.n : NULL;
    for (const char *p = head.p; p && p < end;) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        const char *stop = eol ? eol : end;
        set_header(L, p, stop);
        p = stop + 1;
    }
}

/* application/json, application/problem+json; charset=utf-8 ... */
static bool is_json(const struct http_client_response *res)
{
    struct slice type = http_client_header(res, "content-type");
    if (!type.p) {
        return false;
    }
    const char *semicolon = memchr(type.p, ';', type.n);
    if (semicolon) {
        type.n = (size_t)(semicolon - type.p);
    }
    while (type.n && type.p[type.n - 1] == ' ') {
        type.n--;
    }
    return slice_is_nocase(type, "application/json") ||
           (type.n > 5 && slice_is_nocase(slice_of(type.p + type.n - 5, 5), "+json"));
}

static int lua_http_push_answer(lua_State *L, void *ud)
{
    const struct answer *a = ud;
    struct lua_json_error why;
    luaL_checkstack(L, 12, NULL);
    if (!a->res) {
        lua_pushnil(L);
        lua_pushstring(L, a->e->text);
        return 2;
    }
    lua_createtable(L, 0, 4); /* stack: response */
    lua_pushinteger(L, a->res->status);
    lua_setfield(L, -2, "status");
    lua_pushlstring(L, a->res->body.p, a->res->body.n);
    lua_setfield(L, -2, "body");
    lua_http_push_headers(L, a->res->head);
    lua_setfield(L, -2, "headers");
    if (is_json(a->res) && lua_json_decode(L, a->res->body, &why) == LUA_JSON_OK) {
        lua_setfield(L, -2, "json");
    }
    return 1;
}

/* Said once when it begins and once when it is over. */
static void lua_http_note(struct lua_http_target *t, const struct err *e)
{
    if (e && !t->failing) {
        log_warn("http", "a target does not answer",
                 LOG_F(log_str("target", t->name), log_str("error", e->text)));
    } else if (!e && t->failing) {
        log_info("http", "a target answers again", LOG_F(log_str("target", t->name)));
    }
    t->failing = e != NULL;
}

static void lua_http_on_answer(void *ctx, uint64_t token, const struct http_client_response *res,
                               const struct err *e)
{
    struct lua_asked *asked = ctx;
    struct lua_http_service *s = asked->service;
    struct answer a = {res, e};
    (void)token;
    latency_add(&s->metrics->http_request, (uv_hrtime() - asked->since_ns) / 1000);
    if (!e || e->code != UV_ECANCELED) {
        lua_http_note(asked->about, e);
    }
    lua_coro_answer(asked, lua_http_push_answer, &a);
}

static void cancel(void *ctx, uint64_t id)
{
    struct lua_http_service *s = ctx;
    s->cancel(s->ctx, id);
}

/* ---- reading what is asked; all of it runs in the policy's call and may raise */

static struct lua_http_target *lua_http_find(lua_State *L, const char *what,
                                             struct lua_http_service *s, const char *name)
{
    const char *names[NAMES_MAX];
    size_t n = s ? s->target_count : 0;
    for (size_t i = 0; i < n && i < NAMES_MAX; i++) {
        if (strcmp(s->targets[i].name, name) == 0) {
            return &s->targets[i];
        }
        names[i] = s->targets[i].name;
    }
    lua_shape_unknown(L, what, "target", name, names, n);
    return NULL;
}

/* A scalar as text; numbers are converted on a copy that stays on the stack. */
static struct slice lua_http_text_of(lua_State *L, int at, const char *what)
{
    struct slice s = {0};
    int type = lua_type(L, at);
    if (type == LUA_TBOOLEAN) {
        return slice_str(lua_toboolean(L, at) ? "true" : "false");
    }
    if (type != LUA_TSTRING && type != LUA_TNUMBER) {
        luaL_error(L, "%s: a string, number or boolean was expected, got %s", what,
                   lua_secret_typename(L, at));
    }
    luaL_checkstack(L, 4, NULL);
    lua_pushvalue(L, at);
    s.p = lua_tolstring(L, -1, &s.n);
    return s;
}

static int lua_http_by_name(const void *a, const void *b)
{
    const struct http_url_param *x = a, *y = b;
    size_t n = x->name.n < y->name.n ? x->name.n : y->name.n;
    int c = memcmp(x->name.p, y->name.p, n);
    return c ? c : (x->name.n > y->name.n) - (x->name.n < y->name.n);
}

/* Pushes opts[name], a table or nothing; what is in it stays on the stack. */
static int lua_http_push_table(lua_State *L, int opts, const char *what, const char *name)
{
    int type = lua_shape_field(L, opts, name);
    if (type == LUA_TNIL) {
        return 0;
    }
    int at = lua_gettop(L);
    if (lua_type(L, at) != LUA_TTABLE) {
        luaL_error(L, "%s: %s: a table was expected, got %s", what, name, luaL_typename(L, at));
    }
    return at;
}

static size_t lua_http_read_query(lua_State *L, int opts, const char *what,
                                  struct http_url_param *out)
{
    size_t n = 0;
    int t = lua_http_push_table(L, opts, what, "query");
    lua_pushnil(L);
    while (t && lua_next(L, t)) { /* stack: ..., key, value */
        int value = lua_gettop(L);
        if (n == PARAMS_MAX || lua_type(L, value - 1) != LUA_TSTRING) {
            luaL_error(L, "%s: query: at most %d parameters with names were expected", what,
                       PARAMS_MAX);
        }
        out[n].name.p = lua_tolstring(L, value - 1, &out[n].name.n);
        out[n++].value = lua_http_text_of(L, value, what); /* its copy takes a place */
        lua_pushvalue(L, value - 1);                       /* the key, for lua_next() */
    }
    if (n) {
        qsort(out, n, sizeof *out, lua_http_by_name);
    }
    return n;
}

static void read_path(lua_State *L, int opts, const char *what, struct http_url_parts *out,
                      struct slice *segments)
{
    int type = lua_shape_field(L, opts, "path");
    if (type == LUA_TNIL) {
        return;
    }
    if (type == LUA_TSTRING) {
        out->path.p = lua_tolstring(L, -1, &out->path.n);
        return;
    }
    int t = lua_http_push_table(L, opts, what, "path");
    size_t n = lua_rawlen(L, t);
    if (n == 0 || n > SEGMENTS_MAX) {
        luaL_error(L, "%s: path: a text, or a list of 1 to %d segments was expected", what,
                   SEGMENTS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, t, (lua_Integer)i + 1);
        segments[i] = lua_http_text_of(L, lua_gettop(L), what);
    }
    out->segments = segments;
    out->segment_count = n;
}

/* The target's headers, then the policy's. */
static size_t read_headers(lua_State *L, int opts, const char *what,
                           const struct lua_http_target *target, struct http_client_header *out)
{
    struct err e;
    size_t n = 0;
    for (; n < target->header_count && n < HEADERS_MAX; n++) {
        out[n] = target->headers[n];
    }
    int t = lua_http_push_table(L, opts, what, "headers");
    lua_pushnil(L);
    while (t && lua_next(L, t)) {
        int value = lua_gettop(L);
        if (n == HEADERS_MAX || lua_type(L, value - 1) != LUA_TSTRING) {
            luaL_error(L, "%s: headers: at most %d with names were expected", what, HEADERS_MAX);
        }
        out[n].name.p = lua_tolstring(L, value - 1, &out[n].name.n);
        struct slice secret = lua_secret_bytes(L, value);
        out[n].value = secret.p ? secret : lua_http_text_of(L, value, what);
        if (secret.p) {
            luaL_checkstack(L, 4, NULL);
            lua_pushvalue(L, value); /* takes the place of the copy */
        }
        if (http_client_check_header(&out[n], &e)) {
            luaL_error(L, "%s: headers: %s", what, e.text);
        }
        n++;
        lua_pushvalue(L, value - 1);
    }
    return n;
}

/* Leaves it on the stack. False: `e` says why there is none. */
static bool push_url(lua_State *L, int opts, const char *what, const struct lua_http_target *target,
                     struct err *e)
{
    struct http_url_param params[PARAMS_MAX];
    struct slice segments[SEGMENTS_MAX];
    struct http_url_parts parts = {.query = params};
    if (opts) {
        parts.query_count = lua_http_read_query(L, opts, what, params);
        read_path(L, opts, what, &parts, segments);
    }
    struct lua_box *box = lua_box_push(L, HTTP_CLIENT_URL_MAX_BYTES);
    int at = lua_gettop(L);
    bool good = http_url_join(&box->text, target->url, &parts, e) == 0;
    lua_pushlstring(L, good ? box->text.data : "", good ? box->text.len : 0);
    lua_closeslot(L, at);
    return good;
}

/* opts.body, or opts.json as text; stays on the stack. True: it is JSON. */
static bool read_body(lua_State *L, int opts, const char *what, struct slice *out)
{
    if (lua_shape_field(L, opts, "body") != LUA_TNIL) {
        *out = lua_secret_or_string(L, -1, what);
        if (lua_shape_field(L, opts, "json") != LUA_TNIL) {
            luaL_error(L, "%s: body and json exclude each other", what);
        }
        return false;
    }
    if (lua_shape_field(L, opts, "json") == LUA_TNIL) {
        return false;
    }
    int value = lua_gettop(L);
    struct lua_box *box = lua_box_push(L, BODY_MAX_BYTES);
    int at = lua_gettop(L);
    lua_json_encode(L, value, "json", LUA_JSON_ANY, &box->text);
    lua_pushlstring(L, box->text.data, box->text.len);
    out->p = lua_tolstring(L, -1, &out->n);
    lua_closeslot(L, at);
    return true;
}

static unsigned read_timeout(lua_State *L, int opts, const struct lua_http_target *target)
{
    lua_Integer ms = target->timeout_ms;
    if (opts && lua_shape_field(L, opts, "timeout_ms") != LUA_TNIL) {
        lua_Integer own = lua_shape_integer(L, -1, "timeout_ms", 1, TIMEOUT_MAX_MS);
        ms = own < ms ? own : ms;
    }
    lua_Integer left = (lua_Integer)lua_coro_left_ms(L);
    return (unsigned)(left < ms ? left : ms);
}

/* ---- asking */

static int lua_http_begin(lua_State *L, uint64_t ticket, struct lua_http_service *s,
                          struct lua_http_target *target, const struct http_client_request *rq)
{
    struct err e = {0};
    struct lua_asked *asked = lua_coro_asked(L, ticket, cancel, s, target);
    int rc = s->start(s->ctx, target, rq, lua_http_on_answer, asked, 0, &asked->id, &e);
    return lua_coro_await(L, asked, rc, &e);
}

static int lua_http_ask(lua_State *L, bool post, const char *what, const char *const *keys)
{
    uint64_t ticket = lua_coro_begin(L, what);
    const struct lua_host *host = lua_vm_host(L);
    struct lua_http_target *target = lua_http_find(L, what, host->http, luaL_checkstring(L, 1));
    if (!target) {
        return 0; /* not reached: lua_http_find() raises */
    }
    struct http_client_header headers[HEADERS_MAX + 1];
    struct http_client_request rq = {.post = post,
                                     .headers = headers,
                                     .max_response_bytes = target->max_response_bytes,
                                     .ca_file = target->ca_file};
    struct err e = {0};
    int opts = lua_isnoneornil(L, 2) ? 0 : 2;
    lua_settop(L, 2);
    luaL_checkstack(L, 3 * (PARAMS_MAX + SEGMENTS_MAX + HEADERS_MAX) + LUA_MINSTACK, NULL);
    if (opts) {
        lua_shape_closed(L, opts, what, keys);
    }
    if (!push_url(L, opts, what, target, &e)) {
        lua_pushnil(L);
        lua_pushstring(L, e.text);
        return 2;
    }
    rq.url = lua_tostring(L, -1);
    rq.timeout_ms = read_timeout(L, opts, target);
    if (opts) {
        bool json = post && read_body(L, opts, what, &rq.body);
        rq.header_count = read_headers(L, opts, what, target, headers);
        if (json) {
            headers[rq.header_count++] = (struct http_client_header){slice_str("Content-Type"),
                                                                     slice_str("application/json")};
        }
    } else {
        rq.headers = target->headers;
        rq.header_count = target->header_count;
    }
    return lua_http_begin(L, ticket, host->http, target, &rq);
}

/* http.get(target, opts) -> { status, body, headers, json } | nil, text */
static int lua_http_l_get(lua_State *L)
{
    static const char *const keys[] = {"path", "query", "headers", "timeout_ms", NULL};
    return lua_http_ask(L, false, "http.get", keys);
}

static int lua_http_l_post(lua_State *L)
{
    static const char *const keys[] = {"path", "query", "headers", "timeout_ms",
                                       "body", "json",  NULL};
    return lua_http_ask(L, true, "http.post", keys);
}

void lua_http_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"get", lua_http_l_get}, {"post", lua_http_l_post}, {NULL, NULL}};
    luaL_newlib(L, functions);
    lua_readonly_wrap(L, "http");
    lua_setfield(L, -2, "http");
}
