#include "store/sqlite/timing/sqlite_group_wait.h"

#include "base/container/list.h"
#include "base/container_of.h"
#include "base/require.h"

enum {
    ENOUGH = 64, /* events: an fsync among so many is little to each */
    TURNS_MAX = 6,
    LONG_NS = 1000000,
    SKIP = 32, /* before it is tried again */
};

static void sqlite_group_wait_on_idle(uv_idle_t *idle)
{
    struct sqlite_group_wait *g = container_of(idle, struct sqlite_group_wait, idle);
    size_t waiting = *g->waiting;
    g->passed++;
    bool late = uv_hrtime() - g->since_ns > LONG_NS;
    bool more = waiting > g->seen && waiting < g->enough && g->passed < TURNS_MAX;
    g->seen = waiting;
    if (!late && (g->passed < g->turns || more)) {
        return;
    }
    g->skip = late ? SKIP : 0;
    sqlite_group_wait_stop(g);
    g->begin(g->ctx);
}

void sqlite_group_wait_init(struct sqlite_group_wait *g, uv_loop_t *loop, const size_t *waiting,
                            void (*begin)(void *ctx), void *ctx)
{
    *g = (struct sqlite_group_wait){.waiting = waiting, .begin = begin, .ctx = ctx};
    REQUIRE(uv_idle_init(loop, &g->idle) == 0);
    g->idle.data = ctx;
}

static bool sqlite_group_wait_start(struct sqlite_group_wait *g, unsigned turns, size_t enough)
{
    if (g->skip) {
        g->skip--;
        return false;
    }
    g->on = true;
    g->turns = turns;
    g->passed = 0;
    g->seen = *g->waiting;
    g->enough = enough < ENOUGH ? enough : ENOUGH;
    g->since_ns = uv_hrtime();
    REQUIRE(uv_idle_start(&g->idle, sqlite_group_wait_on_idle) == 0);
    return true;
}

bool sqlite_group_wait_first(struct sqlite_group_wait *g)
{
    return g->on || sqlite_group_wait_start(g, 1, ENOUGH);
}

/* The first turn to come is the one that writes the answers, the second reads what they brought. */
bool sqlite_group_wait_next(struct sqlite_group_wait *g, size_t answered)
{
    size_t all = *g->waiting + answered;
    return *g->waiting < ENOUGH && sqlite_group_wait_start(g, 2, all);
}

void sqlite_group_wait_stop(struct sqlite_group_wait *g)
{
    g->on = false;
    (void)uv_idle_stop(&g->idle);
}
