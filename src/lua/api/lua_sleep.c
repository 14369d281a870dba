#include "lua/api/lua_sleep.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "lua/vm/lua_coro.h"

#include <math.h>
#include <stdlib.h>

static const double most_s = 86400;

struct sleeper {
    struct deadline deadline;
    struct lua_waits *waits;
    uint64_t ticket;
};

static int push_nothing(lua_State *L, void *ud)
{
    (void)L;
    (void)ud;
    return 0;
}

static void on_time(struct deadline *d)
{
    struct sleeper *s = container_of(d, struct sleeper, deadline);
    struct lua_waits *waits = s->waits;
    uint64_t ticket = s->ticket;
    free(s);
    lua_coro_complete(waits, ticket, push_nothing, NULL);
}

static void lua_sleep_abandon(void *ctx, uint64_t ticket)
{
    struct sleeper *s = ctx;
    (void)ticket;
    deadline_disarm(&s->deadline);
    free(s);
}

int lua_sleep(lua_State *L)
{
    uint64_t ticket = lua_coro_begin(L, "sleep");
    double seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0 && seconds <= most_s, 1, "0 to 86400 seconds were expected");
    struct sleeper *s = xmalloc(sizeof *s); /* nothing below raises before the wait owns it */
    *s = (struct sleeper){.waits = lua_coro_waits_of(L), .ticket = ticket};
    deadline_init(&s->deadline);
    struct loop *loop = lua_waits_loop(s->waits);
    deadline_arm_in(loop_deadline_class(loop, 0, on_time), &s->deadline,
                    (uint64_t)ceil(seconds * 1000));
    return lua_coro_wait(L, ticket, &(struct lua_wait){.abandon = lua_sleep_abandon, .ctx = s});
}
