/* See tools/test/test_broker.h. Built and taken apart in the order of server.c. */
#include "tools/test/test_broker.h"

#include "base/alloc.h"
#include "base/require.h"
#include "broker/http/routes.h"
#include "config/config.h"
#include "lua/api/lua_cache.h"
#include "lua/api/lua_rate.h"
#include "lua/policy/lua_policy.h"
#include "lua/vm/lua_waits.h"
#include "lua/vm/lua_watchdog.h"
#include "net/http/http_server.h"
#include "net/http/listener.h"
#include "quota/shared_area.h"
#include "reload/policy_reload.h"
#include "server/server_keys.h"
#include "server/server_options.h"
#include "sets/set_store.h"
#include "store/store_memory.h"
#include "tools/test/test_tls.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* After that any bucket is full: see tg.rate. */
static const uint64_t refill_ns = UINT64_C(8) * 86400 * 1000000000;

enum { CLOSING_TURNS = 10000, ALIVE_MS = 1000, COVER_BUDGETS = 10 };

static const char *const test_broker_every_topic[] = {"**"};

struct test_broker {
    const struct config *config;
    struct loop *loop;
    uv_timer_t alive; /* libuv does nothing in a loop without active handles */
    struct server_options options;
    struct test_tls tls;  /* of the request that is asked about */
    struct network proxy; /* the client's end: says who the client is */
    struct net_metrics net;
    struct broker_metrics broker_metrics;
    struct policy_metrics policy_metrics;
    struct lookup_metrics lookup_metrics;
    struct store_metrics store_metrics;
    struct quota_metrics quota_metrics;
    struct shared_area area; /* no other process shares it */
    struct quota_user quota_user;
    struct lua_rates rates;
    uint64_t rates_ns;     /* the time that rates see: that which has passed, never back */
    int64_t rates_unix_ms; /* when that was reckoned */
    struct http_server server;
    struct broker *broker;
    struct store *store;
    struct keyring *keyring;
    struct set_store *sets;
    struct lua_cache *cache;
    struct lua_waits *waits;
    struct lua_watchdog *watchdog;
    struct policy_reload *policies;
    bool built;
};

void test_broker_turn(struct test_broker *w)
{
    (void)uv_run(loop_uv(w->loop), UV_RUN_NOWAIT); /* whether handles are left is no news */
}

void test_broker_wait(struct test_broker *w)
{
    (void)uv_run(loop_uv(w->loop), UV_RUN_ONCE); /* the broker's sweep comes every second */
}

static void test_broker_on_store_closed(void *ctx)
{
    struct test_broker *w = ctx;
    w->store = NULL;
}

void test_broker_close(struct test_broker *w)
{
    if (!w) {
        return;
    }
    if (w->built) {
        http_server_close_all(&w->server, CLOSE_DRAINING);
    }
    if (w->policies) {
        policy_reload_close(w->policies);
    }
    if (w->store) {
        broker_leave_store(w->broker);
        w->store->ops->close(w->store, test_broker_on_store_closed, w);
    }
    if (w->sets) {
        set_store_close(w->sets);
    }
    for (int i = 0; i < CLOSING_TURNS && (w->store || w->server.conn_count); i++) {
        test_broker_turn(w);
    }
    while (w->sets && set_store_works(w->sets)) { /* pool threads end what they do */
        test_broker_wait(w);
    }
    REQUIRE(!w->store);
    uv_close((uv_handle_t *)&w->alive, NULL);
    test_broker_turn(w); /* the last one: the broker works in every turn */
    if (w->broker) {
        broker_free(w->broker);
    }
    if (w->policies) {
        policy_reload_free(w->policies);
    }
    set_store_free(w->sets);
    keyring_close(w->keyring);
    lua_cache_free(w->cache);
    lua_waits_free(w->waits);
    lua_watchdog_free(w->watchdog);
    if (w->built) {
        http_server_clear(&w->server);
    }
    server_options_clear(&w->options);
    quota_leave(&w->quota_user);
    shared_area_close(&w->area);
    REQUIRE(loop_free(w->loop) == 0);
    free(w);
}

static void on_alive(uv_timer_t *t)
{
    (void)t; /* its being active is the effect */
}

static int keep_alive(struct test_broker *w)
{
    int rc = uv_timer_init(loop_uv(w->loop), &w->alive);
    return rc ? rc : uv_timer_start(&w->alive, on_alive, ALIVE_MS, ALIVE_MS);
}

static void test_broker_head(void *ctx, struct stream *s, struct http_request *rq,
                             const struct peer_address *client)
{
    struct test_broker *w = ctx;
    if (!test_tls_take(&w->tls, rq)) {
        stream_close(s, CLOSE_REFUSED_REQUEST);
        return;
    }
    routes_head(w->broker, s, rq, client);
}

static void test_broker_request(void *ctx, struct stream *s, struct http_request *rq,
                                const struct peer_address *client)
{
    struct test_broker *w = ctx;
    if (!test_tls_take(&w->tls, rq)) {
        stream_close(s, CLOSE_REFUSED_REQUEST);
        return;
    }
    routes_request(w->broker, s, rq, client);
}

static void test_broker_build(struct test_broker *w)
{
    struct err e;
    REQUIRE(network_parse("unix", &w->proxy, &e) == 0);
    w->options.public.trusted_proxies = &w->proxy;
    w->options.public.trusted_proxy_count = 1;
    w->broker = broker_new(w->loop, &w->options.broker, &w->broker_metrics);
    const struct http_handlers handlers = {test_broker_head, test_broker_request, NULL, NULL, w};
    http_server_init(&w->server, w->loop, &w->options.public, &handlers, &w->net);
    broker_set_server(w->broker, &w->server);
    broker_set_quotas(w->broker, &w->quota_user, &w->quota_metrics, NULL, NULL);
    const struct policy_reload_options policies = {.policy = &w->options.policy};
    w->policies = policy_reload_new(w->loop, w->broker, &w->policy_metrics, &policies);
    w->built = true;
}

static void test_broker_store(struct test_broker *w)
{
    static const struct store_memory_options memory = {
        .first_id = 0, .keys = true, .latest = {.patterns = test_broker_every_topic, .n = 1}};
    w->store =
        store_memory_open(&memory, loop_uv(w->loop), &w->store_metrics, broker_tail, w->broker);
    broker_set_store(w->broker, w->store);
}

/* Rates go by the clock that can be set, though never back. */
static uint64_t test_broker_now_ns(void *ctx)
{
    struct test_broker *w = ctx;
    int64_t now = loop_unix_ms(w->loop);
    int64_t passed = now > w->rates_unix_ms ? now - w->rates_unix_ms : 0;
    w->rates_unix_ms = now;
    w->rates_ns += (uint64_t)passed * 1000000;
    return w->rates_ns;
}

void test_broker_refill(struct test_broker *w)
{
    w->rates_ns += refill_ns;
}

static int test_broker_count(struct test_broker *w, const struct config *c, struct err *e)
{
    int rc = shared_area_new(&w->area, (uint32_t)c->policy.quota_streams,
                             (uint32_t)c->policy.rate_keys, e);
    if (rc == 0) {
        REQUIRE(quota_join(&w->quota_user, w->area.quotas, (int)getpid(), 0) == 0);
        w->rates = (struct lua_rates){.table = w->area.rates,
                                      .now_ns = test_broker_now_ns,
                                      .ctx = w,
                                      .metrics = &w->quota_metrics};
        w->options.policy.rates = &w->rates;
    }
    return rc;
}

/* What policies need of the process. */
static int provide(struct test_broker *w, const struct test_broker_options *opt, struct err *e)
{
    const struct config *config = opt->config;
    struct lua_policy_options *o = &w->options.policy;
    o->waits = w->waits = lua_waits_new(w->loop, &w->policy_metrics, &w->options.waits);
    o->cache = w->cache = lua_cache_new(w->loop, &w->policy_metrics, &w->options.cache);
    o->watchdog = w->watchdog = lua_watchdog_new((uint64_t)config->policy.hard_limit_ms, e);
    o->queries = opt->queries;
    w->options.sets.source = opt->queries;
    w->options.sets.database = NULL;
    o->sets = w->sets = set_store_new(w->loop, &w->options.sets, &w->policy_metrics);
    o->http = opt->http;
    int rc = w->watchdog ? test_broker_count(w, config, e) : e->code;
    if (rc == 0) {
        rc = opt->keys ? keyring_open(&w->keyring, opt->keys, opt->key_count, 0, e)
                       : server_keys_open(&w->keyring, config, e);
    }
    o->keyring = w->keyring;
    return rc;
}

struct preparation {
    bool there;
    int rc;
    struct err *e;
};

static void test_broker_on_ready(void *ctx, int rc, const struct err *e)
{
    struct preparation *p = ctx;
    p->there = true;
    p->rc = rc;
    if (rc) {
        *p->e = *e;
    }
}

static void test_broker_give(struct lua_policy_options *o, const struct test_broker_given *given)
{
    o->file = given->policy ? given->policy : o->file;
    if (given->settings) {
        o->settings = given->settings;
        o->setting_count = given->setting_count;
    }
    if (given->path) {
        o->path = given->path;
        o->path_count = given->path_count;
    }
}

static int test_broker_load(struct test_broker *w, const struct test_broker_options *opt,
                            struct err *e)
{
    struct preparation ready = {.e = e};
    test_broker_set_time(w, opt->unix_ms);
    test_broker_give(&w->options.policy, &opt->given);
    w->options.policy.auth_open = w->options.policy.auth_open || opt->auth_open;
    w->options.policy.extend = opt->extend;
    w->options.policy.extend_ctx = opt->ctx;
    w->options.policy.failed = opt->failed;
    w->options.policy.cover = opt->cover;
    if (opt->cover) { /* what is recorded costs time, too */
        struct lua_policy_cpu *cpu = &w->options.policy.cpu;
        cpu->subscribe_ms *= COVER_BUDGETS;
        cpu->publish_ms *= COVER_BUDGETS;
        cpu->filter_ms *= COVER_BUDGETS;
        cpu->load_ms *= COVER_BUDGETS;
    }
    if (opt->prepare) {
        opt->prepare(opt->ctx, w->waits);
    }
    int rc = policy_reload_start(w->policies, test_broker_on_ready, &ready, e);
    if (rc) {
        return rc;
    }
    test_broker_turn(w);
    while (!ready.there) { /* it has a deadline */
        test_broker_wait(w);
    }
    return ready.rc;
}

struct reloading {
    policy_report_cb cb;
    void *ctx;
    bool there, refused;
};

static void test_broker_on_reloaded(void *ctx, uint64_t token, const struct policy_report *rep)
{
    struct reloading *r = ctx;
    r->there = true;
    r->refused = rep->outcome == POLICY_REFUSED;
    r->cb(r->ctx, token, rep);
}

void test_broker_reload(struct test_broker *w, const struct test_broker_given *given,
                        policy_report_cb cb, void *ctx)
{
    const struct lua_policy_options before = w->options.policy;
    const struct policy_order order = {.force = true};
    struct reloading r = {.cb = cb, .ctx = ctx};
    test_broker_give(&w->options.policy, given);
    policy_reload_order(w->policies, &order, test_broker_on_reloaded, &r, 1);
    while (!r.there) { /* its parts have deadlines */
        test_broker_wait(w);
    }
    if (r.refused) {
        w->options.policy = before;
    }
}

int test_broker_open(struct test_broker **out, const struct test_broker_options *opt, struct err *e)
{
    struct test_broker *w = xcalloc(1, sizeof *w);
    w->config = opt->config;
    shared_area_none(&w->area);
    w->loop = loop_new();
    if (!w->loop) {
        free(w);
        return err_set(e, UV_ENOMEM, "no memory for an event loop");
    }
    REQUIRE(keep_alive(w) == 0); /* fails for a closing handle and a missing callback only */
    int rc = server_options_init(&w->options, opt->config, e);
    w->options.broker.refusal_hold_ms = 0; /* no client here comes back */
    if (w->options.broker.presence.kept_count == 0) {
        w->options.broker.presence.kept = test_broker_every_topic;
        w->options.broker.presence.kept_count = 1;
    }
    w->options.broker.latest = true; /* of every topic: test_broker_store() */
    w->options.broker.snapshot_ms = 0;
    if (opt->routes) {
        w->options.broker.routes = *opt->routes;
    }
    rc = rc ? rc : provide(w, opt, e);
    if (rc == 0) {
        test_broker_build(w);
        rc = test_broker_load(w, opt, e);
    }
    if (rc) {
        test_broker_close(w);
        return rc;
    }
    test_broker_store(w);
    *out = w;
    return 0;
}

struct settling {
    uint64_t head;
    bool settled;
};

static void look_at(void *ctx, const struct broker_connection *c)
{
    struct settling *s = ctx;
    bool waits =
        c->every_ms && c->lag == 0; /* for the end of an interval, which the clock brings */
    s->settled = s->settled && !c->behind && (c->cursor >= s->head || waits);
}

bool test_broker_settled(const struct test_broker *w)
{
    struct settling s = {w->broker_metrics.head_id, store_memory_idle(w->store)};
    broker_each_connection(w->broker, look_at, &s);
    return s.settled;
}

void test_broker_set_time(struct test_broker *w, int64_t unix_ms)
{
    int64_t before = loop_unix_ms(w->loop);
    loop_set_unix_ms(w->loop, unix_ms);
    int64_t passed = loop_unix_ms(w->loop) - before;
    if (w->built) {
        lua_cache_age(w->cache, passed > 0 ? (uint64_t)passed : 0);
        set_store_age(w->sets, passed > 0 ? (uint64_t)passed : 0);
        broker_clock_moved(w->broker);
    }
}

int test_broker_dial(struct test_broker *w)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends)) {
        return -errno;
    }
    int rc = listener_adopt(&w->server, ends[1]);
    if (rc) {
        close(ends[0]);
        close(ends[1]);
        return rc;
    }
    return ends[0];
}

void test_broker_load_sets(struct test_broker *w)
{
    set_store_load_all(w->sets);
}

bool test_broker_loading(const struct test_broker *w)
{
    return set_store_busy(w->sets);
}

void test_broker_insert(struct test_broker *w, struct event *ev)
{
    store_memory_insert(w->store, ev);
}

const struct http_limits *test_broker_limits(const struct test_broker *w)
{
    return &w->options.public.limits;
}

const struct public_routes *test_broker_routes(const struct test_broker *w)
{
    return &w->options.broker.routes;
}

const struct publish_limits *test_broker_envelopes(const struct test_broker *w)
{
    return &w->options.broker.publish;
}

const struct config *test_broker_config(const struct test_broker *w)
{
    return w->config;
}

const struct policy_metrics *test_broker_policy_metrics(const struct test_broker *w)
{
    return &w->policy_metrics;
}

struct loop *test_broker_loop(struct test_broker *w)
{
    return w->loop;
}

struct broker *test_broker_broker(struct test_broker *w)
{
    return w->broker;
}

struct policy *test_broker_policy(struct test_broker *w)
{
    return policy_reload_current(w->policies);
}
