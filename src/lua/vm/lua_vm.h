/* One Lua state with a memory limit, and the only way to run code in it.
 *
 * All code that touches the state (pushing arguments, calling, reading results) is a body, run by
 * lua_vm_call(), or by lua_vm_resume() if it may wait. A body may raise an error at any point, because
 * memory is limited. So it holds no C resource of its own: results go to `ud`, which the caller owns.
 */
#ifndef LUA_VM_LUA_VM_H
#define LUA_VM_LUA_VM_H

#include "base/err.h"
#include "lua/vm/lua_failure.h"
#include "lua/vm/lua_watchdog.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lua_vm;

/* NULL: `memory_max` (bytes) or the machine's memory is too small for an empty state. */
struct lua_vm *lua_vm_new(size_t memory_max);
/* Sets the watchdog that enforces budgets, from the next call on. Borrowed; NULL: no enforcement. */
void lua_vm_watch(struct lua_vm *vm, struct lua_watchdog *watchdog);
/* For tools: `line` becomes the hook for each line of scripts, in calls with a budget. */
void lua_vm_trace(struct lua_vm *vm, lua_Hook line);
/* Every reference must have been released. */
void lua_vm_free(struct lua_vm *vm);

/* Runs `body` protected, with the light userdata `ud` at index 1. 0; UV_EINVAL: it raised an error;
 * UV_ENOMEM: it reached the memory limit; UV_EBUSY: called from inside a call, nothing was run. `e`
 * gets the message, lua_vm_failure() the rest. No time limit: for bodies that run no script code. */
__attribute__((warn_unused_result)) int lua_vm_call(struct lua_vm *vm, lua_CFunction body, void *ud,
                                                    struct err *e);
/* The same with a CPU budget, for bodies that run script code. UV_EINTR: the budget was used up, even
 * if the script ended after that; the failure has the place where it was first stopped. */
__attribute__((warn_unused_result)) int lua_vm_run(struct lua_vm *vm, struct lua_allowance allowed,
                                                   lua_CFunction body, void *ud, struct err *e);
const struct lua_vm_failure *lua_vm_failure(const struct lua_vm *vm);

/* Inside a body of lua_vm_run() or a coroutine: another hook begins, with a fresh budget. */
void lua_vm_allow(lua_State *L, struct lua_allowance allowed);
/* Another hook begins and uses the rest of the budget: only the name in reports changes. */
void lua_vm_rename(lua_State *L, const struct lua_budget *budget);
/* For pcall: enters one more; returns the depth in the running call or coroutine. */
unsigned lua_vm_enter_pcall(lua_State *L);
void lua_vm_leave_pcall(lua_State *L);
/* For loops in C over values of scripts: raises an error once the budget is used up. (Specs use such
 * loops in states that no vm owns: their extra space is zero.) */
void lua_vm_poll(lua_State *L);

/* ---- coroutines, for lua_coro.c only */

/* The CPU budget of all pieces of one coroutine's life together. */
struct lua_meter {
    struct lua_allowance allowed;
    uint64_t used_ns;   /* of `allowed` */
    uint64_t before_ns; /* what was used before that was allowed: lua_vm_allow() */
    unsigned pcalls;    /* nested ones, while it waits */
};

/* How long a part of a coroutine takes, waiting included, and how much CPU time, nearly. */
struct lua_stopwatch {
    struct lua_cpu_mark from;  /* wall_ns 0: it does not run */
    uint64_t used_ns, into_ns; /* by the meter, before this piece; since its beginning */
};
void lua_vm_start(lua_State *L, struct lua_stopwatch *w);
/* Answers the CPU time. In the coroutine, */
uint64_t lua_vm_stop(lua_State *L, struct lua_stopwatch *w, uint64_t *wall_ns);
/* or once it has ended. */
uint64_t lua_meter_stop(const struct lua_meter *m, struct lua_stopwatch *w, uint64_t *wall_ns);

/* A new coroutine, anchored by *ref. 0, or as lua_vm_call(). */
__attribute__((warn_unused_result)) int lua_vm_thread_new(struct lua_vm *vm, lua_State **out,
                                                          int *ref, struct err *e);
/* Releases a coroutine that is empty: new, ended, or reset. */
void lua_vm_thread_free(struct lua_vm *vm, int ref);
/* Starts `body` (with the light userdata `ud` at index 1) in an empty coroutine, or, with NULL,
 * continues one that waits. LUA_VM_WAITS, or 0: it has ended and is empty. Negative as
 * lua_vm_call(); then it must be reset. */
enum { LUA_VM_WAITS = 1 };
__attribute__((warn_unused_result)) int lua_vm_resume(struct lua_vm *vm, lua_State *co,
                                                      lua_CFunction body, void *ud,
                                                      struct lua_meter *m, struct err *e);
/* Ends a coroutine that waits or failed: closes its to-be-closed variables, within the rest of the
 * budget `m`, and returns their error. It is empty afterwards, in any case. */
__attribute__((warn_unused_result)) int lua_vm_reset(struct lua_vm *vm, lua_State *co,
                                                     struct lua_meter *m, struct err *e);
/* Sets lua_vm_failure() to `text`, with the place and traceback of a coroutine that waits. */
void lua_vm_note(struct lua_vm *vm, lua_State *co, const char *text);

/* A pointer for C functions that scripts call; Lua itself never holds it. Borrowed. */
void lua_vm_set_host(struct lua_vm *vm, void *host);
void *lua_vm_host(lua_State *L);

/* Call it once per state: `close` is a __close function in C, short and without script code. It runs
 * even in a call that is being stopped for its CPU time; Lua 5.4.4 would not call it a second time. */
void lua_vm_closer(lua_State *L, lua_CFunction close);

/* Call it once per state: where `f` raises an error about an argument that is a text (luaL_argerror()), the
 * failure has that text. */
void lua_vm_data_function(lua_State *L, lua_CFunction f);

/* Inside a body: anchors the value on top of the stack and pops it; counted. */
int lua_vm_ref(lua_State *L);
/* LUA_NOREF is fine. */
void lua_vm_unref(lua_State *L, int ref);
/* Pushes the value of `ref`. */
void lua_vm_push(lua_State *L, int ref);

/* Memory that Lua values keep alive outside the Lua heap (events): counts towards the limit. Raises an
 * error if it does not fit even after a collection. */
void lua_vm_charge(lua_State *L, size_t bytes);
void lua_vm_discharge(lua_State *L, size_t bytes);

size_t lua_vm_memory(const struct lua_vm *vm); /* bytes, charged ones included */
unsigned lua_vm_refs(const struct lua_vm *vm);
uint64_t lua_vm_stack_repairs(const struct lua_vm *vm);
int lua_vm_top(const struct lua_vm *vm);

#endif
