/* lua/: budgets of calls and coroutines, and what happens when C does not come back. */
#include "base/require.h"
#include "lua/load/lua_sandbox.h"
#include "native_policy.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <uv.h>

static const char *const vm_class = "native.budget";

struct bench {
    struct lua_watchdog *watchdog;
    struct lua_vm *vm;
    struct lua_host host;
    struct lua_budget budget;
};

struct job {
    struct slice code;
    struct strbuf out;
    struct lua_meter meter;
    struct err e;
    int rc;
    unsigned pieces;
};

static int64_t clock_of(void *ctx)
{
    (void)ctx;
    return 1700000000123;
}

static struct bench *check(lua_State *L)
{
    struct bench *b = luaL_checkudata(L, 1, vm_class);
    luaL_argcheck(L, b->vm, 1, "closed");
    return b;
}

static int l_close(lua_State *L)
{
    struct bench *b = luaL_checkudata(L, 1, vm_class);
    lua_vm_free(b->vm);
    lua_watchdog_free(b->watchdog);
    b->vm = NULL;
    b->watchdog = NULL;
    return 0;
}

/* open{cpu_ms, hard_ms, memory_bytes, watched} -> vm */
static int l_open(lua_State *L)
{
    struct err e = {0};
    struct bench *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct bench){
        .budget = {"test", "test.cpu_ms",
                   (uint64_t)native_field_integer(L, 1, "cpu_ms", 20) * UINT64_C(1000000)}};
    luaL_setmetatable(L, vm_class);
    lua_Integer hard = native_field_integer(L, 1, "hard_ms", 5000);
    b->watchdog = hard ? lua_watchdog_new((uint64_t)hard, &e) : NULL;
    if (hard && !b->watchdog) {
        return luaL_error(L, "%s", e.text);
    }
    b->vm = lua_vm_new((size_t)native_field_integer(L, 1, "memory_bytes", 32 << 20));
    lua_vm_watch(b->vm, b->watchdog);
    b->host = (struct lua_host){.unix_ms = clock_of};
    if (lua_sandbox_open(b->vm, &b->host, &e)) {
        return luaL_error(L, "%s", e.text);
    }
    b->host.loading = false;
    return 1;
}

/* spin(ms): C code that computes for so long and cannot be interrupted */
static int l_spin(lua_State *L)
{
    uint64_t until =
        lua_watchdog_cpu_ns() + (uint64_t)(luaL_checknumber(L, 1) * 1e6); /* milliseconds */
    while (lua_watchdog_cpu_ns() < until) {
    }
    return 0;
}

/* freeze(ms): CPU time passes but no signal arrives, as when a host takes the processor away */
static int l_freeze(lua_State *L)
{
    sigset_t all, before;
    sigfillset(&all);
    REQUIRE(pthread_sigmask(SIG_BLOCK, &all, &before) == 0);
    uint64_t until = lua_watchdog_cpu_ns() + (uint64_t)(lua_tonumber(L, 1) * 1e6);
    while (lua_watchdog_cpu_ns() < until) {
    }
    REQUIRE(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return 0;
}

/* poll(): C code that asks whether it should go on */
static int l_poll(lua_State *L)
{
    lua_vm_poll(L);
    return 0;
}

static int l_pause(lua_State *L)
{
    return lua_yield(L, lua_gettop(L));
}

/* stack: ... -> ..., chunk, spin, poll, pause, freeze */
static void push_chunk(lua_State *L, const struct job *j)
{
    if (luaL_loadbufferx(L, j->code.p, j->code.n, "@code", "t") != LUA_OK) {
        lua_error(L);
    }
    lua_pushcfunction(L, l_spin);
    lua_pushcfunction(L, l_poll);
    lua_pushcfunction(L, l_pause);
    lua_pushcfunction(L, l_freeze);
}

static void take_answer(lua_State *L, lua_State *from, struct job *j)
{
    size_t n;
    const char *text = lua_tolstring(from, -1, &n);
    if (strbuf_append(&j->out, text ? text : "nil", text ? n : 3)) {
        luaL_error(L, "the answer is too long");
    }
}

static int run_body(lua_State *L)
{
    struct job *j = lua_touserdata(L, 1);
    push_chunk(L, j);
    lua_call(L, 4, 1);
    take_answer(L, L, j);
    return 0;
}

static int piece_done(lua_State *L, int status, lua_KContext unused)
{
    (void)status;
    (void)unused;
    take_answer(L, L, lua_touserdata(L, 1));
    return 0;
}

static int pieces_body(lua_State *L)
{
    push_chunk(L, lua_touserdata(L, 1));
    lua_callk(L, 4, 1, 0, piece_done);
    return piece_done(L, LUA_OK, 0);
}

/* Resumes until the end. */
static int run_pieces(struct lua_vm *vm, struct job *j)
{
    lua_State *co;
    int ref;
    struct err e;
    REQUIRE(lua_vm_thread_new(vm, &co, &ref, &e) == 0);
    int rc = lua_vm_resume(vm, co, pieces_body, j, &j->meter, &j->e);
    for (j->pieces = 1; rc == LUA_VM_WAITS; j->pieces++) {
        rc = lua_vm_resume(vm, co, NULL, NULL, &j->meter, &j->e);
    }
    if (rc) {
        struct lua_vm_failure failure = *lua_vm_failure(vm);
        REQUIRE(lua_vm_reset(vm, co, &j->meter, &e) == 0);
        REQUIRE(strcmp(failure.where, lua_vm_failure(vm)->where) == 0);
    }
    lua_vm_thread_free(vm, ref);
    return rc;
}

/* vm:abandon(code) -> what resetting answers: a coroutine that waits is given up */
static int l_abandon(lua_State *L)
{
    struct bench *b = check(L);
    struct job j = {.meter = {.allowed = lua_budget_allow(&b->budget, 0)}};
    lua_State *co;
    int ref;
    j.code.p = luaL_checklstring(L, 2, &j.code.n);
    strbuf_init(&j.out, 1 << 20);
    REQUIRE(lua_vm_thread_new(b->vm, &co, &ref, &j.e) == 0);
    int rc = lua_vm_resume(b->vm, co, pieces_body, &j, &j.meter, &j.e);
    luaL_argcheck(L, rc == LUA_VM_WAITS, 2, "it does not wait");
    rc = lua_vm_reset(b->vm, co, &j.meter, &j.e);
    lua_vm_thread_free(b->vm, ref);
    strbuf_clear(&j.out);
    lua_pushstring(L, rc ? uv_err_name(rc) : "closed");
    return 1;
}

static int push_outcome(lua_State *L, struct bench *b, struct job *j, int rc)
{
    if (rc == 0) {
        lua_pushlstring(L, j->out.data ? j->out.data : "", j->out.len);
        strbuf_clear(&j->out);
        return 1;
    }
    strbuf_clear(&j->out);
    lua_pushnil(L);
    lua_pushstring(L, j->e.text);
    lua_pushstring(L, lua_vm_failure(b->vm)->where);
    lua_pushstring(L, lua_vm_failure(b->vm)->traceback);
    lua_pushstring(L, uv_err_name(rc));
    return 5;
}

/* vm:run(code) -> text, or nil, message, where, traceback, code. The chunk gets spin, poll,
 * pause, freeze. */
static int l_run(lua_State *L)
{
    struct bench *b = check(L);
    struct job j = {.e = {0}};
    j.code.p = luaL_checklstring(L, 2, &j.code.n);
    strbuf_init(&j.out, 1 << 20);
    int rc = lua_vm_run(b->vm, lua_budget_allow(&b->budget, 0), run_body, &j, &j.e);
    return push_outcome(L, b, &j, rc);
}

/* vm:pieces(code) -> pieces, CPU milliseconds, then as run() */
static int l_pieces(lua_State *L)
{
    struct bench *b = check(L);
    struct job j = {.meter = {.allowed = lua_budget_allow(&b->budget, 0)}};
    j.code.p = luaL_checklstring(L, 2, &j.code.n);
    strbuf_init(&j.out, 1 << 20);
    j.rc = run_pieces(b->vm, &j);
    lua_pushinteger(L, j.pieces);
    lua_pushnumber(L, (double)j.meter.used_ns / 1e6);
    return 2 + push_outcome(L, b, &j, j.rc);
}

static int nothing_body(lua_State *L)
{
    (void)L;
    return 0;
}

/* vm:cost(n) -> nanoseconds of one empty call, with a budget and without */
static int l_cost(lua_State *L)
{
    struct bench *b = check(L);
    lua_Integer n = luaL_checkinteger(L, 2);
    struct err e;
    uint64_t t0 = uv_hrtime();
    for (lua_Integer i = 0; i < n; i++) {
        REQUIRE(lua_vm_run(b->vm, lua_budget_allow(&b->budget, 0), nothing_body, NULL, &e) == 0);
    }
    uint64_t t1 = uv_hrtime();
    for (lua_Integer i = 0; i < n; i++) {
        REQUIRE(lua_vm_call(b->vm, nothing_body, NULL, &e) == 0);
    }
    lua_pushnumber(L, (double)(t1 - t0) / (double)n);
    lua_pushnumber(L, (double)(uv_hrtime() - t1) / (double)n);
    return 2;
}

int native_open_budget(lua_State *L)
{
    static const luaL_Reg functions[] = {{"open", l_open}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"run", l_run},     {"pieces", l_pieces}, {"abandon", l_abandon}, {"cost", l_cost},
        {"close", l_close}, {"__gc", l_close},    {NULL, NULL},
    };
    native_class(L, vm_class, methods);
    luaL_newlib(L, functions);
    return 1;
}
