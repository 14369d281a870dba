/* Stops policies that use more CPU time than their budget. One for each process, shared by all Lua
 * states of the loop thread, of which at most one runs at a time.
 *
 * A thread samples every few milliseconds whether the loop thread is still inside the same call, and
 * how much CPU time the call has used. Entering and leaving a call costs a few stores: no clock is
 * read and no hook is set, because a count hook would halve the speed of every script. When a call is
 * overdue, the watchdog sends a signal to the loop thread, whose handler notes that the call still
 * runs. If it still runs a millisecond of CPU time later, a second signal makes the handler set a hook
 * on the running state. That hook raises an error at each instruction and each call, so that no pcall
 * outlives it.
 *
 * The time is the loop thread's CPU time, from when the call is first seen. So a process that does not
 * get the CPU is not penalised, and a call is stopped some milliseconds late. In a virtual machine that
 * clock may advance while the host runs something else, even in a call that needs microseconds. Hence
 * the two signals: the first is handled when the thread really runs again, and a short call ends soon
 * after.
 *
 * Hooks cannot interrupt C code. If a call does not end within `hard_ms` of the first signal's
 * handling, the watchdog logs it (hook, line of the policy, C stack) and aborts the process: a restart
 * is better than a broker that does not respond. No policy should be able to cause this. */
#ifndef LUA_VM_LUA_WATCHDOG_H
#define LUA_VM_LUA_WATCHDOG_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lua_State;
struct lua_Debug;
struct lua_watchdog;

/* What a call may cost. Lives as long as the Lua state. */
struct lua_budget {
    const char *hook;    /* name in reports */
    const char *setting; /* what to change: "policy.filter_cpu_ms" */
    uint64_t cpu_ns;
};

/* What one call may cost. */
struct lua_allowance {
    const struct lua_budget *budget;
    uint64_t cpu_ns;
};

/* The budget, plus time in proportion to `input_bytes`, for decoding JSON. */
static inline struct lua_allowance lua_budget_allow(const struct lua_budget *b, size_t input_bytes)
{
    enum { NS_PER_BYTE = 200 };
    return (struct lua_allowance){b, b->cpu_ns + (uint64_t)input_bytes * NS_PER_BYTE};
}

/* Watches the calling thread. NULL: no thread could be started. */
struct lua_watchdog *lua_watchdog_new(uint64_t hard_ms, struct err *e);
/* Called by the watched thread, outside of any call; NULL is fine. */
void lua_watchdog_free(struct lua_watchdog *w);

/* ---- for lua_vm.c, on the watched thread */

/* `L` runs from here on; when it is overdue, `stop` becomes its hook. A second call restarts the
 * count. */
void lua_watchdog_enter(struct lua_watchdog *w, struct lua_State *L,
                        void (*stop)(struct lua_State *, struct lua_Debug *),
                        struct lua_allowance allowed);
/* Continues the count under another name. */
void lua_watchdog_rename(struct lua_watchdog *w, const struct lua_budget *budget);
/* The running call has no time left at all: stops it at once. */
void lua_watchdog_expire(struct lua_watchdog *w);
/* Ends the call and removes the hook. */
void lua_watchdog_leave(struct lua_watchdog *w);
/* Between these two the broker's own work is not counted. It must not raise an error. */
void lua_watchdog_pause(struct lua_watchdog *w);
void lua_watchdog_resume(struct lua_watchdog *w);
/* Is the running call overdue? Long loops in C poll this. */
bool lua_watchdog_overdue(const struct lua_watchdog *w);
/* Or will it have to be given up by the time it has taken four times as long? */
bool lua_watchdog_late(const struct lua_watchdog *w);
/* CPU time of the calling thread. */
uint64_t lua_watchdog_cpu_ns(void);

/* ---- how much CPU time a piece of a hook took, as an upper bound
 *
 * CLOCK_THREAD_CPUTIME_ID is a system call and takes longer than many a hook; the clock on the wall
 * is none, and never shows less. So the wall decides for short pieces. The kernel's clock is read for
 * long ones only, and once a millisecond. */

/* What the kernel said last. Zero it to begin with. One for each thread. */
struct lua_cpu_clock {
    uint64_t wall_ns, cpu_ns;
};

/* The beginning of a piece. `cpu_ns` may be too low, by what was used in a millisecond before. */
struct lua_cpu_mark {
    uint64_t wall_ns, cpu_ns;
};

struct lua_cpu_mark lua_watchdog_mark(struct lua_cpu_clock *c);
/* Nanoseconds of CPU time from the mark on, at the most: never more than passed on the wall, and of
 * a thread that was kept waiting for the processor no more than a millisecond too much. */
uint64_t lua_watchdog_since(const struct lua_cpu_mark *m);
/* The same, and what passed on the wall. */
uint64_t lua_watchdog_lap(const struct lua_cpu_mark *m, uint64_t *wall_ns);

#endif
