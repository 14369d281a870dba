#include "lua/lua_vm.h"

#include "base/logging.h"
#include "base/xalloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { TRACEBACK_FRAMES = 12 };

struct lua_vm {
    lua_State *L;
    size_t memory, memory_max;
    size_t charged;    /* part of `memory` that is not in the Lua heap */
    size_t collect_at; /* collect when that much is charged */
    unsigned refs;
    uint64_t stack_repairs;
    bool in_call;
    void *host;
    struct lua_vm_failure failure;
};

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
    if (nsize > old &&
        (vm->memory >= vm->memory_max || nsize - old > vm->memory_max - vm->memory)) {
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

struct lua_vm *lua_vm_of(lua_State *L)
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

/* Appends to a fixed buffer; cuts what does not fit. */
static void append(char *out, size_t size, size_t *n, const char *text)
{
    int added = snprintf(out + *n, size - *n, "%s", text);
    size_t room = size - *n - 1;
    *n += added < 0 ? 0 : (size_t)added > room ? room : (size_t)added;
}

/* The sandbox's wrappers around library functions: a policy's author wants to see their caller. */
static bool is_internal(const char *position)
{
    return strncmp(position, LUA_VM_INTERNAL, sizeof LUA_VM_INTERNAL - 1) == 0;
}

/* From `level` outwards. */
static void note_frames(lua_State *L, int level, struct lua_vm_failure *f)
{
    lua_Debug ar;
    size_t n = 0;
    int shown = 0;
    for (; shown < TRACEBACK_FRAMES && lua_getstack(L, level, &ar); level++) {
        if (!lua_getinfo(L, "Sln", &ar) || ar.currentline <= 0 || is_internal(ar.short_src)) {
            continue;
        }
        char frame[256];
        snprintf(frame, sizeof frame, "%s%s:%d: in %s", shown ? "\n" : "", ar.short_src,
                 ar.currentline,
                 ar.name           ? ar.name
                 : *ar.what == 'm' ? "main chunk"
                                   : "function");
        append(f->traceback, sizeof f->traceback, &n, frame);
        if (shown == 0) {
            snprintf(f->where, sizeof f->where, "%s:%d", ar.short_src, ar.currentline);
        }
        shown++;
    }
}

/* Notes the error object at `idx`. Neither allocates nor calls a metamethod: __tostring of an error
 * object is the script's code, and this is no place to run it. */
static void note_error(lua_State *L, int idx, int level, struct lua_vm_failure *f)
{
    memset(f, 0, sizeof *f);
    note_frames(L, level, f);
    if (lua_type(L, idx) == LUA_TSTRING) {
        const char *text = lua_tostring(L, idx);
        const char *rest = is_internal(text) ? strstr(text, ": ") : NULL;
        snprintf(f->text, sizeof f->text, "%s%s", rest ? f->where : "", rest ? rest : text);
    } else if (lua_isinteger(L, idx)) {
        snprintf(f->text, sizeof f->text, LUA_INTEGER_FMT, lua_tointeger(L, idx));
    } else {
        snprintf(f->text, sizeof f->text, "an error object that is a %s, not a text",
                 lua_typename(L, lua_type(L, idx)));
    }
}

/* Runs where the error was raised. */
static int on_error(lua_State *L)
{
    note_error(L, 1, 1, &lua_vm_of(L)->failure);
    return 1;
}

static int fail(struct lua_vm *vm, int status, struct err *e)
{
    struct lua_vm_failure *f = &vm->failure;
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

static int enter(struct lua_vm *vm, struct err *e)
{
    if (vm->in_call) {
        log_error("policy", "call into a policy from inside a call refused", NULL);
        return err_set(e, UV_EBUSY, "the policy is already running");
    }
    vm->in_call = true;
    return 0;
}

static void leave(struct lua_vm *vm)
{
    vm->in_call = false;
}

int lua_vm_call(struct lua_vm *vm, lua_CFunction body, void *ud, struct err *e)
{
    int rc = enter(vm, e);
    if (rc) {
        return rc;
    }
    lua_State *L = vm->L;
    int top = lua_gettop(L);
    /* None of these three pushes allocates, so nothing is raised outside the pcall; a fresh stack
     * has LUA_MINSTACK (20) slots and `top` is always 0 here. */
    lua_pushcfunction(L, on_error);
    lua_pushcfunction(L, body);
    lua_pushlightuserdata(L, ud);
    int status = lua_pcall(L, 1, 0, top + 1);
    lua_settop(L, status == LUA_OK ? -2 : -3); /* the handler, and the error object */
    check_top(vm, top);
    leave(vm);
    return status == LUA_OK ? 0 : fail(vm, status, e);
}

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

/* A coroutine catches its own errors and keeps the stack they happened on. */
int lua_vm_resume(struct lua_vm *vm, lua_State *co, lua_CFunction body, void *ud, struct err *e)
{
    int results = 0;
    int rc = enter(vm, e);
    if (rc) {
        return rc;
    }
    if (body) { /* neither push allocates */
        REQUIRE(lua_status(co) == LUA_OK && lua_gettop(co) == 0);
        lua_pushcfunction(co, body);
        lua_pushlightuserdata(co, ud);
    }
    int status = lua_resume(co, NULL, body ? 1 : 0, &results);
    if (status == LUA_YIELD) {
        lua_pop(co, results);
    } else if (status == LUA_OK) {
        lua_settop(co, 0); /* what the body has returned */
    } else {
        note_error(co, -1, 0, &vm->failure);
    }
    leave(vm);
    if (status == LUA_YIELD) {
        return LUA_VM_WAITS;
    }
    return status == LUA_OK ? 0 : fail(vm, status, e);
}

int lua_vm_reset(struct lua_vm *vm, lua_State *co, struct err *e)
{
    int rc = enter(vm, e);
    if (rc) {
        return rc;
    }
    /* Answers what the coroutine had failed with, too, and leaves that error on its stack: only
     * what closing adds is news. */
    int before = lua_status(co);
    int status = lua_resetthread(co);
    bool news = status != LUA_OK && (before == LUA_OK || before == LUA_YIELD);
    if (news) {
        note_error(co, -1, 0, &vm->failure);
    }
    lua_settop(co, 0);
    leave(vm);
    return news ? fail(vm, status, e) : 0;
}

void lua_vm_note(struct lua_vm *vm, lua_State *co, const char *text)
{
    struct lua_vm_failure *f = &vm->failure;
    memset(f, 0, sizeof *f);
    note_frames(co, 0, f);
    snprintf(f->text, sizeof f->text, "%s", text);
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

void lua_vm_charge(lua_State *L, size_t bytes)
{
    struct lua_vm *vm = lua_vm_of(L);
    /* Lua's collector does not see what is charged, and the one that runs when an allocation fails
     * calls no finalizers: events nobody needs would be in its way. So they never take more than
     * half of what a collection left free. */
    if (bytes > vm->memory_max || vm->charged + bytes > vm->collect_at ||
        vm->memory > vm->memory_max - bytes) {
        lua_gc(L, LUA_GCCOLLECT);
        if (bytes > vm->memory_max || vm->memory > vm->memory_max - bytes) {
            luaL_error(L,
                       "not enough memory: %I bytes of events do not fit into the policy's limit",
                       (LUAI_UACINT)bytes);
        }
        vm->collect_at = vm->charged + (vm->memory_max - vm->memory) / 2;
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

size_t lua_vm_memory_max(const struct lua_vm *vm)
{
    return vm->memory_max;
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
