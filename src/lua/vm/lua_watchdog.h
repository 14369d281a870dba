/* Stops policies that use more CPU time than their budget. One for each process, shared by all Lua
 * states of the loop thread, of which at most one runs at a time.
 *
 * A thread looks every few milliseconds whether the loop thread is still inside the call it was in
 * before, and how much CPU time that took. Entering and leaving a call is a few stores, no clock is
 * read and no hook is set: a count hook would halve the speed of every script. Only when a call is
 * overdue the thread sends a signal to the loop thread, whose handler notes that the call is going
 * on. Where it still is a millisecond of CPU time later, a second signal has the handler set a hook
 * on the running state that raises at each instruction and each call from then on, so that no pcall
 * outlives it.
 *
 * The time is the loop thread's CPU time, from when the call is first seen: a process that does not
 * get the processor is not blamed, and a call is stopped some milliseconds late. In a virtual
 * machine that clock may go on while the host runs something else, in a call that needs
 * microseconds. Hence two signals: the first is answered when the thread really runs again, and an
 * innocent call ends soon after.
 *
 * Hooks cannot interrupt C. A call that does not end within `hard_ms` of that answer is reported
 * (hook, line of the policy, C stack) and the process aborts: better a restart than a broker that
 * answers nobody. Nothing a policy can reach should get there. */
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

/* The budget, and time for reading `input_bytes`: decoding JSON takes what it takes. */
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

/* `L` runs from here on; when it is overdue, `stop` becomes its hook. Again inside a call: the
 * count starts anew. */
void lua_watchdog_enter(struct lua_watchdog *w, struct lua_State *L,
                        void (*stop)(struct lua_State *, struct lua_Debug *),
                        struct lua_allowance allowed);
/* The count goes on under another name. */
void lua_watchdog_rename(struct lua_watchdog *w, const struct lua_budget *budget);
/* The running call has no time left at all: stops it at once. */
void lua_watchdog_expire(struct lua_watchdog *w);
/* Takes the hook off again. */
void lua_watchdog_leave(struct lua_watchdog *w);
/* What happens in between is not the script's doing and is not counted. It must not raise. */
void lua_watchdog_pause(struct lua_watchdog *w);
void lua_watchdog_resume(struct lua_watchdog *w);
/* The running call is to end: loops in C ask now and then. */
bool lua_watchdog_overdue(const struct lua_watchdog *w);
/* CPU time of the calling thread. */
uint64_t lua_watchdog_cpu_ns(void);

/* ---- how much CPU time a piece of a hook took, as an upper bound
 *
 * CLOCK_THREAD_CPUTIME_ID is a system call and takes longer than many a hook; the clock on the wall
 * is none, and never shows less. So the wall decides for short pieces, and the kernel is asked for
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

#endif
