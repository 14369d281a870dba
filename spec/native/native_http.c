/* net/http_*: request parser, query, response, CORS; base/utf8 through them. */
#include "base/text/json_text.h"
#include "native.h"
#include "net/message/http_chunk.h"
#include "net/message/http_cors.h"
#include "net/message/http_origin.h"
#include "net/message/http_parser.h"
#include "net/message/http_query.h"
#include "net/message/http_response.h"

#include <stdlib.h>
#include <uv.h>

enum { OUT_MAX = 1 << 20 };

static void set_slice(lua_State *L, const char *key, struct slice s)
{
    if (s.p) {
        lua_pushlstring(L, s.p, s.n);
        lua_setfield(L, -2, key);
    }
}

static size_t opt_size(lua_State *L, int table, const char *key, size_t otherwise)
{
    if (!lua_istable(L, table)) {
        return otherwise;
    }
    lua_getfield(L, table, key);
    size_t n = (size_t)luaL_optinteger(L, -1, (lua_Integer)otherwise);
    lua_pop(L, 1);
    return n;
}

static struct slice opt_slice(lua_State *L, int table, const char *key)
{
    size_t n = 0;
    lua_getfield(L, table, key);
    const char *p = lua_tolstring(L, -1, &n);
    lua_pop(L, 1); /* the table keeps it */
    return slice_of(p, p ? n : 0);
}

static bool opt_bool(lua_State *L, int table, const char *key)
{
    lua_getfield(L, table, key);
    bool b = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return b;
}

static void push_request(lua_State *L, const struct http_request *rq, size_t used)
{
    static const char *const states[] = {"head", "body", "complete", "failed"};
    static const char *const methods[] = {"GET", "HEAD", "POST", "OPTIONS", "DELETE", "other"};
    lua_newtable(L);
    set_slice(L, "state", slice_str(states[rq->state]));
    lua_pushinteger(L, (lua_Integer)used);
    lua_setfield(L, -2, "used");
    if (rq->state == HTTP_FAILED) {
        lua_pushinteger(L, rq->fail.status);
        lua_setfield(L, -2, "status");
        set_slice(L, "text", slice_str(rq->fail.text));
    }
    lua_newtable(L);
    for (size_t i = 0; i < rq->header_count; i++) {
        lua_newtable(L);
        lua_pushlstring(L, rq->headers[i].name.p, rq->headers[i].name.n);
        lua_rawseti(L, -2, 1);
        lua_pushlstring(L, rq->headers[i].value.p, rq->headers[i].value.n);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "headers");
    if (rq->state == HTTP_HEAD || rq->state == HTTP_FAILED) {
        return;
    }
    set_slice(L, "method", slice_str(methods[rq->method]));
    set_slice(L, "method_name", rq->method_name);
    set_slice(L, "target", rq->target);
    set_slice(L, "path", rq->path);
    set_slice(L, "query", rq->query);
    set_slice(L, "host", rq->host);
    set_slice(L, "body", strbuf_slice(&rq->body));
    lua_pushinteger(L, rq->minor);
    lua_setfield(L, -2, "minor");
    lua_pushboolean(L, rq->keep_alive);
    lua_setfield(L, -2, "keep_alive");
    lua_pushboolean(L, rq->expect_continue);
    lua_setfield(L, -2, "expect_continue");
}

/* request{ pieces }[, limits] -> what became of it, and `used` bytes of all pieces together. */
static int l_request(lua_State *L)
{
    struct http_limits limits = {.target_bytes = opt_size(L, 2, "target", 256),
                                 .head_bytes = opt_size(L, 2, "head", 2048),
                                 .headers = opt_size(L, 2, "headers", 32),
                                 .body_bytes = opt_size(L, 2, "body", 4096)};
    struct http_request rq;
    size_t used = 0;
    http_request_init(&rq, &limits);
    lua_Integer pieces = luaL_len(L, 1);
    for (lua_Integer i = 1; i <= pieces; i++) {
        size_t n;
        lua_rawgeti(L, 1, i);
        const char *p = lua_tolstring(L, -1, &n);
        size_t took = http_parser_feed(&rq, p, n);
        used += took;
        lua_pop(L, 1);
        if (took < n) {
            break;
        }
    }
    push_request(L, &rq, used);
    http_request_clear(&rq);
    return 1;
}

/* header(request text, name) -> value or nil */
static int l_header(lua_State *L)
{
    struct http_limits limits = {256, 2048, 32, 4096};
    struct http_request rq;
    size_t n;
    const char *p = luaL_checklstring(L, 1, &n);
    http_request_init(&rq, &limits);
    http_parser_feed(&rq, p, n);
    struct slice s = http_request_header(&rq, luaL_checkstring(L, 2));
    if (s.p) {
        lua_pushlstring(L, s.p, s.n);
    } else {
        lua_pushnil(L);
    }
    http_request_clear(&rq);
    return 1;
}

/* query(text[, name]) -> list of {name, value}, first value of `name`; or nil, error name */
static int l_query(lua_State *L)
{
    struct http_query q;
    size_t n;
    const char *p = luaL_optlstring(L, 1, NULL, &n);
    const char *name = luaL_optstring(L, 2, "");
    int rc = http_query_parse(&q, slice_of(p, p ? n : 0));
    if (rc) {
        lua_pushnil(L);
        lua_pushstring(L, uv_err_name(rc));
        return 2;
    }
    lua_newtable(L);
    for (size_t i = 0; i < q.count; i++) {
        lua_newtable(L);
        lua_pushlstring(L, q.params[i].name.p, q.params[i].name.n);
        lua_rawseti(L, -2, 1);
        lua_pushlstring(L, q.params[i].value.p, q.params[i].value.n);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    struct slice value = http_query_get(&q, name);
    if (value.p) {
        lua_pushlstring(L, value.p, value.n);
    } else {
        lua_pushnil(L);
    }
    http_query_clear(&q);
    return 2;
}

/* Pushes the buffer, or nil and the error's name; content must be as before on failure. */
static int push_out(lua_State *L, struct strbuf *out, int rc, const char *before)
{
    if (rc) {
        if (!slice_is(strbuf_slice(out), before)) {
            strbuf_clear(out);
            return luaL_error(L, "a failed append left something behind");
        }
        lua_pushnil(L);
        lua_pushstring(L, uv_err_name(rc));
    } else {
        lua_pushlstring(L, strbuf_slice(out).p, out->len);
        lua_pushnil(L);
    }
    strbuf_clear(out);
    return 2;
}

/* response{ status, content_type, body, fields, keep_alive, head_only, event_stream, chunks }[, max] */
static int l_response(lua_State *L)
{
    struct strbuf out;
    lua_settop(L, 2);
    lua_getfield(L, 1, "status");
    struct http_response r = {.status = (int)luaL_checkinteger(L, -1),
                              .content_type = opt_slice(L, 1, "content_type").p,
                              .body = opt_slice(L, 1, "body"),
                              .fields = opt_slice(L, 1, "fields")};
    struct http_framing f = {.keep_alive = opt_bool(L, 1, "keep_alive"),
                             .head_only = opt_bool(L, 1, "head_only"),
                             .event_stream = opt_bool(L, 1, "event_stream"),
                             .chunks = opt_bool(L, 1, "chunks")};
    strbuf_init(&out, (size_t)luaL_optinteger(L, 2, OUT_MAX));
    int rc = strbuf_append_str(&out, "<");
    rc = rc ? rc : http_response_render(&r, f, &out);
    return push_out(L, &out, rc, "<");
}

/* problem(status, detail, request_id[, max]) */
static int l_problem(lua_State *L)
{
    struct strbuf out;
    size_t detail_len = 0;
    const char *detail = luaL_optlstring(L, 2, NULL, &detail_len);
    strbuf_init(&out, (size_t)luaL_optinteger(L, 4, OUT_MAX));
    int rc = http_problem(&out, (int)luaL_checkinteger(L, 1),
                          slice_of(detail, detail ? detail_len : 0), luaL_optstring(L, 3, NULL));
    return push_out(L, &out, rc, "");
}

static int l_json_string(lua_State *L)
{
    struct strbuf out;
    size_t n;
    const char *p = luaL_checklstring(L, 1, &n);
    strbuf_init(&out, (size_t)luaL_optinteger(L, 2, OUT_MAX));
    return push_out(L, &out, json_text_quote(&out, slice_of(p, n)), "");
}

static int l_status_text(lua_State *L)
{
    lua_pushstring(L, http_status_text((int)luaL_checkinteger(L, 1)));
    return 1;
}

enum { ORIGINS_MOST = 8 };

/* The texts of the list in that field of 1; absent: none. */
static size_t check_texts(lua_State *L, const char *field, char *texts[ORIGINS_MOST])
{
    size_t count = 0;
    lua_getfield(L, 1, field);
    lua_Integer n = lua_isnil(L, -1) ? 0 : luaL_len(L, -1);
    for (lua_Integer i = 1; i <= n && i <= ORIGINS_MOST; i++) {
        lua_rawgeti(L, -1, i);
        texts[count++] = strdup(luaL_checkstring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return count;
}

/* { origins = {...}, headers = {...}, credentials, max_age } at 1; `texts` are freed with free_cors(). */
static struct http_cors check_cors(lua_State *L, char *texts[2 * ORIGINS_MOST])
{
    return (struct http_cors){.origins = texts,
                              .origin_count = check_texts(L, "origins", texts),
                              .headers = texts + ORIGINS_MOST,
                              .header_count = check_texts(L, "headers", texts + ORIGINS_MOST),
                              .credentials = opt_bool(L, 1, "credentials"),
                              .max_age_s = (unsigned)opt_size(L, 1, "max_age", 600)};
}

static void free_cors(const struct http_cors *cors)
{
    for (size_t i = 0; i < cors->origin_count; i++) {
        free(cors->origins[i]);
    }
    for (size_t i = 0; i < cors->header_count; i++) {
        free(cors->headers[i]);
    }
}

static void parse_text(lua_State *L, int arg, struct http_request *rq)
{
    static const struct http_limits limits = {256, 2048, 32, 4096};
    size_t len;
    const char *text = luaL_checklstring(L, arg, &len);
    http_request_init(rq, &limits);
    http_parser_feed(rq, text, len);
}

/* cors({ origins = {...}, headers = {...}, credentials, max_age }, request text[, methods: a preflight][, max]) */
static int l_cors(lua_State *L)
{
    char *texts[2 * ORIGINS_MOST];
    struct http_request rq;
    struct strbuf out;
    lua_settop(L, 4);
    struct http_cors cors = check_cors(L, texts);
    const char *methods = luaL_optstring(L, 3, NULL);
    strbuf_init(&out, (size_t)luaL_optinteger(L, 4, OUT_MAX));
    parse_text(L, 2, &rq);
    int rc = methods ? http_cors_preflight(&cors, &rq, methods, &out)
                     : http_cors_fields(&cors, &rq, &out);
    http_request_clear(&rq);
    free_cors(&cors);
    return push_out(L, &out, rc, "");
}

/* site({ origins = {...} }, request text) -> "own", "listed", "foreign" */
static int l_site(lua_State *L)
{
    static const char *const names[] = {"own", "listed", "foreign"};
    char *texts[2 * ORIGINS_MOST];
    struct http_request rq;
    struct http_cors cors = check_cors(L, texts);
    parse_text(L, 2, &rq);
    lua_pushstring(L, names[http_origin_site(&cors, &rq)]);
    http_request_clear(&rq);
    free_cors(&cors);
    return 1;
}

/* chunk_write(left, payload, n): what is written for `payload` when `left` bytes of a chunk are
 * promised; of that the kernel takes n bytes. -> all of it, the payload bytes among the n, what is
 * promised then, what has to leave first */
static int l_chunk_write(lua_State *L)
{
    struct http_chunk_write w;
    struct slice payload;
    struct slice rest;
    uint32_t left = (uint32_t)luaL_checkinteger(L, 1);
    payload.p = luaL_checklstring(L, 2, &payload.n);
    http_chunk_plan(&w, left, payload.n);
    lua_pushlstring(L, payload.p, w.before);
    lua_pushlstring(L, w.middle.p, w.middle.n);
    lua_pushlstring(L, payload.p + w.before, payload.n - w.before);
    lua_pushlstring(L, w.tail.n ? w.tail.p : "", w.tail.n);
    lua_concat(L, 4);
    size_t taken = http_chunk_taken(&w, (size_t)luaL_checkinteger(L, 3), &left, &rest);
    lua_pushinteger(L, (lua_Integer)taken);
    lua_pushinteger(L, (lua_Integer)left);
    lua_pushlstring(L, rest.n ? rest.p : "", rest.n);
    return 4;
}

int native_open_http(lua_State *L)
{
    static const luaL_Reg functions[] = {{"request", l_request},
                                         {"header", l_header},
                                         {"query", l_query},
                                         {"response", l_response},
                                         {"problem", l_problem},
                                         {"json_string", l_json_string},
                                         {"status_text", l_status_text},
                                         {"cors", l_cors},
                                         {"site", l_site},
                                         {"chunk_write", l_chunk_write},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
