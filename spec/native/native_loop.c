/* net/loop: what a turn does, and what it leaves for later. */
#include "native.h"
#include "net/loop.h"

enum { TASKS_MAX = 1000, DEADLINE_MS = 10 };

struct native_loop {
    struct loop *loop;
    struct task tasks[TASKS_MAX];
    struct deadline deadlines[TASKS_MAX];
    unsigned count, ran, busy_us;
    lua_State *L; /* the list of steps is on its stack */
};

static struct native_loop native_loop;

static void be_busy(unsigned us)
{
    uint64_t until = uv_hrtime() + us * UINT64_C(1000);
    while (us && uv_hrtime() < until) {
    }
}

static void on_late(struct task *t)
{
    (void)t;
    be_busy(native_loop.busy_us);
    native_loop.ran++;
}

static void on_deadline(struct deadline *d)
{
    (void)d;
    be_busy(native_loop.busy_us);
    native_loop.ran++;
}

static bool on_flush(void *ctx)
{
    struct native_loop *n = ctx;
    lua_pushinteger(n->L, n->ran);
    lua_rawseti(n->L, -2, (lua_Integer)lua_rawlen(n->L, -2) + 1);
    return false;
}

static void on_start(uv_timer_t *timer)
{
    struct native_loop *n = timer->data;
    for (unsigned i = 0; i < n->count; i++) {
        task_init(&n->tasks[i], on_late);
        loop_defer_late(n->loop, &n->tasks[i]);
        loop_defer_late(n->loop, &n->tasks[i]); /* once is enough */
    }
    uv_close((uv_handle_t *)timer, NULL);
}

/* late(n, us) -> how many of n late tasks had run at each flush step before the loop had nothing to do */
static int l_late(lua_State *L)
{
    struct native_loop *n = &native_loop;
    uv_timer_t timer;
    *n = (struct native_loop){.loop = loop_new(), .L = L};
    n->count = (unsigned)luaL_checkinteger(L, 1);
    n->busy_us = (unsigned)luaL_optinteger(L, 2, 0);
    luaL_argcheck(L, n->count <= TASKS_MAX, 1, "too many");
    lua_newtable(L);
    loop_on_flush(n->loop, on_flush, n);
    timer.data = n;
    if (uv_timer_init(loop_uv(n->loop), &timer) || uv_timer_start(&timer, on_start, 0, 0)) {
        return luaL_error(L, "cannot start");
    }
    loop_run(n->loop);
    if (loop_free(n->loop)) {
        return luaL_error(L, "handles are left");
    }
    return 1;
}

static void on_admit(uv_timer_t *timer)
{
    struct native_loop *n = timer->data;
    lua_Integer admitted = 0;
    while (loop_admit(n->loop)) {
        be_busy(n->busy_us);
        admitted++;
    }
    lua_pushinteger(n->L, admitted);
    lua_rawseti(n->L, -2, (lua_Integer)lua_rawlen(n->L, -2) + 1);
    if (lua_rawlen(n->L, -1) == n->count) {
        uv_close((uv_handle_t *)timer, NULL);
    }
}

/* admitted(turns, us) -> how often loop_admit() agreed in each of them; each takes so many us */
static int l_admitted(lua_State *L)
{
    struct native_loop *n = &native_loop;
    uv_timer_t timer;
    *n = (struct native_loop){.loop = loop_new(), .L = L};
    n->count = (unsigned)luaL_checkinteger(L, 1);
    n->busy_us = (unsigned)luaL_optinteger(L, 2, 0);
    lua_newtable(L);
    timer.data = n;
    if (uv_timer_init(loop_uv(n->loop), &timer) || uv_timer_start(&timer, on_admit, 0, 1)) {
        return luaL_error(L, "cannot start");
    }
    loop_run(n->loop);
    if (loop_free(n->loop)) {
        return luaL_error(L, "handles are left");
    }
    return 1;
}

static bool on_flush_of_deadlines(void *ctx)
{
    struct native_loop *n = ctx;
    on_flush(ctx);
    return n->ran < n->count;
}

static void on_begin(uv_timer_t *timer)
{
    uv_close((uv_handle_t *)timer,
             NULL); /* from now on the flush callback keeps the loop running */
}

/* deadlines(n, us) -> how many of n deadlines that were due at once had run at each flush step; each takes so many us */
static int l_deadlines(lua_State *L)
{
    struct native_loop *n = &native_loop;
    uv_timer_t timer;
    *n = (struct native_loop){.loop = loop_new(), .L = L};
    n->count = (unsigned)luaL_checkinteger(L, 1);
    n->busy_us = (unsigned)luaL_checkinteger(L, 2);
    luaL_argcheck(L, n->count <= TASKS_MAX, 1, "too many");
    lua_newtable(L);
    loop_on_flush(n->loop, on_flush_of_deadlines, n);
    for (unsigned i = 0; i < n->count; i++) {
        deadline_init(&n->deadlines[i]);
        deadline_arm(loop_deadline_class(n->loop, DEADLINE_MS, on_deadline), &n->deadlines[i]);
    }
    if (uv_timer_init(loop_uv(n->loop), &timer) || uv_timer_start(&timer, on_begin, 0, 0)) {
        return luaL_error(L, "cannot start");
    }
    loop_run(n->loop);
    if (loop_free(n->loop)) {
        return luaL_error(L, "handles are left");
    }
    return 1;
}

int native_open_loop(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"late", l_late}, {"admitted", l_admitted}, {"deadlines", l_deadlines}, {NULL, NULL}};
    luaL_newlib(L, functions);
    lua_pushinteger(L, LOOP_LATE_TASKS);
    lua_setfield(L, -2, "LATE_TASKS");
    lua_pushinteger(L, LOOP_ADMITTED);
    lua_setfield(L, -2, "ADMITTED");
    lua_pushinteger(L, LOOP_ADMITTED_LEAST);
    lua_setfield(L, -2, "ADMITTED_LEAST");
    lua_pushinteger(L, LOOP_EXPIRED_LEAST);
    lua_setfield(L, -2, "EXPIRED_LEAST");
    return 1;
}
