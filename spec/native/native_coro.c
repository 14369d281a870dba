/* lua/lua_coro: a policy whose hooks wait for wait(name), a function that the spec completes, as
 * often and as late as it likes. Questions are answered into a list. */
#include "base/require.h"
#include "lua/api/lua_cache.h"
#include "lua/policy/lua_policy.h"
#include "lua/vm/lua_coro.h"
#include "native_policy.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

static const char *const coro_class = "native.coro";

enum { WAITS_MAX = 4096, NAME_BYTES = 64 };

struct wait {
    char name[NAME_BYTES];
    uint64_t ticket, left_ms;
    bool abandoned;
};

struct bench {
    struct loop *loop;
    uv_timer_t alive;
    struct policy_metrics metrics;
    struct lua_waits *waits;
    struct lua_cache *cache;
    struct policy *policies[4]; /* generations */
    struct wait all[WAITS_MAX];
    size_t count;
    lua_State *L; /* the spec's, during a turn: where answers go, into the table on top */
};

static struct bench *check(lua_State *L)
{
    struct bench *b = luaL_checkudata(L, 1, coro_class);
    luaL_argcheck(L, b->loop, 1, "closed");
    return b;
}

static struct policy *check_policy(lua_State *L, struct bench *b, int arg)
{
    lua_Integer i = luaL_optinteger(L, arg, 1);
    luaL_argcheck(L, i >= 1 && i <= 4 && b->policies[i - 1], arg, "no such generation");
    return b->policies[i - 1];
}

/* ---- what hooks call */

static void abandon(void *ctx, uint64_t ticket)
{
    struct bench *b = ctx;
    for (size_t i = 0; i < b->count; i++) {
        if (b->all[i].ticket == ticket) {
            REQUIRE(!b->all[i].abandoned);
            b->all[i].abandoned = true;
        }
    }
}

/* wait(name [, instead]): with `instead`, changes its mind and returns that at once */
static int l_wait(lua_State *L)
{
    struct bench *b = lua_touserdata(L, lua_upvalueindex(1));
    uint64_t ticket = lua_coro_begin(L, "wait");
    const char *name = luaL_checkstring(L, 1);
    if (b->count == WAITS_MAX) {
        return luaL_error(L, "too many waits");
    }
    struct wait *w = &b->all[b->count++];
    *w = (struct wait){.ticket = ticket, .left_ms = lua_coro_left_ms(L)};
    snprintf(w->name, sizeof w->name, "%s", name);
    if (!lua_isnoneornil(L, 2)) {
        lua_settop(L, 2);
        return 1;
    }
    return lua_coro_wait(L, ticket, &(struct lua_wait){.abandon = abandon, .ctx = b});
}

static void extend(lua_State *L, void *ctx)
{
    lua_pushlightuserdata(L, ctx);
    lua_pushcclosure(L, l_wait, 1);
    lua_setfield(L, -2, "wait");
}

/* ---- life */

static void on_alive(uv_timer_t *t)
{
    (void)t; /* its being active is the effect */
}

static void close_bench(struct bench *b)
{
    if (!b->loop) {
        return;
    }
    for (int i = 0; i < 4; i++) {
        if (b->policies[i]) {
            b->policies[i]->life->close(b->policies[i]);
            b->policies[i] = NULL;
        }
    }
    uv_run(loop_uv(b->loop), UV_RUN_NOWAIT);
    lua_cache_free(b->cache);
    lua_waits_free(b->waits);
    uv_close((uv_handle_t *)&b->alive, NULL);
    uv_run(loop_uv(b->loop), UV_RUN_NOWAIT);
    unsigned left = loop_free(b->loop);
    b->loop = NULL;
    if (left) {
        abort();
    }
}

static int l_gc(lua_State *L)
{
    struct bench *b = luaL_checkudata(L, 1, coro_class);
    b->L = NULL;
    close_bench(b);
    return 0;
}

/* new{suspended, per_address, queued} */
static int l_new(lua_State *L)
{
    struct bench *b = lua_newuserdatauv(L, sizeof *b, 0);
    memset(b, 0, sizeof *b);
    luaL_setmetatable(L, coro_class);
    b->loop = loop_new();
    uv_timer_init(loop_uv(b->loop), &b->alive);
    uv_timer_start(&b->alive, on_alive, 1000000, 1000000);
    uv_run(loop_uv(b->loop), UV_RUN_NOWAIT);
    struct lua_waits_limits limits = {
        .suspended = (unsigned)native_field_integer(L, 1, "suspended", 64),
        .suspended_per_address = (unsigned)native_field_integer(L, 1, "per_address", 0),
        .queued = (unsigned)native_field_integer(L, 1, "queued", 0)};
    b->waits = lua_waits_new(b->loop, &b->metrics, &limits);
    struct lua_cache_limits cache = {
        .bytes = (size_t)native_field_integer(L, 1, "cache_bytes", 1 << 20),
        .value_bytes = (size_t)native_field_integer(L, 1, "value_bytes", 65536)};
    b->cache = lua_cache_new(b->loop, &b->metrics, &cache);
    return 1;
}

/* b:open{file, timeout_ms, memory_bytes [, generation]} -> true, or nil, text */
static int l_open(lua_State *L)
{
    struct bench *b = check(L);
    lua_Integer i = native_field_integer(L, 2, "generation", 1);
    uint64_t timeout_ms = (uint64_t)native_field_integer(L, 2, "timeout_ms", 60000);
    struct lua_policy_options opt = {
        .file = native_field_slice(L, 2, "file").p,
        .memory_bytes = (size_t)native_field_integer(L, 2, "memory_bytes", 16 << 20),
        .event_bytes = 1 << 20,
        .limits = {.topics = 100,
                   .params_keys = 32,
                   .params_bytes = 1024,
                   .identity_bytes = 2048,
                   .first_bytes = 4096,
                   .presence_bytes = 1024},
        .waits = b->waits,
        .cache = b->cache,
        .subscribe_timeout_ms = timeout_ms,
        .publish_timeout_ms = timeout_ms,
        .extend = extend,
        .extend_ctx = b};
    struct err e = {0};
    luaL_argcheck(L, i >= 1 && i <= 4 && !b->policies[i - 1], 2, "generation");
    if (lua_policy_open(&opt, b->loop, &b->metrics, &b->policies[i - 1], NULL, &e)) {
        lua_pushnil(L);
        lua_pushstring(L, e.text);
        return 2;
    }
    b->policies[i - 1]->life->set_stage(b->policies[i - 1], POLICY_LIVE);
    lua_pushboolean(L, true);
    return 1;
}

/* b:shut([generation]): closes the policy. Its answers come with the next turn. */
static int l_shut(lua_State *L)
{
    struct bench *b = check(L);
    lua_Integer i = luaL_optinteger(L, 2, 1);
    struct policy *p = check_policy(L, b, 2);
    b->policies[i - 1] = NULL;
    p->life->close(p);
    return 0;
}

/* ---- questions */

static void add_answer(struct bench *b, uint64_t token)
{
    lua_State *L = b->L; /* stack: ..., answers, answer */
    if (!L) {
        return;
    }
    lua_pushinteger(L, (lua_Integer)token);
    lua_setfield(L, -2, "token");
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

static void on_subscribe(void *ctx, uint64_t token, const struct verdict *v)
{
    struct bench *b = ctx;
    if (b->L) {
        native_push_verdict(b->L, v);
    }
    add_answer(b, token);
}

static void on_publish(void *ctx, uint64_t token, const struct verdict *v,
                       struct event_list *events, const struct publication_made *made)
{
    struct bench *b = ctx;
    (void)made;
    if (b->L) {
        native_push_verdict(b->L, v);
        lua_newtable(b->L);
        for (size_t i = 0; i < events->n; i++) {
            native_push_fields(b->L, events->v[i]);
            lua_rawseti(b->L, -2, (lua_Integer)i + 1);
        }
        lua_setfield(b->L, -2, "events");
    }
    add_answer(b, token);
}

/* b:subscribe(token, request [, generation]) */
static int l_subscribe(lua_State *L)
{
    struct bench *b = check(L);
    struct native_request rq;
    struct policy *p = check_policy(L, b, 4);
    native_read_request(L, 3, &rq);
    p->gates->subscribe(p, &rq.rq, on_subscribe, b, (uint64_t)luaL_checkinteger(L, 2));
    memset(&rq, 0x55, sizeof rq); /* borrowed for the call only */
    return 0;
}

/* b:publish(token, request, {event, ..} [, generation]) */
static int l_publish(lua_State *L)
{
    struct bench *b = check(L);
    struct native_request rq;
    struct event_list asked = {0};
    struct policy *p = check_policy(L, b, 5);
    native_read_request(L, 3, &rq);
    for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, 4); i++) {
        lua_rawgeti(L, 4, i);
        native_push_event(L, lua_gettop(L));
        event_list_push(&asked, event_ref(native_check_event(L, -1)));
        lua_pop(L, 2);
    }
    p->gates->publish(p, &rq.rq, &asked, on_publish, b, (uint64_t)luaL_checkinteger(L, 2));
    memset(&rq, 0x55, sizeof rq);
    return 0;
}

/* b:disconnected(identity [, generation]) */
static int l_disconnected(lua_State *L)
{
    struct bench *b = check(L);
    struct policy *p = check_policy(L, b, 3);
    char identity[256];
    struct disconnect_info info = {CLOSE_LAGGED, 1.5, 3};
    snprintf(identity, sizeof identity, "%s", luaL_checkstring(L, 2));
    p->gates->disconnected(p, slice_str(identity), &info);
    memset(identity, 0x55, sizeof identity);
    return 0;
}

/* b:cancel(token [, generation]) */
static int l_cancel(lua_State *L)
{
    struct bench *b = check(L);
    struct policy *p = check_policy(L, b, 3);
    p->gates->cancel(p, (uint64_t)luaL_checkinteger(L, 2));
    return 0;
}

/* b:turn() -> answers that came */
static int l_turn(lua_State *L)
{
    struct bench *b = check(L);
    lua_newtable(L);
    b->L = L;
    uv_run(loop_uv(b->loop), UV_RUN_NOWAIT);
    uv_run(loop_uv(b->loop), UV_RUN_NOWAIT);
    b->L = NULL;
    return 1;
}

/* ---- completions */

struct result {
    const char *text; /* NULL: nil, "failed" */
    bool raise;
};

static int push_result(lua_State *L, void *ud)
{
    const struct result *r = ud;
    if (r->raise) {
        return luaL_error(L, "%s", r->text);
    }
    if (!r->text) {
        lua_pushnil(L);
        lua_pushliteral(L, "failed");
        return 2;
    }
    lua_pushstring(L, r->text);
    return 1;
}

static struct wait *check_wait(lua_State *L, struct bench *b, int arg)
{
    lua_Integer i = luaL_checkinteger(L, arg);
    luaL_argcheck(L, i >= 1 && (size_t)i <= b->count, arg, "no such wait");
    return &b->all[i - 1];
}

/* b:complete(n, text [, raise]) -> did anything wait: the n-th call of wait() */
static int l_complete(lua_State *L)
{
    struct bench *b = check(L);
    struct wait *w = check_wait(L, b, 2);
    struct result r = {luaL_optstring(L, 3, NULL), lua_toboolean(L, 4)};
    lua_pushboolean(L, lua_coro_complete(b->waits, w->ticket, push_result, &r));
    return 1;
}

/* b:waits() -> {{name, waiting, abandoned, left_ms}, ..}: every call of wait(), in order */
static int l_waits(lua_State *L)
{
    struct bench *b = check(L);
    lua_newtable(L);
    for (size_t i = 0; i < b->count; i++) {
        const struct wait *w = &b->all[i];
        lua_newtable(L);
        lua_pushstring(L, w->name);
        lua_setfield(L, -2, "name");
        lua_pushboolean(L, lua_coro_waits(b->waits, w->ticket));
        lua_setfield(L, -2, "waiting");
        lua_pushboolean(L, w->abandoned);
        lua_setfield(L, -2, "abandoned");
        lua_pushinteger(L, (lua_Integer)w->left_ms);
        lua_setfield(L, -2, "left_ms");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* b:forget(): later calls of wait() are counted from 1 */
static int l_forget(lua_State *L)
{
    check(L)->count = 0;
    return 0;
}

static int l_metrics(lua_State *L)
{
    struct bench *b = check(L);
    lua_newtable(L);
#define X(member, kind, name, help)                                                                \
    lua_pushinteger(L, (lua_Integer)b->metrics.member);                                            \
    lua_setfield(L, -2, #member);
    POLICY_METRICS(X)
#undef X
    return 1;
}

int native_open_coro(lua_State *L)
{
    static const luaL_Reg functions[] = {{"new", l_new}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"open", l_open},
                                       {"shut", l_shut},
                                       {"subscribe", l_subscribe},
                                       {"publish", l_publish},
                                       {"disconnected", l_disconnected},
                                       {"cancel", l_cancel},
                                       {"turn", l_turn},
                                       {"complete", l_complete},
                                       {"waits", l_waits},
                                       {"forget", l_forget},
                                       {"metrics", l_metrics},
                                       {"close", l_gc},
                                       {"__gc", l_gc},
                                       {NULL, NULL}};
    native_class(L, coro_class, methods);
    luaL_newlib(L, functions);
    return 1;
}
