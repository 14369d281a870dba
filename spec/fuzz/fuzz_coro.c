/* Hooks that wait, and everything that can happen to them in any order: completions that come once,
 * twice, late or never, clients that leave, policies that are closed. The input is a list of steps.
 * Whatever they are: a question is answered once, or not at all when its client has left; a wait
 * ends once; in the end nothing waits and nothing is left. */
#include "lua/api/lua_cache.h"
#include "lua/policy/lua_policy.h"
#include "lua/vm/lua_coro.h"
#include "net/loop.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ?x= is what subscribe does, a letter a step. */
static const char source[] =
    "local P, closing = { api = 1 }, { __close = function() return 1 end }\n"
    "local function fetch(key, nested)\n"
    "  return cache.fetch(key, { ttl = 0.001, stale = 10 }, function()\n"
    "    if nested then return fetch('b') end\n"
    "    return wait() end) end\n"
    "local steps = { w = wait, s = function() sleep(0) end,\n"
    "  c = function() fetch('a') end, n = function() fetch('a', true) end,\n"
    "  p = function() pcall(wait) end, e = function() error('x') end,\n"
    "  t = function() local c <close> = setmetatable({}, closing) wait() end }\n"
    "function P.authenticate() return {} end\n"
    "function P.subscribe(req)\n"
    "  for c in req.query.x:gmatch('.') do (steps[c] or wait)() end\n"
    "  return { topics = { 'a' } } end\n"
    "function P.publish(pub) wait() return pub end\n"
    "function P.disconnect() wait() end\n"
    "return P\n";

enum { POLICIES = 2, QUESTIONS = 64, WAITS = 512 };

struct question {
    bool cancelled;
    unsigned answers;
};

struct wait {
    uint64_t ticket;
    unsigned ended; /* completed or abandoned */
};

struct bench {
    char path[64];
    struct loop *loop;
    uv_timer_t alive;
    struct policy_metrics metrics;
    struct lua_waits *waits;
    struct lua_cache *cache;
    struct policy *policies[POLICIES];
    struct question questions[QUESTIONS];
    struct wait all[WAITS];
    size_t asked, count;
};

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void abandon(void *ctx, uint64_t ticket)
{
    struct bench *b = ctx;
    for (size_t i = 0; i < b->count; i++) {
        if (b->all[i].ticket == ticket) {
            require(++b->all[i].ended == 1);
        }
    }
}

static int l_wait(lua_State *L)
{
    struct bench *b = lua_touserdata(L, lua_upvalueindex(1));
    uint64_t ticket = lua_coro_begin(L, "wait");
    if (b->count == WAITS) {
        return 0;
    }
    b->all[b->count++] = (struct wait){.ticket = ticket};
    return lua_coro_wait(L, ticket, &(struct lua_wait){.abandon = abandon, .ctx = b});
}

static void extend(lua_State *L, void *ctx)
{
    lua_pushlightuserdata(L, ctx);
    lua_pushcclosure(L, l_wait, 1);
    lua_setfield(L, -2, "wait");
}

static void on_alive(uv_timer_t *t)
{
    (void)t;
}

static void open_policy(struct bench *b, size_t i)
{
    struct err e;
    struct lua_policy_options opt = {
        .file = b->path,
        .memory_bytes = 8 << 20,
        .event_bytes = 4096,
        .limits = {.topics = 100, .params_keys = 32, .params_bytes = 1024, .identity_bytes = 2048},
        .error_log_interval_s = 3600,
        .waits = b->waits,
        .cache = b->cache,
        .subscribe_timeout_ms = 60000,
        .publish_timeout_ms = 60000,
        .extend = extend,
        .extend_ctx = b};
    require(lua_policy_open(&opt, b->loop, &b->metrics, &b->policies[i], NULL, &e) == 0);
}

static struct bench *bench_new(void)
{
    struct bench *b = calloc(1, sizeof *b);
    struct lua_waits_limits waits = {.suspended = 16, .suspended_per_address = 8, .queued = 4};
    struct lua_cache_limits cache = {65536, 4096};
    require(b != NULL);
    snprintf(b->path, sizeof b->path, "/tmp/fuzz_coro_XXXXXX");
    int fd = mkstemp(b->path);
    require(fd >= 0 && write(fd, source, sizeof source - 1) == (ssize_t)sizeof source - 1);
    close(fd);
    b->loop = loop_new();
    require(uv_timer_init(loop_uv(b->loop), &b->alive) == 0);
    require(uv_timer_start(&b->alive, on_alive, 1000000, 1000000) == 0);
    b->waits = lua_waits_new(b->loop, &b->metrics, &waits);
    b->cache = lua_cache_new(b->loop, &b->metrics, &cache);
    for (size_t i = 0; i < POLICIES; i++) {
        open_policy(b, i);
    }
    unlink(b->path);
    return b;
}

static void turn(struct bench *b)
{
    uv_run(loop_uv(b->loop), UV_RUN_NOWAIT);
}

static void bench_free(struct bench *b)
{
    for (size_t i = 0; i < POLICIES; i++) {
        if (b->policies[i]) {
            b->policies[i]->life->close(b->policies[i]);
        }
    }
    turn(b);
    turn(b);
    for (size_t i = 0; i < b->asked; i++) {
        const struct question *q = &b->questions[i];
        require(q->cancelled ? q->answers <= 1 : q->answers == 1);
    }
    for (size_t i = 0; i < b->count; i++) {
        require(b->all[i].ended <= 1 && !lua_coro_waits(b->waits, b->all[i].ticket));
    }
    require(b->metrics.policy_suspended == 0 && b->metrics.policy_stack_repairs == 0);
    lua_cache_free(b->cache);
    lua_waits_free(b->waits);
    uv_close((uv_handle_t *)&b->alive, NULL);
    turn(b);
    require(loop_free(b->loop) == 0);
    free(b);
}

static void on_subscribe(void *ctx, uint64_t token, const struct verdict *v)
{
    struct bench *b = ctx;
    require(token >= 1 && token <= b->asked && v->kind != VERDICT_DENY);
    b->questions[token - 1].answers++;
}

static void on_publish(void *ctx, uint64_t token, const struct verdict *v,
                       struct event_list *events, const struct publication_made *made)
{
    (void)made;
    require((v->kind == VERDICT_ALLOW) == (events->n > 0));
    on_subscribe(ctx, token, v);
}

static void ask(struct bench *b, struct policy *p, struct slice plan, bool publish)
{
    struct http_param param = {slice_str("x"), plan};
    struct http_query query = {.params = &param, .count = 1};
    struct http_request http = {.method_name = slice_str("GET"), .path = slice_str("/")};
    struct policy_request rq = {.id = 1, .http = &http, .query = &query};
    (void)peer_address_parse(slice_str(b->asked % 3 ? "192.0.2.1" : "192.0.2.2"), &rq.client);
    if (b->asked == QUESTIONS) {
        return;
    }
    b->asked++;
    if (publish) {
        struct event_list asked = {0};
        struct event_fields f = {.topic = slice_str("a"), .data = plan, .time_ms = 1};
        event_list_push(&asked, event_new(&f));
        p->gates->publish(p, &rq, &asked, on_publish, b, b->asked);
    } else {
        p->gates->subscribe(p, &rq, on_subscribe, b, b->asked);
    }
}

static int push_result(lua_State *L, void *ud)
{
    if (*(const uint8_t *)ud & 1U) {
        return luaL_error(L, "failed");
    }
    lua_pushinteger(L, 1);
    return 1;
}

static void complete(struct bench *b, size_t n, uint8_t how)
{
    if (n < b->count) {
        struct wait *w = &b->all[n];
        bool waited = lua_coro_waits(b->waits, w->ticket);
        w->ended += waited ? 1 : 0;
        require(lua_coro_complete(b->waits, w->ticket, push_result, &how) == waited);
        require(w->ended <= 1);
    }
}

static void step(struct bench *b, uint8_t op, uint8_t arg)
{
    static const char plans[] = "wscnpetwwccnctpwcsn";
    struct policy *p = b->policies[op >> 7U];
    struct slice plan = slice_of(plans + arg % (sizeof plans - 5), 1 + arg % 5);
    struct disconnect_info info = {CLOSE_LAGGED, 1, 1};
    switch (op % 8) {
    case 0:
    case 1:
        if (p) {
            ask(b, p, plan, op % 8 == 1);
        }
        break;
    case 2:
    case 3:
        complete(b, arg, op);
        break;
    case 4:
        turn(b);
        break;
    case 5:
        if (arg < b->asked && b->policies[0]) {
            b->questions[arg].cancelled = true;
            b->policies[0]->gates->cancel(b->policies[0], (uint64_t)arg + 1);
        }
        break;
    case 6:
        if (p) {
            p->gates->disconnected(p, slice_str("{}"), &info);
        }
        break;
    default:
        if (p && arg > 250) {
            p->life->close(p);
            b->policies[op >> 7U] = NULL;
        }
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bench *b = bench_new();
    for (size_t i = 0; i + 1 < size && i < 1000; i += 2) {
        step(b, data[i], data[i + 1]);
    }
    bench_free(b);
    return 0;
}
