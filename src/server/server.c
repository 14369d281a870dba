/* The composition root: builds a broker out of its parts, runs it, takes it apart in order.
 *
 * Up: loop, broker, outbound client, database of policies, policy, store, admin listener, public
 * listeners. Down: stop accepting, end streams, wait for answers (deadline), admin, outbound
 * client, store; the loop then runs dry; policy last, because audiences bind to it. */
#include "server/server.h"

#include "admin/admin.h"
#include "admin/answers/admin_ready.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/program/build_info.h"
#include "broker/broker.h"
#include "broker/http/routes.h"
#include "lookup/query_open.h"
#include "lua/api/lua_rate.h"
#include "lua/policy/lua_policy.h"
#include "lua/vm/lua_waits.h"
#include "lua/vm/lua_watchdog.h"
#include "net/client/http_client.h"
#include "net/http/http_server.h"
#include "net/http/listener.h"
#include "reload/policy_reload.h"
#include "server/server_keys.h"
#include "server/server_options.h"
#include "server/server_tls.h"
#include "server/store_open.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

enum { DRAIN_TICK_MS = 50, CONFIG_PROBLEMS_BYTES = 256 * 1024 };

struct server {
    const struct config *cfg;
    struct config read_again;    /* owned; zeros: it has not been */
    const struct worker *worker; /* NULL: the only one */
    struct systemd_sockets *given;
    struct server_tls tls;
    struct worker_wake wake;
    struct loop *loop;
    struct net_metrics net, admin_net; /* of the latter little is shown */
    struct auth_metrics auth;
    struct broker_metrics broker_metrics;
    struct policy_metrics policy_metrics;
    struct lookup_metrics lookup_metrics;
    struct store_metrics store_metrics;
    struct quota_metrics quota_metrics;
    struct server_options options;
    struct http_server public, admin_server, probes;
    struct admin admin;
    struct broker *broker;
    struct store *store; /* NULL: not open */
    struct store_opening opening;
    struct http_client *http_client;
    struct query_source *queries; /* the database that policies ask; NULL: none */
    struct set_store *sets;       /* out of it, of whatever policy */
    struct keyring *keyring;      /* of whatever policy; NULL: not open */
    struct lua_waits *waits;      /* hooks that wait, of whatever policy */
    struct lua_cache *cache;      /* of cache.fetch() */
    struct shared_area own_area;  /* of the only worker */
    const struct shared_area *area;
    struct quota_user quota_user;
    struct lua_rates rates;
    struct lua_watchdog *watchdog; /* outlives the policies */
    struct policy_reload *policies;
    struct deadline drain_tick, watchdog_tick;
    uint64_t drain_until; /* loop time */
    bool draining, closing;
    int code; /* exit code */
};

/* ---------------------------------------------------------------- down */

static void server_on_store_closed(void *ctx)
{
    struct server *s = ctx;
    s->store = NULL;
    s->admin.store = NULL;
}

/* Nothing is left to wait for, or it is not to be waited for: after this the loop runs dry. */
static void server_close_all(struct server *s)
{
    if (s->closing) {
        return;
    }
    s->closing = true;
    deadline_disarm(&s->drain_tick);
    deadline_disarm(&s->watchdog_tick);
    worker_wake_stop(&s->wake);
    http_server_close_all(&s->public, CLOSE_DRAINING);
    http_server_close_all(&s->admin_server, CLOSE_DRAINING);
    http_server_close_all(&s->probes, CLOSE_DRAINING);
    server_tls_close(&s->tls);
    keyring_stop(s->keyring);
    store_opening_stop(&s->opening);
    if (s->http_client) {
        http_client_close(s->http_client, NULL, NULL);
    }
    if (s->queries) {
        s->queries->ops->close(s->queries, NULL, NULL);
    }
    set_store_close(s->sets);
    policy_reload_close(s->policies);
    if (s->store) {
        broker_leave_store(s->broker);
        s->store->ops->close(s->store, server_on_store_closed, s);
    }
}

static void on_drain_tick(struct deadline *d)
{
    struct server *s = container_of(d, struct server, drain_tick);
    if (s->public.conn_count == 0) {
        server_close_all(s);
    } else if (loop_now(s->loop) >= s->drain_until) {
        log_warn("server", "drain deadline passed",
                 LOG_F(log_uint("connections_cut", s->public.conn_count)));
        server_close_all(s);
    } else {
        deadline_arm(loop_deadline_class(s->loop, DRAIN_TICK_MS, on_drain_tick), &s->drain_tick);
    }
}

static void drain(void *ctx)
{
    struct server *s = ctx;
    if (s->draining) {
        return;
    }
    s->draining = true;
    s->drain_until = loop_now(s->loop) + (uint64_t)s->cfg->drain.timeout_s * 1000;
    log_info("server", "draining",
             LOG_F(log_uint("connections", s->public.conn_count),
                   log_uint("streams", broker_stream_count(s->broker)),
                   log_int("timeout_s", s->cfg->drain.timeout_s)));
    if (!s->worker) {
        systemd_notify("STOPPING=1\nSTATUS=draining: %u connections are left",
                       s->public.conn_count);
    }
    broker_drain(s->broker);
    http_server_drain(&s->public);
    if (s->worker && worker_is_retired(s->worker)) { /* its successor answers for this place */
        worker_wake_stop(&s->wake);
        http_server_drain(&s->admin_server);
    }
    deadline_arm(loop_deadline_class(s->loop, DRAIN_TICK_MS, on_drain_tick), &s->drain_tick);
}

static void server_on_stop(void *ctx, int signum)
{
    struct server *s = ctx;
    if (signum == SIGUSR2) {
        log_warn("server", "no supervisor can replace a worker that runs with --single",
                 LOG_F(log_str("signal", "SIGUSR2")));
        return;
    }
    /* to a worker SIGTERM may come from the supervisor and from who stops the whole service */
    if (s->worker ? signum == WORKER_DRAIN_SIGNAL : !s->draining) {
        drain(s);
        return;
    }
    log_warn("server", "stopping now", LOG_F(log_int("signal", signum)));
    server_close_all(s);
}

/* Frees what the loop has let go of. Answers the exit code. */
static int take_apart(struct server *s)
{
    int code = s->code;
    broker_free(s->broker);
    policy_reload_free(s->policies);
    set_store_free(s->sets);
    lua_cache_free(s->cache);
    lua_waits_free(s->waits);
    lua_watchdog_free(s->watchdog);
    http_client_free(s->http_client); /* a hook may have asked until now, and was refused */
    if (s->queries) {
        s->queries->ops->free(s->queries);
    }
    quota_leave(&s->quota_user);
    shared_area_close(&s->own_area);
    keyring_close(s->keyring);
    http_server_clear(&s->public);
    http_server_clear(&s->admin_server);
    http_server_clear(&s->probes);
    server_tls_clear(&s->tls);
    server_options_clear(&s->options);
    config_clear(&s->read_again);
    unsigned left = loop_free(s->loop);
    if (left) {
        log_error("server", "handles left open", LOG_F(log_uint("count", left)));
        return code ? code : EX_SOFTWARE;
    }
    return code;
}

/* ---------------------------------------------------------------- up */

/* Every connection needs a file descriptor; the store, the loop and the listeners some more. */
static void server_raise_file_limit(struct http_server_options *o)
{
    enum { RESERVED = 64 };
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim)) {
        return;
    }
    lim.rlim_cur = lim.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &lim)) {
        log_warn("server", "cannot raise the limit of open files",
                 LOG_F(log_str("error", uv_strerror(-errno))));
        return;
    }
    rlim_t most = lim.rlim_cur > 2 * RESERVED ? lim.rlim_cur - RESERVED : lim.rlim_cur / 2;
    if (lim.rlim_cur != RLIM_INFINITY && o->max_connections > most) {
        log_warn("server", "fewer connections than limits.max_connections: raise LimitNOFILE",
                 LOG_F(log_uint("wanted", o->max_connections), log_uint("possible", most)));
        o->max_connections = (unsigned)most;
    }
}

static void admin_state(void *ctx, struct admin_state *out)
{
    struct server *s = ctx;
    const struct policy *p = policy_reload_current(s->policies);
    const struct policy *before = policy_reload_previous(s->policies);
    *out = (struct admin_state){.draining = s->draining,
                                .store_away = s->opening.why.code ? s->opening.why.text : NULL,
                                .policy_file = s->cfg->policy.file,
                                .policy_version = p ? lua_policy_version(p) : NULL,
                                .policy_label = p ? p->label : NULL,
                                .policy_settings = p ? p->settings : NULL,
                                .policy_setting_count = p ? p->setting_count : 0,
                                .previous_version = before ? lua_policy_version(before) : NULL,
                                .previous_label = before ? before->label : NULL};
}

static void rollback(void *ctx, policy_report_cb cb, void *cb_ctx, uint64_t token)
{
    struct server *s = ctx;
    policy_reload_rollback(s->policies, cb, cb_ctx, token);
}

static bool server_policy_set(void *ctx, size_t i, struct policy_set_state *out)
{
    const struct server *s = ctx;
    const struct policy *p = policy_reload_current(s->policies);
    return p && lua_policy_set(p, i, out);
}

static void reload(void *ctx, const struct policy_order *order, policy_report_cb cb, void *cb_ctx,
                   uint64_t token)
{
    struct server *s = ctx;
    policy_reload_order(s->policies, order, cb, cb_ctx, token);
}

/* On the sockets of the supervisor. */
static int listen_as_worker(struct server *s, struct err *e)
{
    const struct worker *w = s->worker;
    int rc = w->admin->fd >= 0 ? listener_open_socket(&s->admin_server, w->admin, NULL, e) : 0;
    for (size_t i = 0; rc == 0 && i < w->listen_count; i++) {
        rc = listener_open_socket(&s->public, &w->listen[i], server_tls_of(&s->tls, i), e);
    }
    return rc;
}

/* On what the service manager has passed for it, else on a socket of our own. */
static int listen_on(struct http_server *at, const char *text, struct listen_socket *given,
                     const struct listener_options *opt, struct err *e)
{
    char where[ADDRESS_LISTEN_TEXT_MAX];
    struct address a;
    if (given->fd < 0) {
        int rc = address_parse(text, &a, e);
        return rc ? rc : listener_open(at, &a, opt, e);
    }
    address_text(&given->where, where);
    int rc = listener_open_socket(at, given, opt, e);
    if (rc == 0) {
        log_info("net", "listening",
                 LOG_F(log_str("address", where), log_str("server", at->opt.name),
                       log_str("scheme", opt && opt->tls ? "https" : "http"),
                       log_str("socket", "inherited")));
    }
    return rc;
}

static int listen_all(struct server *s, struct err *e)
{
    int rc = 0;
    if (s->worker) {
        return listen_as_worker(s, e);
    }
    if (s->cfg->admin) {
        rc = listen_on(&s->admin_server, s->cfg->admin, &s->given->admin, NULL, e);
    }
    if (rc == 0 && s->cfg->admin_public) {
        struct listen_socket none = {.fd = -1};
        rc = listen_on(&s->probes, s->cfg->admin_public, &none, NULL, e);
    }
    for (size_t i = 0; rc == 0 && i < s->cfg->listen.n; i++) {
        rc = listen_on(&s->public, s->cfg->listen.v[i].address, &s->given->listen[i],
                       server_tls_of(&s->tls, i), e);
    }
    return rc;
}

/* For a person who started this by hand: two lines that work as pasted. Where the policy wants to know
 * who asks they would not. */
static void greet(const struct server *s)
{
    const char *at = s->public.first_address;
    const char *path = s->cfg->http.events_path;
    const char *scheme = s->cfg->listen.v[0].tls.n ? "https" : "http";
    const struct worker *w = s->worker;
    bool again = w && (w->number > 1 || w->shared->workers[0].starts > 1);
    bool journal = getenv("JOURNAL_STREAM") != NULL; /* systemd.exec(5): there is no terminal */
    bool direct = !s->cfg->listen.v[0].redirect_https && !s->cfg->listen.v[0].proxy_protocol;
    if (journal || again || !s->cfg->http.page || strncmp(at, "unix:", 5) == 0 || !direct) {
        return;
    }
    if (!lua_policy_admits_all(policy_reload_current(s->policies))) {
        printf(
            "\nTidegate is up at %s://%s%s, or open %s://%s/ in a browser. The policy decides who\n"
            "may connect, and to which topics: %s. Stop with Ctrl-C.\n\n",
            scheme, at, path, scheme, at, s->cfg->policy.file);
        fflush(stdout);
        return;
    }
    printf("\nTidegate is up. In one terminal subscribe, in another publish:\n"
           "  curl -N '%s://%s%s?topic=demo/hello'\n"
           "  curl '%s://%s%s?topic=demo/hello' -d 'Hello, tide'\n"
           "or open %s://%s/ in a browser. Stop with Ctrl-C.\n\n",
           scheme, at, path, scheme, at, path, scheme, at);
    fflush(stdout);
}

/* SIGHUP: the service manager is told of a reload, by the supervisor where there is one. */
static void server_on_signalled(void *ctx, const struct policy_report *rep)
{
    const struct server *s = ctx;
    if (s->worker && rep) {
        worker_reloaded(s->worker, rep->outcome == POLICY_REFUSED);
    } else if (!s->worker && !rep) {
        systemd_notify_reloading("loading the policy");
    } else if (!s->worker && !s->draining) {
        systemd_notify("READY=1\nSTATUS=serving%s",
                       rep->outcome == POLICY_REFUSED
                           ? "; the last reload of the policy was refused, see the log"
                           : "");
    }
}

static bool server_ready(void *ctx)
{
    struct server *s = ctx;
    struct admin_state st = {0};
    struct strbuf why;
    admin_state(s, &st);
    strbuf_init(&why, 4096);
    bool ready = admin_not_ready(&s->admin, &st, &why) == 0 && why.len == 0;
    strbuf_clear(&why);
    return ready;
}

/* What a reload of the policy reads again of the configuration: its settings, and where its modules are. */
static int server_refresh(void *ctx, struct err *e)
{
    struct server *s = ctx;
    struct config next;
    struct strbuf problems;
    strbuf_init(&problems, CONFIG_PROBLEMS_BYTES);
    int rc = config_load_again(&next, s->cfg, &problems);
    if (rc) {
        for (size_t i = 0; i < problems.len; i++) { /* one for each line */
            bool end = problems.data[i] == '\n';
            problems.data[i] = !end ? problems.data[i] : i + 1 < problems.len ? ';' : ' ';
        }
        rc = err_set(e, rc, "the settings of the policy cannot be read again: %s",
                     problems.data ? problems.data : uv_strerror(rc));
    } else {
        config_clear(&s->read_again);
        s->read_again = next;
        s->options.policy.path = s->read_again.policy.path.v;
        s->options.policy.path_count = s->read_again.policy.path.n;
        s->options.policy.settings = s->read_again.policy.settings.v;
        s->options.policy.setting_count = s->read_again.policy.settings.n;
    }
    strbuf_clear(&problems);
    return rc;
}

static void server_tell_workers(void *ctx, uint64_t workers)
{
    const struct server *s = ctx;
    if (s->worker) {
        worker_tell(s->worker, workers);
    }
}

static uint64_t server_now_ns(void *ctx)
{
    (void)ctx;
    return uv_hrtime();
}

/* The tables in which streams and rates are counted. */
static int server_count(struct server *s, struct err *e)
{
    int rc = s->worker ? 0
                       : shared_area_new(&s->own_area, (uint32_t)s->cfg->policy.quota_streams,
                                         (uint32_t)s->cfg->policy.rate_keys, e);
    if (rc) {
        return rc;
    }
    s->area = s->admin.area = s->worker ? s->worker->area : &s->own_area;
    rc = quota_join(&s->quota_user, s->area->quotas, (int)getpid(),
                    s->worker ? s->worker->number : 0);
    if (rc) {
        return err_set(e, rc, "too many processes count streams for quotas");
    }
    s->rates = (struct lua_rates){
        .table = s->area->rates, .now_ns = server_now_ns, .metrics = &s->quota_metrics};
    s->options.policy.rates = &s->rates;
    broker_set_quotas(s->broker, &s->quota_user, &s->quota_metrics, server_tell_workers, s);
    return 0;
}

static void server_build(struct server *s)
{
    s->options.broker.ready = server_ready;
    s->options.broker.ready_ctx = s;
    s->broker = broker_new(s->loop, &s->options.broker, &s->broker_metrics);
    s->waits = lua_waits_new(s->loop, &s->policy_metrics, &s->options.waits);
    s->options.policy.waits = s->waits;
    s->cache = lua_cache_new(s->loop, &s->policy_metrics, &s->options.cache);
    s->options.policy.cache = s->cache;
    s->sets = set_store_new(s->loop, &s->options.sets, &s->policy_metrics);
    s->options.policy.sets = s->sets;
    const struct http_handlers public = {routes_head, routes_request, routes_refused,
                                         routes_streams, s->broker};
    const struct http_handlers admin = {NULL, admin_request, NULL, NULL, &s->admin};
    http_server_init(&s->public, s->loop, &s->options.public, &public, &s->net);
    http_server_init(&s->admin_server, s->loop, &s->options.admin, &admin, &s->admin_net);
    const struct http_handlers probe = {NULL, admin_probe_request, NULL, NULL, &s->admin};
    http_server_init(&s->probes, s->loop, &s->options.probes, &probe, &s->admin_net);
    broker_set_server(s->broker, &s->public);
    s->admin = (struct admin){.loop = s->loop,
                              .broker = s->broker,
                              .metrics = {.net = &s->net,
                                          .admin_net = s->worker ? NULL : &s->admin_net,
                                          .auth = &s->auth,
                                          .broker = &s->broker_metrics,
                                          .policy = &s->policy_metrics,
                                          .lookup = &s->lookup_metrics,
                                          .quota = &s->quota_metrics,
                                          .store = &s->store_metrics},
                              .alone = !s->worker,
                              .identity_shown = s->options.broker.identity_shown,
                              .start_ms = loop_unix_ms(s->loop),
                              .state = admin_state,
                              .drain = drain,
                              .server = &s->admin_server,
                              .reload = reload,
                              .rollback = rollback,
                              .policy_set = server_policy_set,
                              .ctx = s};
    const struct policy_reload_options policies = {.policy = &s->options.policy,
                                                   .warm_ms =
                                                       (uint64_t)s->cfg->policy.warm_s * 1000,
                                                   .watched_s = (unsigned)s->cfg->policy.rollback_s,
                                                   .watch_files = s->cfg->policy.watch,
                                                   .on_hangup = true,
                                                   .refresh = server_refresh,
                                                   .signalled = server_on_signalled,
                                                   .ctx = s};
    s->policies = policy_reload_new(s->loop, s->broker, &s->policy_metrics, &policies);
    deadline_init(&s->drain_tick);
    deadline_init(&s->watchdog_tick);
}

static void server_cannot_start(const struct worker *w, int code, const struct err *e)
{
    log_error("server", "cannot start", LOG_F(log_int("code", code), log_str("error", e->text)));
    if (w) {
        worker_gives_up(w, e->text);
    }
}

static void server_give_up(struct server *s, int code, const struct err *e)
{
    s->code = code;
    server_cannot_start(s->worker, code, e);
    server_close_all(s);
}

/* Tells the service manager, or the supervisor who tells it, that the loop still runs. */
static void on_watchdog_tick(struct deadline *d)
{
    struct server *s = container_of(d, struct server, watchdog_tick);
    uint64_t ms = s->worker ? s->worker->shared->beat_ms : systemd_watchdog_ms();
    if (ms) {
        if (s->worker) {
            worker_beats(s->worker);
        } else {
            systemd_notify("WATCHDOG=1");
        }
        deadline_arm(loop_deadline_class(s->loop, ms, on_watchdog_tick), &s->watchdog_tick);
    }
}

static void server_on_woken(void *ctx)
{
    struct server *s = ctx;
    broker_end_displaced(s->broker);
}

/* The store is open, sooner or later. */
static int server_take_store(struct server *s, struct store *store, struct err *e)
{
    s->store = s->admin.store = store;
    broker_set_store(s->broker, store);
    int rc = worker_wake_start(&s->wake, s->loop, store, server_on_woken, s);
    return rc ? err_set(e, rc, "cannot listen to the other workers: %s", uv_strerror(rc)) : 0;
}

static void server_is_ready(struct server *s)
{
    log_info(
        "server", "ready",
        LOG_F(log_str("version", build_info.version), log_str("commit", build_info.commit),
              log_str("policy", s->cfg->policy.file),
              log_str("policy_version", lua_policy_version(policy_reload_current(s->policies))),
              log_str("store", s->options.store.postgres ? "postgres" : s->cfg->store.path),
              log_uint("head", s->broker_metrics.head_id)));
    greet(s);
    if (s->worker) {
        worker_ready(s->worker);
    } else {
        systemd_notify("READY=1\nSTATUS=serving");
    }
}

static void server_waits(struct server *s)
{
    log_warn("server", "the store is away: streams and publishers are told to come back",
             LOG_F(log_str("error", s->opening.why.text)));
    if (s->worker) {
        worker_waits(s->worker);
    } else {
        systemd_notify("READY=1\nSTATUS=waiting for the store: %s", s->opening.why.text);
    }
}

static void on_store(void *ctx, struct store *store, const struct err *why)
{
    struct server *s = ctx;
    struct err e = {0};
    if (!store) {
        server_give_up(s, EX_CONFIG, why);
        return;
    }
    s->opening.why = (struct err){0};
    if (server_take_store(s, store, &e)) {
        server_give_up(s, EX_OSERR, &e);
    } else if (!s->draining) {
        server_is_ready(s);
    }
}

/* 0; UV_EAGAIN: it is away, and on_store() comes later. Else `code` is the exit code. */
static int server_open_store(struct server *s, int *code, struct err *e)
{
    struct store *store = NULL;
    s->opening = (struct store_opening){.loop = s->loop,
                                        .opt = &s->options.store,
                                        .listener = {broker_tail, broker_leap, s->broker},
                                        .metrics = &s->store_metrics,
                                        .done = on_store,
                                        .ctx = s};
    int rc = store_opening_begin(&s->opening, &store, e);
    /* of a file of the store: another program's, or a newer version's */
    bool lasting = s->options.store.postgres
                       ? !store_pg_heals(rc)
                       : rc == UV_EINVAL || rc == UV_ENOTSUP || rc == UV_ENOTDIR;
    *code = lasting ? EX_CONFIG : EX_UNAVAILABLE;
    if (rc == 0) {
        *code = EX_OSERR;
        return server_take_store(s, store, e);
    }
    return rc == UV_EAGAIN && s->worker && worker_is_successor(s->worker) ? UV_ENOTCONN : rc;
}

/* What sets are loaded from is away, or slow: starting again may help. */
static bool server_policy_heals(int rc)
{
    return rc == UV_ENOTCONN || rc == UV_ETIMEDOUT;
}

/* The policy is ready, or never will be. */
static void on_policy(void *ctx, int rc, const struct err *why)
{
    struct server *s = ctx;
    struct err e = {0};
    int code = EX_UNAVAILABLE;
    if (rc) {
        server_give_up(s, server_policy_heals(rc) ? EX_UNAVAILABLE : EX_CONFIG, why);
        return;
    }
    if (s->closing) {
        return; /* stopped while the policy was loading */
    }
    int opened = server_open_store(s, &code, &e);
    if (opened && opened != UV_EAGAIN) {
        server_give_up(s, code, &e);
        return;
    }
    struct tls_ticket_chain *tickets = s->worker ? &s->worker->shared->tickets : NULL;
    if (server_tls_open(&s->tls, s->cfg, s->loop, tickets, &s->net, &e)) {
        server_give_up(s, EX_CONFIG, &e);
        return;
    }
    if (listen_all(s, &e)) {
        server_give_up(s, EX_UNAVAILABLE, &e);
        return;
    }
    if (opened) {
        server_waits(s);
    } else {
        server_is_ready(s);
    }
    on_watchdog_tick(&s->watchdog_tick);
}

/* Starts a request of a policy's http.get() or http.post(); `ctx` is the http_client. */
static int start_request(void *ctx, const struct lua_http_target *target,
                         const struct http_client_request *rq, http_client_cb cb, void *cb_ctx,
                         uint64_t token, uint64_t *id, struct err *e)
{
    (void)target;
    return http_client_start(ctx, rq, cb, cb_ctx, token, id, e);
}

static void cancel_request(void *ctx, uint64_t id)
{
    http_client_cancel(ctx, id);
}

/* The policy is loaded first, so that a broken one leaves no store behind. on_policy() does the rest
 * when it is ready. */
static void server_start(struct server *s)
{
    struct err e = {0};
    int rc = loop_on_signal(s->loop, server_on_stop, s);
    if (rc) {
        err_set(&e, rc, "cannot handle signals: %s", uv_strerror(rc));
        server_give_up(s, EX_OSERR, &e);
        return;
    }
    if (server_count(s, &e)) {
        server_give_up(s, EX_OSERR, &e);
        return;
    }
    s->http_client = http_client_new(s->loop, &s->options.http_client, &s->net, &e);
    if (!s->http_client) {
        server_give_up(s, EX_UNAVAILABLE, &e);
        return;
    }
    s->options.http.start = start_request;
    s->options.http.cancel = cancel_request;
    s->options.http.ctx = s->http_client;
    s->options.http.metrics = &s->policy_metrics;
    s->options.policy.http = &s->options.http;
    if (s->options.has_database &&
        query_open(&s->options.database, s->loop, &s->lookup_metrics, &s->queries, &e)) {
        server_give_up(s, EX_CONFIG, &e);
        return;
    }
    s->options.policy.queries = s->queries;
    s->watchdog = lua_watchdog_new((uint64_t)s->cfg->policy.hard_limit_ms, &e);
    s->options.policy.watchdog = s->watchdog;
    if (!s->watchdog) {
        server_give_up(s, EX_OSERR, &e);
        return;
    }
    if (server_keys_open(&s->keyring, s->cfg, &e)) {
        server_give_up(s, EX_CONFIG, &e);
        return;
    }
    s->admin.keyring = s->keyring;
    keyring_start(s->keyring, s->loop, s->http_client, &s->auth);
    s->options.policy.keyring = s->keyring;
    if (policy_reload_start(s->policies, on_policy, s, &e)) {
        server_give_up(s, EX_CONFIG, &e);
    }
}

int server_run(const struct config *cfg, const struct worker *worker, struct systemd_sockets *given)
{
    struct server s = {.cfg = cfg, .worker = worker, .given = given};
    struct err e = {0};
    shared_area_none(&s.own_area);
    s.loop = loop_new();
    if (!s.loop) {
        return EX_OSERR;
    }
    int code = server_options_init(&s.options, cfg, &e) ? EX_CONFIG : 0;
    if (code) {
        server_cannot_start(worker, code, &e);
        (void)loop_free(s.loop);
        return code;
    }
    s.options.store.sqlite.no_retention = worker && worker->number > 1; /* the first one does it */
    worker_wake_init(&s.wake, worker, s.loop,
                     &s.store_metrics.commits); /* before the broker flushes */
    server_raise_file_limit(&s.options.public);
    server_build(&s);
    server_start(&s);
    loop_run(s.loop);
    code = take_apart(&s);
    if (s.code == 0) { /* else the last line is the one that says why */
        log_info("server", "stopped", LOG_F(log_int("code", code)));
    }
    return code;
}
