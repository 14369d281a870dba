#include "lua/vm/lua_vm.h"

#include "base/alloc.h"
#include "base/logging.h"
#include "base/require.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { CLOSERS_MAX = 4, DATA_FUNCTIONS_MAX = 8, DATA_ARGUMENTS_MAX = 250 };
enum { LARGE_STACK = 64 * 1024, SLOT = 16 /* of the stack, in bytes */, MANY_ARGUMENTS = 1024 };

struct lua_vm {
    lua_State *L;
    lua_State *running; /* of what a budget applies to */
    size_t memory, memory_max;
    size_t charged;          /* part of `memory` that is not in the Lua heap */
    size_t collect_at;       /* collect when that much is charged, */
    size_t collect_total_at; /* or, while charging, when memory in all has come to that */
    unsigned refs;
    uint64_t stack_repairs;
    bool in_call;
    void *host;
    struct lua_watchdog *watchdog; /* NULL: nothing is limited */
    lua_Hook line;                 /* NULL: lines are not traced */
    bool watched;                  /* a budget applies to what is running */
    struct lua_allowance allowed;  /* while watched */
    bool stopped;                  /* it ran out; `failure` says where */
    unsigned pcalls;               /* active in the running coroutine */
    int co_status;                 /* how the coroutine that was resumed last has ended */
    struct lua_meter *meter;       /* of the coroutine that runs, or NULL */
    struct lua_cpu_clock cpu;
    struct lua_cpu_mark resumed;        /* the beginning of its piece */
    lua_CFunction closers[CLOSERS_MAX]; /* see lua_vm_closer() */
    unsigned closer_count;
    lua_CFunction data_functions[DATA_FUNCTIONS_MAX]; /* see lua_vm_data_function() */
    unsigned data_function_count;
    struct lua_vm_failure failure;
};

static void lua_vm_note_stop(struct lua_vm *vm, lua_State *L, const char *why);

/* Lua resolves a chain of callable tables in one step, which no hook interrupts, and the chain has no end
 * where `__call` of a table leads back to it. Each link moves all arguments by one place of the stack: twice
 * the stack is four times the work. So the chain is stopped where the stack grows, when the call is overdue
 * or will be before the stack grows again. A stack that grows is a new block without a type; so are the
 * nodes of a table, of three words each, arrays and large buffers. But only for such a chain, when it takes
 * long, are thousands of values in the frame that is on top; and a new stack has room for more than these,
 * other than the array of a table that is made of them. A finalizer gets what it needs (the collector does
 * not answer then): it is not called again, and what it frees would be lost. */
static bool vm_stack_is_late(struct lua_vm *vm, const void *ptr, size_t tag, size_t size)
{
    size_t words = size / sizeof(void *);
    bool nodes = words % 3 == 0 && ((words / 3) & (words / 3 - 1)) == 0;
    if (ptr || tag || size < LARGE_STACK || nodes || !vm->watched ||
        !lua_watchdog_late(vm->watchdog) || lua_gc(vm->running, LUA_GCISRUNNING) < 0) {
        return false;
    }
    size_t values = (size_t)lua_gettop(vm->running);
    if (values < MANY_ARGUMENTS || size / SLOT <= values + 1) {
        return false; /* no chain: where the budget is used up the hook stops it */
    }
    if (!vm->stopped) {
        lua_vm_note_stop(
            vm, vm->running,
            lua_watchdog_overdue(vm->watchdog)
                ? NULL
                : "stopped where a call took long and needed more and more of the stack: "
                  "does __call of a table lead back to the table?");
    }
    return true;
}

/* lua_Alloc. `osize` is a type tag, not a size, when `ptr` is NULL (Lua manual, lua_Alloc). */
static void *vm_alloc(void *ud, void *ptr, size_t osize, size_t nsize)
{
    struct lua_vm *vm = ud;
    size_t old = ptr ? osize : 0;
    if (nsize == 0) {
        free(ptr);
        vm->memory -= old;
        return NULL;
    }
    if (nsize > old && (vm->memory >= vm->memory_max || nsize - old > vm->memory_max - vm->memory ||
                        vm_stack_is_late(vm, ptr, osize, nsize))) {
        return NULL;
    }
    void *p = realloc(ptr, nsize);
    if (!p) {
        /* Lua relies on shrinking never failing; the old block is still big enough. */
        return nsize <= old ? ptr : NULL;
    }
    vm->memory = vm->memory - old + nsize;
    return p;
}

static int vm_panic(lua_State *L)
{
    /* Only reached by a call outside lua_vm_call(): the state cannot be trusted any more. */
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "?";
    log_error("policy", "unprotected error in Lua", LOG_F(log_str("error", text)));
    abort();
}

struct lua_vm *lua_vm_new(size_t memory_max)
{
    struct lua_vm *vm = xcalloc(1, sizeof *vm);
    vm->memory_max = memory_max;
    vm->L = lua_newstate(vm_alloc, vm);
    if (!vm->L) {
        free(vm);
        return NULL;
    }
    lua_atpanic(vm->L, vm_panic);
    memcpy(lua_getextraspace(vm->L), &vm, sizeof vm);
    return vm;
}

void lua_vm_watch(struct lua_vm *vm, struct lua_watchdog *watchdog)
{
    REQUIRE(!vm->in_call);
    vm->watchdog = watchdog;
}

void lua_vm_trace(struct lua_vm *vm, lua_Hook line)
{
    vm->line = line;
}

void lua_vm_free(struct lua_vm *vm)
{
    if (!vm) {
        return;
    }
    REQUIRE(!vm->in_call && vm->refs == 0);
    lua_close(vm->L);
    REQUIRE(vm->memory == 0 && vm->charged == 0);
    free(vm);
}

/* The vm that owns `L`. */
static struct lua_vm *lua_vm_of(lua_State *L)
{
    struct lua_vm *vm;
    memcpy(&vm, lua_getextraspace(L), sizeof vm);
    return vm;
}

void lua_vm_set_host(struct lua_vm *vm, void *host)
{
    vm->host = host;
}

void *lua_vm_host(lua_State *L)
{
    return lua_vm_of(L)->host;
}

static bool lua_vm_is_data_function(const struct lua_vm *vm, lua_CFunction f)
{
    for (unsigned i = 0; f && i < vm->data_function_count; i++) {
        if (vm->data_functions[i] == f) {
            return true;
        }
    }
    return false;
}

/* If the function at `level` is one of lua_vm_data_function(): the text that it refused. */
static void lua_vm_note_given(struct lua_vm *vm, lua_State *L, int level)
{
    static const char bad[] = "bad argument #";
    struct lua_vm_failure *failure = &vm->failure;
    const char *number = strstr(failure->text, bad);
    lua_Debug ar;
    if (!number || !lua_getstack(L, level, &ar) || !lua_getinfo(L, "f", &ar)) {
        return;
    }
    lua_CFunction f = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    long arg = strtol(number + sizeof bad - 1, NULL, 10);
    if (!lua_vm_is_data_function(vm, f) || arg < 1 || arg > DATA_ARGUMENTS_MAX ||
        !lua_getlocal(L, &ar, (int)arg)) {
        return;
    }
    if (lua_type(L, -1) == LUA_TSTRING) {
        size_t n;
        const char *text = lua_tolstring(L, -1, &n);
        failure->has_given = true;
        failure->given_cut = n > sizeof failure->given;
        failure->given_bytes = failure->given_cut ? sizeof failure->given : n;
        memcpy(failure->given, text, failure->given_bytes);
    }
    lua_pop(L, 1);
}

static void lua_vm_note_error(lua_State *L, int error, int level)
{
    struct lua_vm *vm = lua_vm_of(L);
    if (!vm->stopped) { /* else it is only how the script came down after that */
        lua_failure_error(&vm->failure, L, level, error);
        lua_vm_note_given(vm, L, level);
    }
}

/* The message handler: runs where the error was raised. */
static int on_error(lua_State *L)
{
    lua_vm_note_error(L, 1, 1);
    return 1;
}

static int lua_vm_fail(struct lua_vm *vm, int status, struct err *e)
{
    struct lua_vm_failure *f = &vm->failure;
    if (vm->stopped) {
        return err_set(e, UV_EINTR, "%s", f->text);
    }
    if (status == LUA_ERRMEM) {
        /* no handler ran: the message of a memory error is all there is */
        memset(f, 0, sizeof *f);
        snprintf(f->text, sizeof f->text, "not enough memory: the policy's limit is %zu bytes",
                 vm->memory_max);
        return err_set(e, UV_ENOMEM, "%s", f->text);
    }
    if (status == LUA_ERRERR) {
        memset(f, 0, sizeof *f);
        snprintf(f->text, sizeof f->text, "%s", "error while handling an error (stack overflow)");
    }
    return err_set(e, UV_EINVAL, "%s", f->text);
}

static void check_top(struct lua_vm *vm, int top)
{
    int now = lua_gettop(vm->L);
#ifndef NDEBUG
    REQUIRE(now == top);
#endif
    if (now != top) {
        vm->stack_repairs++;
        log_error("policy", "unbalanced Lua stack repaired",
                  LOG_F(log_int("was", top), log_int("is", now)));
        lua_settop(vm->L, top);
    }
}

/* ---- budgets */

/* `why` NULL: the budget is used up. */
static void lua_vm_note_stop(struct lua_vm *vm, lua_State *L, const char *why)
{
    struct lua_vm_failure *f = &vm->failure;
    const char *colon;
    lua_failure_frames(f, L, 0);
    colon = f->where[0] ? ": " : "";
    if (why) {
        snprintf(f->text, sizeof f->text, "%s%s%s", f->where, colon, why);
    } else {
        snprintf(f->text, sizeof f->text, "%s%sstopped after more than %u ms of CPU time (%s)",
                 f->where, colon, (unsigned)(vm->allowed.cpu_ns / 1000000),
                 vm->allowed.budget->setting);
    }
    vm->stopped = true;
}

static int raise_overdue(lua_State *L)
{
    struct lua_vm *vm = lua_vm_of(L);
    if (!vm->stopped) {
        lua_vm_note_stop(vm, L, NULL);
    }
    return luaL_error(L, "stopped: the policy used up its CPU time");
}

/* Does the hook fire for the call of a function that lua_vm_closer() registered? */
static bool is_closer(lua_State *L, lua_Debug *ar)
{
    const struct lua_vm *vm = lua_vm_of(L);
    lua_CFunction f = NULL;
    if (ar->event == LUA_HOOKCALL && lua_getinfo(L, "f", ar)) {
        f = lua_tocfunction(L, -1);
        lua_pop(L, 1);
    }
    for (unsigned i = 0; f && i < vm->closer_count; i++) {
        if (vm->closers[i] == f) {
            return true;
        }
    }
    return false;
}

/* The hook of an overdue call. It stays until the call ends and raises again at each instruction, so
 * that a script that catches the error gets no further. */
static void on_overdue(lua_State *L, lua_Debug *ar)
{
    if (!is_closer(L, ar)) {
        (void)raise_overdue(L);
    }
}

void lua_vm_closer(lua_State *L, lua_CFunction close)
{
    struct lua_vm *vm = lua_vm_of(L);
    if (vm) { /* tools use boxes in states of their own */
        REQUIRE(vm->closer_count < CLOSERS_MAX);
        vm->closers[vm->closer_count++] = close;
    }
}

void lua_vm_data_function(lua_State *L, lua_CFunction f)
{
    struct lua_vm *vm = lua_vm_of(L);
    if (vm) { /* as for lua_vm_closer() */
        REQUIRE(vm->data_function_count < DATA_FUNCTIONS_MAX);
        vm->data_functions[vm->data_function_count++] = f;
    }
}

unsigned lua_vm_enter_pcall(lua_State *L)
{
    return ++lua_vm_of(L)->pcalls;
}

void lua_vm_leave_pcall(lua_State *L)
{
    struct lua_vm *vm = lua_vm_of(L);
    REQUIRE(vm->pcalls > 0);
    vm->pcalls--;
}

void lua_vm_poll(lua_State *L)
{
    const struct lua_vm *vm = lua_vm_of(L);
    if (vm && vm->watched && lua_watchdog_overdue(vm->watchdog)) {
        (void)raise_overdue(L);
    }
}

static void begin_watch(struct lua_vm *vm, lua_State *L, struct lua_allowance allowed)
{
    vm->pcalls = 0;
    vm->stopped = false;
    vm->running = L;
    vm->watched = vm->watchdog != NULL;
    if (vm->line) { /* the watchdog may have removed it */
        lua_sethook(L, vm->line, LUA_MASKLINE, 0);
    }
    if (vm->watched) {
        vm->allowed = allowed;
        lua_watchdog_enter(vm->watchdog, L, on_overdue, allowed);
    }
}

static void end_watch(struct lua_vm *vm)
{
    if (vm->watched) {
        lua_watchdog_leave(vm->watchdog);
        vm->watched = false;
    }
}

static uint64_t lua_meter_ns(const struct lua_meter *m)
{
    return m ? m->before_ns + m->used_ns : 0;
}

void lua_vm_start(lua_State *L, struct lua_stopwatch *w)
{
    struct lua_vm *vm = lua_vm_of(L);
    w->from = lua_watchdog_mark(&vm->cpu);
    w->used_ns = lua_meter_ns(vm->meter);
    w->into_ns = vm->watched && vm->meter ? w->from.wall_ns - vm->resumed.wall_ns : 0;
}

static uint64_t lua_stopwatch_over(struct lua_stopwatch *w, uint64_t used_ns, uint64_t *wall_ns)
{
    uint64_t before = w->used_ns + w->into_ns;
    *wall_ns = uv_hrtime() - w->from.wall_ns;
    w->from.wall_ns = 0;
    return used_ns > before ? used_ns - before : 0;
}

uint64_t lua_vm_stop(lua_State *L, struct lua_stopwatch *w, uint64_t *wall_ns)
{
    const struct lua_vm *vm = lua_vm_of(L);
    uint64_t used = lua_meter_ns(vm->meter);
    if (used != w->used_ns) { /* it has waited */
        return lua_stopwatch_over(w, used + lua_watchdog_since(&vm->resumed), wall_ns);
    }
    uint64_t cpu = lua_watchdog_lap(&w->from, wall_ns);
    w->from.wall_ns = 0;
    return cpu;
}

uint64_t lua_meter_stop(const struct lua_meter *m, struct lua_stopwatch *w, uint64_t *wall_ns)
{
    return lua_stopwatch_over(w, lua_meter_ns(m), wall_ns);
}

void lua_vm_allow(lua_State *L, struct lua_allowance allowed)
{
    struct lua_vm *vm = lua_vm_of(L);
    if (!vm->watched) {
        return;
    }
    vm->allowed = allowed;
    lua_watchdog_enter(vm->watchdog, L, on_overdue, allowed);
    if (vm->meter) {
        *vm->meter = (struct lua_meter){.allowed = allowed,
                                        .before_ns = lua_meter_ns(vm->meter) +
                                                     lua_watchdog_since(&vm->resumed)};
        vm->resumed = lua_watchdog_mark(&vm->cpu);
    }
}

void lua_vm_rename(lua_State *L, const struct lua_budget *budget)
{
    struct lua_vm *vm = lua_vm_of(L);
    if (vm->watched) {
        vm->allowed.budget = budget;
        lua_watchdog_rename(vm->watchdog, budget);
    }
    if (vm->meter) {
        vm->meter->allowed.budget = budget;
    }
}

/* ---- calls */

static int lua_vm_enter(struct lua_vm *vm, struct err *e)
{
    if (vm->in_call) {
        log_error("policy", "call into a policy from inside a call refused", NULL);
        return err_set(e, UV_EBUSY, "the policy is already running");
    }
    vm->in_call = true;
    return 0;
}

/* None of these three pushes allocates, so nothing is raised outside the pcall; a fresh stack has
 * LUA_MINSTACK (20) slots and its top is always 0 here. */
static int lua_vm_call_body(lua_State *L, lua_CFunction body, void *ud)
{
    int top = lua_gettop(L);
    lua_pushcfunction(L, on_error);
    lua_pushcfunction(L, body);
    lua_pushlightuserdata(L, ud);
    int status = lua_pcall(L, 1, 0, top + 1);
    lua_settop(L, status == LUA_OK ? -2 : -3); /* the handler, and the error object */
    return status;
}

int lua_vm_call(struct lua_vm *vm, lua_CFunction body, void *ud, struct err *e)
{
    int rc = lua_vm_enter(vm, e);
    if (rc) {
        return rc;
    }
    int top = lua_gettop(vm->L);
    vm->stopped = false;
    int status = lua_vm_call_body(vm->L, body, ud);
    check_top(vm, top);
    vm->in_call = false;
    return status == LUA_OK ? 0 : lua_vm_fail(vm, status, e);
}

int lua_vm_run(struct lua_vm *vm, struct lua_allowance allowed, lua_CFunction body, void *ud,
               struct err *e)
{
    int rc = lua_vm_enter(vm, e);
    if (rc) {
        return rc;
    }
    int top = lua_gettop(vm->L);
    begin_watch(vm, vm->L, allowed);
    int status = lua_vm_call_body(vm->L, body, ud);
    end_watch(vm);
    check_top(vm, top);
    vm->in_call = false;
    return status == LUA_OK && !vm->stopped ? 0 : lua_vm_fail(vm, status, e);
}

/* ---- coroutines */

struct thread {
    lua_State *L;
    int ref;
};

static int thread_body(lua_State *L)
{
    struct thread *t = lua_touserdata(L, 1);
    t->L = lua_newthread(L);
    t->ref = lua_vm_ref(L);
    return 0;
}

int lua_vm_thread_new(struct lua_vm *vm, lua_State **out, int *ref, struct err *e)
{
    struct thread t = {NULL, LUA_NOREF};
    int rc = lua_vm_call(vm, thread_body, &t, e);
    *out = t.L;
    *ref = t.ref;
    return rc;
}

void lua_vm_thread_free(struct lua_vm *vm, int ref)
{
    lua_vm_unref(vm->L, ref); /* writes to what is there already: cannot raise */
}

static void begin_piece(struct lua_vm *vm, lua_State *co, struct lua_meter *m)
{
    struct lua_allowance left = m->allowed;
    left.cpu_ns -= m->used_ns < left.cpu_ns ? m->used_ns : left.cpu_ns;
    begin_watch(vm, co, left);
    vm->allowed = m->allowed; /* what reports name */
    vm->meter = m;
    vm->pcalls = m->pcalls;
    if (vm->watched) {
        vm->resumed = lua_watchdog_mark(&vm->cpu);
        if (left.cpu_ns == 0) {
            lua_watchdog_expire(vm->watchdog); /* pieces may be too short to be seen */
        }
    }
}

static void end_piece(struct lua_vm *vm)
{
    if (vm->watched) {
        vm->meter->used_ns += lua_watchdog_since(&vm->resumed);
    }
    end_watch(vm);
    vm->meter->pcalls = vm->pcalls;
    vm->meter = NULL;
}

/* stack: handler, and the error if there was one. What the body returns is of no use. */
static int coroutine_ended(lua_State *L, int status, lua_KContext unused)
{
    (void)unused;
    lua_vm_of(L)->co_status = status == LUA_YIELD ? LUA_OK : status;
    return 0;
}

/* What every coroutine runs: the body, protected. An error raised by a hook would otherwise leave
 * the coroutine with its hooks disabled, and pending __close methods could not be stopped any more:
 * neither lua_resume() nor lua_resetthread() enables them again.
 * stack: body, ud */
static int coroutine_body(lua_State *L)
{
    luaL_checkstack(L, 1, NULL);
    lua_pushcfunction(L, on_error);
    lua_insert(L, 1);
    return coroutine_ended(L, lua_pcallk(L, 1, 0, 1, 0, coroutine_ended), 0);
}

int lua_vm_resume(struct lua_vm *vm, lua_State *co, lua_CFunction body, void *ud,
                  struct lua_meter *m, struct err *e)
{
    int results = 0;
    int rc = lua_vm_enter(vm, e);
    if (rc) {
        return rc;
    }
    if (body) {
        REQUIRE(lua_status(co) == LUA_OK && lua_gettop(co) == 0);
        lua_pushcfunction(co, coroutine_body); /* no push allocates */
        lua_pushcfunction(co, body);
        lua_pushlightuserdata(co, ud);
    }
    vm->co_status = LUA_OK;
    begin_piece(vm, co, m);
    int status = lua_resume(co, NULL, body ? 2 : 0, &results);
    end_piece(vm);
    if (status == LUA_YIELD) {
        lua_pop(co, results);
    } else if (status == LUA_OK) {
        lua_settop(co, 0);
        status = vm->co_status;
    } else {
        lua_vm_note_error(co, -1, 0); /* memory too short for coroutine_body() itself */
    }
    vm->in_call = false;
    if (vm->stopped || (status != LUA_OK && status != LUA_YIELD)) {
        return lua_vm_fail(vm, status, e);
    }
    return status == LUA_YIELD ? LUA_VM_WAITS : 0;
}

int lua_vm_reset(struct lua_vm *vm, lua_State *co, struct lua_meter *m, struct err *e)
{
    int rc = lua_vm_enter(vm, e);
    if (rc) {
        return rc;
    }
    /* Answers what the coroutine had failed with, too, and leaves that error on its stack: only
     * what closing adds is news. */
    int before = lua_status(co);
    begin_piece(vm, co, m);
    int status = lua_resetthread(co);
    end_piece(vm);
    bool news = status != LUA_OK && (before == LUA_OK || before == LUA_YIELD);
    if (news) {
        lua_vm_note_error(co, -1, 0);
    }
    lua_settop(co, 0);
    vm->in_call = false;
    return news || vm->stopped ? lua_vm_fail(vm, status, e) : 0;
}

void lua_vm_note(struct lua_vm *vm, lua_State *co, const char *text)
{
    lua_failure_frames(&vm->failure, co, 0);
    snprintf(vm->failure.text, sizeof vm->failure.text, "%s", text);
}

const struct lua_vm_failure *lua_vm_failure(const struct lua_vm *vm)
{
    return &vm->failure;
}

int lua_vm_ref(lua_State *L)
{
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_vm_of(L)->refs++;
    return ref;
}

void lua_vm_unref(lua_State *L, int ref)
{
    if (ref != LUA_NOREF) {
        luaL_unref(L, LUA_REGISTRYINDEX, ref);
        lua_vm_of(L)->refs--;
    }
}

void lua_vm_push(lua_State *L, int ref)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
}

/* A whole collection takes as long as the heap is large, independent of the running coroutine. */
static void collect(lua_State *L, struct lua_vm *vm)
{
    if (vm->watched) {
        lua_watchdog_pause(vm->watchdog);
    }
    lua_gc(L, LUA_GCCOLLECT);
    if (vm->watched) {
        lua_watchdog_resume(vm->watchdog);
    }
}

void lua_vm_charge(lua_State *L, size_t bytes)
{
    struct lua_vm *vm = lua_vm_of(L);
    /* Lua's collector does not see what is charged, and the one that runs when an allocation fails
     * calls no finalizers: events nobody needs would be in its way, and what hangs on them. So they
     * never take more than half of what a collection left free, and the heap that grows with them
     * is collected in time. */
    if (bytes > vm->memory_max || vm->charged + bytes > vm->collect_at ||
        vm->memory + bytes > vm->collect_total_at || vm->memory > vm->memory_max - bytes) {
        collect(L, vm);
        if (bytes > vm->memory_max || vm->memory > vm->memory_max - bytes) {
            luaL_error(L,
                       "not enough memory: %I bytes of events do not fit into the policy's limit",
                       (LUAI_UACINT)bytes);
        }
        vm->collect_at = vm->charged + (vm->memory_max - vm->memory) / 2;
        vm->collect_total_at = vm->memory + (vm->memory_max - vm->memory) / 4 * 3;
    }
    vm->memory += bytes;
    vm->charged += bytes;
}

void lua_vm_discharge(lua_State *L, size_t bytes)
{
    struct lua_vm *vm = lua_vm_of(L);
    REQUIRE(bytes <= vm->charged);
    vm->memory -= bytes;
    vm->charged -= bytes;
}

size_t lua_vm_memory(const struct lua_vm *vm)
{
    return vm->memory;
}

unsigned lua_vm_refs(const struct lua_vm *vm)
{
    return vm->refs;
}

uint64_t lua_vm_stack_repairs(const struct lua_vm *vm)
{
    return vm->stack_repairs;
}

int lua_vm_top(const struct lua_vm *vm)
{
    return lua_gettop(vm->L);
}
