/* See test_fakes.h. A call is copied as JSON text between the two Lua states: neither ever sees a
 * value of the other's. */
#include "tools/test_fakes.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "lua/api/lua_json.h"
#include "lua/api/lua_jwt.h"
#include "lua/vm/lua_box.h"
#include "lua/vm/lua_coro.h"
#include "lua/vm/lua_readonly.h"
#include "lua/vm/lua_secret.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENTS_MAX_BYTES = 1024 * 1024, NAME_MAX_BYTES = 256 };

struct call {
    struct list node;
    uint64_t ticket;
    const char *kind; /* constant */
    char name[NAME_MAX_BYTES];
    size_t len;
    char arguments[]; /* JSON */
};

struct test_fakes {
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
static struct answer test_fakes_ask(struct test_fakes *f, const struct call *c)
{
    lua_State *L = f->spec;
    int top = lua_gettop(L);
    struct answer a = {.ok = false};
    size_t n = 0;
    lua_rawgeti(L, LUA_REGISTRYINDEX, f->respond);
    lua_pushstring(L, c->kind);
    lua_pushstring(L, c->name);
    lua_pushlstring(L, c->arguments, c->len);
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

static void answer_all(struct task *t)
{
    struct test_fakes *f = container_of(t, struct test_fakes, task);
    struct list due;
    list_init(&due);
    list_splice_tail(&due, &f->calls);
    while (!list_empty(&due)) {
        struct call *c = list_first(&due, struct call, node);
        struct answer a = test_fakes_ask(f, c);
        (void)lua_coro_complete(f->waits, c->ticket, test_fakes_push_answer,
                                &a); /* gone: there is no one to answer */
        free(a.text);
        call_free(c);
    }
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
    lua_pushstring(L, name);
    if (lua_rawget(L, 2) == LUA_TTABLE) {
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

void test_fakes_extend(lua_State *L, void *ctx)
{
    static const luaL_Reg db[] = {{"query", l_query}, {NULL, NULL}};
    static const luaL_Reg http[] = {
        {"get", test_fakes_l_get}, {"post", test_fakes_l_post}, {NULL, NULL}};
    set_library(L, ctx, "db", db);
    set_library(L, ctx, "http", http);
    test_fakes_watch_jwt(L, ctx);
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
    task_init(&f->task, answer_all);
    return f;
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
        task_cancel(&f->task);
        luaL_unref(f->spec, LUA_REGISTRYINDEX, f->respond);
        luaL_unref(f->spec, LUA_REGISTRYINDEX, f->failures);
        free(f);
    }
}

/* ---- queries */

static int declare(struct query_source *s, struct slice name, struct slice sql,
                   const struct query **out, struct err *e)
{
    static const char query;
    (void)name;
    (void)sql;
    (void)e;
    (void)s;
    *out = (const struct query *)(const void *)&query; /* it is not read */
    return 0;
}

struct query_source *test_fakes_queries(void)
{
    static const struct query_source_ops ops = {.declare = declare};
    static struct query_source source = {&ops};
    return &source;
}
