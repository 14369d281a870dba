/* See test_fakes.h. A call is copied as JSON text between the two Lua states: neither ever sees a
 * value of the other's.
 *
 * Policy tests put a database and servers behind the functions that the broker has: what those refuse, tests
 * refuse. eval and check judge calls by themselves, so there the functions are others, which take anything. */
#include "tools/test/test_fakes.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/text/json_text.h"
#include "lookup/query_sql.h"
#include "lua/api/lua_json.h"
#include "lua/api/lua_jwt.h"
#include "lua/vm/lua_box.h"
#include "lua/vm/lua_coro.h"
#include "lua/vm/lua_readonly.h"
#include "lua/vm/lua_secret.h"
#include "lua/vm/lua_shape.h"
#include "tools/test/test_values.h"

#include <inttypes.h>
#include <jansson.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum {
    ARGUMENTS_MAX_BYTES = 1024 * 1024,
    NAME_MAX_BYTES = 256,
    ROWS_MAX = 100000,
    ROWS_MAX_BYTES = 64 * 1024 * 1024,
    HTTP_TIMEOUT_MS = 60000,
    HTTP_BODY_MAX_BYTES = 64 * 1024 * 1024,
    HTTP_HEAD_MAX_BYTES = 64 * 1024,
};

struct call {
    struct list node;
    uint64_t ticket;
    const char *kind; /* constant */
    char name[NAME_MAX_BYTES];
    size_t len;
    char arguments[]; /* JSON */
};

/* A declared query. */
struct test_query {
    struct list node;
    char *name; /* owned */
    unsigned parameters;
};

/* What the broker's own functions ask. */
struct test_question {
    struct list node;
    uint64_t id;
    const char *kind; /* constant */
    const char *name; /* borrowed: of a query, of a target */
    struct strbuf arguments;
    query_done_cb on_rows;  /* one of the two */
    struct query_sink sink; /* of the rows; `row` NULL: there is none */
    http_client_cb on_response;
    size_t max_bytes; /* of a response */
    void *ctx;
    uint64_t token;
};

struct test_fakes {
    struct query_source queries; /* the first: they are each other's pointer */
    struct lua_http_service http;
    struct policy_metrics muted;
    struct list declared;  /* struct test_query */
    struct list questions; /* struct test_question */
    uint64_t question_ids;
    char *options;         /* owned; of the call of http that is going on, a JSON list */
    bool own_db, own_http; /* the broker's functions are asked */
    lua_State *spec;
    int respond, failures; /* in the spec's registry */
    struct lua_waits *waits;
    struct loop *loop;
    struct list calls;
    struct task task;
};

/* ---- in the spec's state */

struct answer {
    bool ok;
    char *text; /* owned: JSON, or the error */
    size_t n;
};

/* Asks the spec; what it raises is its answer, too, so that a broken spec shows. */
static struct answer test_fakes_ask(struct test_fakes *f, const char *kind, const char *name,
                                    struct slice arguments)
{
    lua_State *L = f->spec;
    int top = lua_gettop(L);
    struct answer a = {.ok = false};
    size_t n = 0;
    lua_rawgeti(L, LUA_REGISTRYINDEX, f->respond);
    lua_pushstring(L, kind);
    lua_pushstring(L, name);
    lua_pushlstring(L, arguments.p, arguments.n);
    int rc = lua_pcall(L, 3, 2, 0);
    a.ok = rc == LUA_OK && lua_type(L, -2) == LUA_TSTRING;
    const char *text = a.ok ? lua_tolstring(L, -2, &n) : lua_tolstring(L, -1, &n);
    a.text = xstrndup(text ? text : "no answer", text ? n : 9);
    a.n = text ? n : 9;
    lua_settop(L, top);
    return a;
}

/* ---- in the policy's state */

static int test_fakes_push_answer(lua_State *L, void *ud)
{
    const struct answer *a = ud;
    struct lua_json_error why;
    if (!a->ok) {
        lua_pushnil(L);
        lua_pushlstring(L, a->text, a->n);
        return 2;
    }
    if (lua_json_decode(L, slice_of(a->text, a->n), &why) != LUA_JSON_OK) {
        return luaL_error(L, "the spec's answer cannot be read: %s", why.text);
    }
    return 1;
}

static void call_free(struct call *c)
{
    list_del(&c->node);
    free(c);
}

static void test_fakes_answer_questions(struct test_fakes *f);

static void answer_all(struct task *t)
{
    struct test_fakes *f = container_of(t, struct test_fakes, task);
    struct list due;
    list_init(&due);
    list_splice_tail(&due, &f->calls);
    while (!list_empty(&due)) {
        struct call *c = list_first(&due, struct call, node);
        struct answer a = test_fakes_ask(f, c->kind, c->name, slice_of(c->arguments, c->len));
        (void)lua_coro_complete(f->waits, c->ticket, test_fakes_push_answer,
                                &a); /* gone: there is no one to answer */
        free(a.text);
        call_free(c);
    }
    test_fakes_answer_questions(f);
}

/* Pushes the value at `idx`; of a secret its text, also in a table of headers: it is the spec's own. */
static void push_shown(lua_State *L, int idx, int depth)
{
    struct slice secret = lua_secret_bytes(L, idx);
    if (secret.p) {
        lua_pushlstring(L, secret.p, secret.n);
        return;
    }
    lua_pushvalue(L, idx);
    int from = lua_gettop(L);
    if (depth == 0 || lua_type(L, from) != LUA_TTABLE || lua_readonly_real(L, from) ||
        lua_rawlen(L, from)) {
        lua_settop(L, from); /* nothing in there can be one */
        return;
    }
    luaL_checkstack(L, 8, NULL);
    lua_newtable(L); /* stack: table, copy */
    lua_pushnil(L);
    while (lua_next(L, from)) { /* stack: table, copy, key, value */
        lua_pushvalue(L, -2);
        push_shown(L, lua_gettop(L) - 1, depth - 1);
        lua_rawset(L, from + 1);
        lua_pop(L, 1);
    }
    lua_replace(L, from);
}

/* (...) -> the arguments as a JSON list */
static int l_arguments(lua_State *L)
{
    int n = lua_gettop(L);
    lua_createtable(L, n, 0);
    for (int i = 1; i <= n; i++) {
        if (lua_isnil(L, i)) {
            lua_pushlightuserdata(L, NULL); /* json.null */
        } else {
            push_shown(L, i, 2);
        }
        lua_rawseti(L, -2, i);
    }
    lua_json_mark_array(L);
    struct lua_box *box = lua_box_push(L, ARGUMENTS_MAX_BYTES);
    lua_json_encode(L, n + 1, "arguments", LUA_JSON_ANY, &box->text);
    lua_pushlstring(L, box->text.data, box->text.len);
    return 1;
}

/* stack: name, then what is handed on */
static int test_fakes_start(lua_State *L, const char *kind, const char *what)
{
    struct test_fakes *f = lua_touserdata(L, lua_upvalueindex(1));
    uint64_t ticket = lua_coro_begin(L, what);
    size_t name_len, n;
    const char *name = luaL_checklstring(L, 1, &name_len);
    luaL_argcheck(L, name_len < NAME_MAX_BYTES, 1, "too long");
    lua_pushcfunction(L, l_arguments);
    lua_insert(L, 2); /* stack: name, function, arguments... */
    lua_call(L, lua_gettop(L) - 2, 1);
    const char *arguments = lua_tolstring(L, 2, &n);
    struct call *c = xcalloc(1, sizeof *c + n + 1);
    c->ticket = ticket;
    c->kind = kind;
    memcpy(c->name, name, name_len);
    memcpy(c->arguments, arguments, n);
    c->len = n;
    list_init(&c->node);
    list_add_tail(&f->calls, &c->node);
    loop_defer(f->loop, &f->task);
    return lua_coro_wait(L, ticket, &(struct lua_wait){.abandon = NULL});
}

static int l_query(lua_State *L)
{
    return test_fakes_start(L, "db", "db.query");
}

static int test_fakes_l_get(lua_State *L)
{
    return test_fakes_start(L, "http", "http.get");
}

static int test_fakes_l_post(lua_State *L)
{
    return test_fakes_start(L, "http", "http.post");
}

static void set_library(lua_State *L, struct test_fakes *f, const char *name,
                        const luaL_Reg *functions)
{
    lua_newtable(L);
    lua_pushlightuserdata(L, f);
    luaL_setfuncs(L, functions, 1);
    lua_readonly_wrap(L, name);
    lua_setfield(L, -2, name);
}

/* The text `name` of the table at 2, or the first one of a list there, into the spec's table on top
 * of its stack. */
static void test_fakes_copy_want(lua_State *L, lua_State *spec, const char *name)
{
    size_t n;
    if (lua_shape_field(L, 2, name) == LUA_TTABLE) { /* it sees through views */
        lua_rawgeti(L, -1, 1);
        lua_remove(L, -2);
    }
    if (lua_type(L, -1) == LUA_TSTRING) {
        const char *text = lua_tolstring(L, -1, &n);
        lua_pushlstring(spec, text, n);
        lua_setfield(spec, -2, name);
    }
    lua_pop(L, 1);
}

/* tg.jwt, which is watched: the arguments are handed on where they are. */
static int l_jwt(lua_State *L)
{
    const struct test_fakes *f = lua_touserdata(L, lua_upvalueindex(1));
    lua_State *spec = f->spec;
    int top = lua_gettop(spec);
    bool wanted = lua_rawgeti(spec, LUA_REGISTRYINDEX, f->failures) == LUA_TTABLE &&
                  lua_getfield(spec, -1, "tokens") == LUA_TTABLE;
    if (wanted && lua_type(L, 2) == LUA_TTABLE) {
        static const char *const names[] = {"keys", "alg", "iss", "aud", "typ"};
        lua_createtable(spec, 0, sizeof names / sizeof *names);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            test_fakes_copy_want(L, spec, names[i]);
        }
        lua_rawseti(spec, -2, (lua_Integer)lua_rawlen(spec, -2) + 1);
    }
    lua_settop(spec, top);
    return lua_jwt(L);
}

/* The member of the real table: `tg` is a view of it. */
static void test_fakes_watch_jwt(lua_State *L, struct test_fakes *f)
{
    lua_getfield(L, -1, "tg"); /* env, view */
    if (lua_readonly_real(L, -1)) {
        lua_pushlightuserdata(L, f);
        lua_pushcclosure(L, l_jwt, 1);
        lua_setfield(L, -2, "jwt");
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* http.get and http.post of the broker, which has no words for the options that the policy has given: the spec
 * gets them. */
static int test_fakes_http(lua_State *L)
{
    struct test_fakes *f = lua_touserdata(L, lua_upvalueindex(1));
    lua_CFunction ask = lua_tocfunction(L, lua_upvalueindex(2));
    int n = lua_gettop(L);
    luaL_checkstack(L, 6, NULL);
    lua_pushcfunction(L, l_arguments);
    if (n >= 2) {
        lua_pushvalue(L, 2);
    } else {
        lua_pushnil(L);
    }
    int rc = lua_pcall(L, 1, 1, 0); /* a secret among them: not for specs */
    free(f->options);
    f->options = xstrdup(rc == LUA_OK ? lua_tostring(L, -1) : "[{}]");
    lua_settop(L, n);
    return ask(L);
}

/* stack: the policy's globals */
static void test_fakes_wrap_http(lua_State *L, struct test_fakes *f)
{
    static const char *const names[] = {"get", "post"};
    lua_getfield(L, -1, "http");
    if (!lua_readonly_real(L, -1)) {
        lua_pushvalue(L, -1);
    }
    lua_newtable(L); /* stack: globals, http, real, own */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lua_pushlightuserdata(L, f);
        lua_getfield(L, -3, names[i]);
        lua_pushcclosure(L, test_fakes_http, 2);
        lua_setfield(L, -2, names[i]);
    }
    lua_readonly_wrap(L, "http");
    lua_setfield(L, -4, "http");
    lua_pop(L, 2);
}

void test_fakes_extend(lua_State *L, void *ctx)
{
    struct test_fakes *f = ctx;
    static const luaL_Reg db[] = {{"query", l_query}, {NULL, NULL}};
    static const luaL_Reg http[] = {
        {"get", test_fakes_l_get}, {"post", test_fakes_l_post}, {NULL, NULL}};
    if (!f->own_db) {
        set_library(L, f, "db", db);
    }
    if (f->own_http) {
        test_fakes_wrap_http(L, f);
    } else {
        set_library(L, f, "http", http);
    }
    test_fakes_watch_jwt(L, ctx);
}

/* ---- a database and servers, behind the broker's own functions */

static void test_question_free(struct test_question *q)
{
    list_del(&q->node);
    if (q->sink.row) {
        q->sink.release(q->sink.ctx);
    }
    strbuf_clear(&q->arguments);
    free(q);
}

static struct test_question *test_question_new(struct test_fakes *f, const char *kind,
                                               const char *name, void *ctx, uint64_t token,
                                               uint64_t *id)
{
    struct test_question *q = xcalloc(1, sizeof *q);
    q->id = ++f->question_ids;
    q->kind = kind;
    q->name = name;
    q->ctx = ctx;
    q->token = token;
    strbuf_init(&q->arguments, ARGUMENTS_MAX_BYTES);
    list_init(&q->node);
    list_add_tail(&f->questions, &q->node);
    if (id) {
        *id = q->id;
    }
    loop_defer(f->loop, &f->task);
    return q;
}

static void test_fakes_cancel(void *ctx, uint64_t id)
{
    struct test_fakes *f = ctx;
    list_for_each_safe (it, next, &f->questions) {
        struct test_question *q = container_of(it, struct test_question, node);
        if (q->id == id) {
            test_question_free(q);
        }
    }
}

static int test_fakes_declare(struct query_source *s, struct slice name, struct slice sql,
                              const struct query **out, struct err *e)
{
    struct test_fakes *f = container_of(s, struct test_fakes, queries);
    int n = query_sql_parameters(sql, e);
    if (n < 0) {
        return n;
    }
    struct test_query *q = xcalloc(1, sizeof *q);
    q->name = xstrndup(name.p, name.n);
    q->parameters = (unsigned)n;
    list_init(&q->node);
    list_add_tail(&f->declared, &q->node);
    *out = (const struct query *)(const void *)q;
    return 0;
}

static unsigned test_fakes_parameters(const struct query *q)
{
    return ((const struct test_query *)(const void *)q)->parameters;
}

static int test_fakes_put_value(struct strbuf *out, const struct query_value *v)
{
    switch (v->type) {
    case QUERY_NULL:
        break;
    case QUERY_INTEGER:
        return strbuf_printf(out, "%" PRId64, v->integer);
    case QUERY_NUMBER:
        return strbuf_printf(out, "%.17g", v->number);
    case QUERY_BOOL:
        return strbuf_append_str(out, v->boolean ? "true" : "false");
    case QUERY_TEXT:
        return json_text_quote(out, v->text);
    }
    return strbuf_append_str(out, "null");
}

static int test_fakes_ask_query(struct query_source *s, const struct query_question *question,
                                query_done_cb cb, void *ctx, uint64_t token, uint64_t *id,
                                struct err *e)
{
    struct test_fakes *f = container_of(s, struct test_fakes, queries);
    const struct test_query *of = (const struct test_query *)(const void *)question->query;
    const char *kind = question->sink ? "set" : "db"; /* no hook has asked it */
    struct test_question *q = test_question_new(f, kind, of->name, ctx, token, id);
    q->on_rows = cb;
    int rc = strbuf_append_str(&q->arguments, "[");
    for (size_t i = 0; rc == 0 && i < question->arg_count; i++) {
        rc = i ? strbuf_append_str(&q->arguments, ",") : 0;
        rc = rc ? rc : test_fakes_put_value(&q->arguments, &question->args[i]);
    }
    rc = rc ? rc : strbuf_append_str(&q->arguments, "]");
    if (rc) {
        test_question_free(q);
        return err_set(e, UV_EINVAL, "the arguments are longer than %d bytes", ARGUMENTS_MAX_BYTES);
    }
    q->sink = question->sink ? *question->sink : (struct query_sink){.row = NULL};
    return 0;
}

static void test_fakes_cancel_query(struct query_source *s, uint64_t id)
{
    test_fakes_cancel(container_of(s, struct test_fakes, queries), id);
}

static const struct query_source_ops test_fakes_query_ops = {.declare = test_fakes_declare,
                                                             .parameters = test_fakes_parameters,
                                                             .ask = test_fakes_ask_query,
                                                             .cancel = test_fakes_cancel_query};

static int test_fakes_start_http(void *ctx, const struct lua_http_target *target,
                                 const struct http_client_request *rq, http_client_cb cb,
                                 void *cb_ctx, uint64_t token, uint64_t *id, struct err *e)
{
    struct test_fakes *f = ctx;
    struct test_question *q = test_question_new(f, "http", target->name, cb_ctx, token, id);
    size_t n = f->options ? strlen(f->options) : 0;
    q->on_response = cb;
    q->max_bytes = rq->max_response_bytes;
    int rc =
        n > 2 ? strbuf_append(&q->arguments, f->options, n - 1) : UV_EINVAL; /* without the ] */
    rc = rc ? rc : strbuf_append_str(&q->arguments, rq->post ? ",\"POST\"]" : ",\"GET\"]");
    if (rc) {
        test_question_free(q);
        return err_set(e, UV_EINVAL, "the options cannot be handed to the spec");
    }
    return 0;
}

static void test_fakes_answer_query(const struct test_question *q, const json_t *answer,
                                    struct err *e)
{
    struct query_rows rows;
    query_rows_init(&rows, ROWS_MAX, ROWS_MAX_BYTES);
    int rc = e->code       ? e->code
             : q->sink.row ? test_rows_read_values(answer, &q->sink, e)
                           : test_rows_read(answer, &rows, e);
    if (rc) {
        q->on_rows(q->ctx, q->token, NULL, e);
    } else {
        q->on_rows(q->ctx, q->token, &rows, NULL);
    }
    query_rows_clear(&rows);
}

/* `json` of the answer goes as its text and type; `headers` as lines. */
static int test_fakes_read_head(const json_t *answer, struct strbuf *head, struct err *e)
{
    const char *name;
    json_t *value, *headers = json_object_get(answer, "headers");
    int rc = json_object_get(answer, "json")
                 ? strbuf_append_str(head, "content-type: application/json\r\n")
                 : 0;
    json_object_foreach(headers, name, value)
    {
        rc = rc ? rc : strbuf_printf(head, "%s: %s\r\n", name, json_string_value(value));
    }
    return rc ? err_set(e, rc, "the spec's answer: headers are longer than %d bytes",
                        HTTP_HEAD_MAX_BYTES)
              : 0;
}

static const char *test_fakes_check_response(const json_t *answer)
{
    static const char *const known[] = {"status", "body", "headers", "json"};
    const char *name;
    json_t *value, *headers = json_object_get(answer, "headers");
    const json_t *status = json_object_get(answer, "status"),
                 *body = json_object_get(answer, "body");
    if (!json_is_object(answer) || (status && !json_is_integer(status)) ||
        (body && !json_is_string(body)) || (headers && !json_is_object(headers))) {
        return "{ status = 200, body = \"...\" } was expected, or json = ... instead of a body, and "
               "headers = { name = \"value\" }";
    }
    json_object_foreach((json_t *)(uintptr_t)answer, name, value)
    {
        bool there = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            there = there || strcmp(known[i], name) == 0;
        }
        if (!there) {
            return "status, body, json and headers are all there is";
        }
    }
    json_object_foreach(headers, name, value)
    {
        if (!json_is_string(value)) {
            return "headers: texts were expected";
        }
    }
    return NULL;
}

static void test_fakes_answer_http(struct test_fakes *f, const struct test_question *q,
                                   const json_t *answer, struct err *e)
{
    struct strbuf head;
    const char *bad = e->code ? NULL : test_fakes_check_response(answer);
    const json_t *json = json_object_get(answer, "json"),
                 *status = json_object_get(answer, "status"),
                 *body = json_object_get(answer, "body");
    char *text = json ? json_dumps(json, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    strbuf_init(&head, HTTP_HEAD_MAX_BYTES);
    if (bad) {
        err_set(e, UV_EINVAL, "the spec's answer: %s", bad);
    }
    if (e->code == 0) {
        (void)test_fakes_read_head(answer, &head, e); /* sets e->code where it fails */
    }
    struct http_client_response res = {
        .status = status ? (int)json_integer_value(status) : 200,
        .body = text   ? slice_str(text)
                : body ? slice_of(json_string_value(body), json_string_length(body))
                       : slice_str(""),
        .head = strbuf_slice(&head)};
    for (size_t i = 0; i < f->http.target_count; i++) {
        f->http.targets[i].failing = e->code != 0; /* nothing of it is news */
    }
    q->on_response(q->ctx, q->token, e->code ? NULL : &res, e->code ? e : NULL);
    strbuf_clear(&head);
    free(text);
}

static void test_fakes_answer_questions(struct test_fakes *f)
{
    while (!list_empty(&f->questions)) {
        struct test_question *q = list_first(&f->questions, struct test_question, node);
        struct err e = {0};
        struct answer a = test_fakes_ask(f, q->kind, q->name, strbuf_slice(&q->arguments));
        json_t *answer = a.ok ? json_loadb(a.text, a.n, JSON_DECODE_ANY, NULL) : NULL;
        struct test_question asked = *q;
        q->arguments = (struct strbuf){0};
        q->sink.row = NULL;
        test_question_free(q); /* the answer may end its hook */
        if (!a.ok) {
            err_set(&e, UV_ENOTCONN, "%.*s", (int)a.n, a.text);
        } else if (!answer) {
            err_set(&e, UV_EINVAL, "the spec's answer cannot be read");
        }
        if (asked.on_rows) {
            test_fakes_answer_query(&asked, answer, &e);
        } else {
            test_fakes_answer_http(f, &asked, answer, &e);
        }
        if (asked.sink.row) {
            asked.sink.release(asked.sink.ctx);
        }
        strbuf_clear(&asked.arguments);
        json_decref(answer);
        free(a.text);
    }
}

struct query_source *test_fakes_queries(struct test_fakes *f)
{
    return &f->queries;
}

struct lua_http_service *test_fakes_service(struct test_fakes *f)
{
    return f->own_http ? &f->http : NULL;
}

/* ---- life */

void test_fakes_failed(void *ctx, const struct policy_failure *failure)
{
    const struct test_fakes *f = ctx;
    lua_State *L = f->spec;
    const char *const texts[][2] = {{"hook", policy_hook_name(failure->hook)},
                                    {"at", failure->where},
                                    {"text", failure->text},
                                    {"traceback", failure->traceback}};
    if (lua_rawgeti(L, LUA_REGISTRYINDEX, f->failures) == LUA_TTABLE) {
        lua_createtable(L, 0, 5); /* stack: list, failure */
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            lua_pushstring(L, texts[i][1]);
            lua_setfield(L, -2, texts[i][0]);
        }
        lua_pushboolean(L, failure->transient);
        lua_setfield(L, -2, "transient");
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    }
    lua_pop(L, 1);
}

struct test_fakes *test_fakes_new(lua_State *spec, int respond, int failures)
{
    struct test_fakes *f = xcalloc(1, sizeof *f);
    f->spec = spec;
    lua_pushvalue(spec, respond);
    f->respond = luaL_ref(spec, LUA_REGISTRYINDEX);
    lua_pushvalue(spec, failures);
    f->failures = luaL_ref(spec, LUA_REGISTRYINDEX);
    list_init(&f->calls);
    list_init(&f->declared);
    list_init(&f->questions);
    task_init(&f->task, answer_all);
    f->queries.ops = &test_fakes_query_ops;
    f->http = (struct lua_http_service){.start = test_fakes_start_http,
                                        .cancel = test_fakes_cancel,
                                        .ctx = f,
                                        .metrics = &f->muted};
    return f;
}

/* Their names are in a sorted list at `idx` of the spec's stack. */
static void test_fakes_set_targets(struct test_fakes *f, lua_State *L, int idx)
{
    size_t n = lua_rawlen(L, idx);
    f->http.targets = xcalloc(n + 1, sizeof *f->http.targets);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, idx, (lua_Integer)i + 1);
        f->http.targets[i] = (struct lua_http_target){.name = xstrdup(luaL_checkstring(L, -1)),
                                                      .url = "http://target.test",
                                                      .timeout_ms = HTTP_TIMEOUT_MS,
                                                      .max_response_bytes = HTTP_BODY_MAX_BYTES};
        f->http.target_count = i + 1;
        lua_pop(L, 1);
    }
}

void test_fakes_behind(struct test_fakes *f, lua_State *L, int targets)
{
    f->own_db = true;
    if (lua_istable(L, targets)) {
        f->own_http = true;
        test_fakes_set_targets(f, L, targets);
    }
}

void test_fakes_use(struct test_fakes *f, struct lua_waits *waits)
{
    f->waits = waits;
    f->loop = lua_waits_loop(waits);
}

void test_fakes_free(struct test_fakes *f)
{
    if (f) {
        while (!list_empty(&f->calls)) {
            call_free(list_first(&f->calls, struct call, node));
        }
        while (!list_empty(&f->questions)) {
            test_question_free(list_first(&f->questions, struct test_question, node));
        }
        while (!list_empty(&f->declared)) {
            struct test_query *q = list_first(&f->declared, struct test_query, node);
            list_del(&q->node);
            free(q->name);
            free(q);
        }
        for (size_t i = 0; i < f->http.target_count; i++) {
            free((char *)(uintptr_t)f->http.targets[i].name);
        }
        free(f->http.targets);
        free(f->options);
        task_cancel(&f->task);
        luaL_unref(f->spec, LUA_REGISTRYINDEX, f->respond);
        luaL_unref(f->spec, LUA_REGISTRYINDEX, f->failures);
        free(f);
    }
}
