#include "lua/vm/lua_cpu_clock.h"

#include "lua/vm/lua_watchdog.h"

#include <uv.h>

enum { SHORT_NS = 1000000 };

struct lua_cpu_mark lua_cpu_clock_mark(struct lua_cpu_clock *c)
{
    uint64_t now = uv_hrtime();
    if (now - c->wall_ns > SHORT_NS) {
        *c = (struct lua_cpu_clock){now, lua_watchdog_cpu_ns()};
    }
    return (struct lua_cpu_mark){now, c->cpu_ns};
}

uint64_t lua_cpu_clock_since(const struct lua_cpu_mark *m)
{
    uint64_t wall = uv_hrtime() - m->wall_ns;
    if (wall <= SHORT_NS) {
        return wall;
    }
    uint64_t cpu = lua_watchdog_cpu_ns() - m->cpu_ns;
    return cpu < wall ? cpu : wall;
}
