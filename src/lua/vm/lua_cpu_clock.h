/* How much CPU time a piece of a hook took, as an upper bound. CLOCK_THREAD_CPUTIME_ID is a system
 * call and takes longer than many a hook; the clock on the wall is not, and no less. So the wall
 * decides for short pieces, and the kernel is asked for long ones only, and once a millisecond. */
#ifndef LUA_VM_LUA_CPU_CLOCK_H
#define LUA_VM_LUA_CPU_CLOCK_H

#include <stdint.h>

/* What the kernel said last. Zero it to begin with. One for each thread. */
struct lua_cpu_clock {
    uint64_t wall_ns, cpu_ns;
};

/* The beginning of a piece. `cpu_ns` may be too low, by what was used in a millisecond before. */
struct lua_cpu_mark {
    uint64_t wall_ns, cpu_ns;
};

struct lua_cpu_mark lua_cpu_clock_mark(struct lua_cpu_clock *c);
/* Nanoseconds of CPU time from the mark on, at the most: never more than passed on the wall, and of
 * a thread that was kept waiting for the processor no more than a millisecond too much. */
uint64_t lua_cpu_clock_since(const struct lua_cpu_mark *m);

#endif
