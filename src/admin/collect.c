/* A request to all workers, or to the one that has a connection; the answer is made when the last of
 * them has answered, or has not in time. */
#include "admin/collect.h"

#include "admin/admin_reply.h"
#include "admin/answers/admin_json.h"
#include "admin/answers/status_json.h"
#include "admin/metrics/metrics.h"
#include "base/alloc.h"
#include "erase/erase.h"
#include "net/client/backend_call.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

struct answer {
    bool asked;
    int status; /* 0: none came */
    struct strbuf body;
};

struct collect {
    struct admin_workers *admin;
    uint64_t stream_id;
    void (*finish)(struct collect *g, struct stream *s);
    uint64_t limit;      /* of connections */
    bool filtered;       /* of all connections some were asked for */
    char target[96];     /* of an order */
    unsigned worker;     /* the one that has the connection */
    uint64_t timeout_ms; /* of each call */
    unsigned waiting;
    struct answer *answers; /* one per worker; owned */
};

static void collect_done(struct collect *g)
{
    struct stream *s = http_server_stream(g->admin->server, g->stream_id);
    if (s) { /* else the client has gone */
        g->finish(g, s);
    }
    for (unsigned i = 0; i < g->admin->count; i++) {
        strbuf_clear(&g->answers[i].body);
    }
    free(g->answers);
    free(g);
}

static void collect_on_answer(void *ctx, unsigned worker, int status, struct slice body)
{
    struct collect *g = ctx;
    struct answer *a = &g->answers[worker];
    a->status = body.n && strbuf_append(&a->body, body.p, body.n) ? 0 : status;
    if (--g->waiting == 0) {
        collect_done(g);
    }
}

static struct collect *collect_new(struct admin_workers *admin, struct stream *s,
                                   void (*finish)(struct collect *g, struct stream *s))
{
    struct collect *g = xcalloc(1, sizeof *g);
    g->admin = admin;
    g->stream_id = s->id;
    g->finish = finish;
    g->timeout_ms = BACKEND_CALL_TIMEOUT_MS;
    g->answers = xcalloc(admin->count, sizeof *g->answers);
    for (unsigned i = 0; i < admin->count; i++) {
        strbuf_init(&g->answers[i].body, ADMIN_JSON_MAX_BYTES);
    }
    return g;
}

static void ask_with(struct collect *g, unsigned worker, const struct backend_request *rq)
{
    struct admin_workers *a = g->admin;
    struct backend_request timed = *rq;
    timed.timeout_ms = g->timeout_ms;
    timed.open = &a->calls;
    g->waiting++;
    g->answers[worker].asked = true;
    backend_call(a->loop, a->where(a->ctx, worker), &timed, worker, collect_on_answer, g);
}

static void collect_ask(struct collect *g, unsigned worker, const char *method, const char *target)
{
    ask_with(g, worker, &(struct backend_request){.method = method, .target = target});
}

static void asked(struct collect *g)
{
    if (g->waiting == 0) { /* nobody */
        collect_done(g);
    }
}

/* One that does not run has no answer: its socket is there all the same, and would let us wait. */
static void ask_all(struct collect *g, const char *target)
{
    struct admin_workers *a = g->admin;
    for (unsigned i = 0; i < a->count; i++) {
        if (a->info(a->ctx, i).pid) {
            collect_ask(g, i, "GET", target);
        }
    }
    asked(g);
}

/* An order to a worker that may end before it gets to it would wait as well. */
static void order_one(struct collect *g, unsigned worker, const struct backend_request *rq)
{
    struct admin_workers *a = g->admin;
    g->worker = worker;
    if (a->info(a->ctx, worker).ready) {
        ask_with(g, worker, rq);
    }
    asked(g);
}

static void collect_order_all(struct collect *g, const char *method, const char *target)
{
    struct admin_workers *a = g->admin;
    for (unsigned i = 0; i < a->count; i++) {
        if (a->info(a->ctx, i).ready) {
            collect_ask(g, i, method, target);
        }
    }
    asked(g);
}

/* ---------------------------------------------------------------- answers */

/* The detail of a problem document, for one that lists several. */
static int put_detail(struct strbuf *out, const struct answer *a)
{
    json_t *o = json_loadb(a->body.data, a->body.len, 0, NULL);
    const char *detail = json_string_value(json_object_get(o, "detail"));
    int rc = strbuf_append_str(out, a->status == 0 ? "does not answer"
                                    : detail       ? detail
                                                   : "is not ready");
    json_decref(o);
    return rc;
}

static void finish_ready(struct collect *g, struct stream *s)
{
    struct strbuf why;
    const struct answer *degraded = NULL; /* what one says of the store holds for all */
    int rc = 0;
    strbuf_init(&why, 64 * 1024);
    for (unsigned i = 0; i < g->admin->count && rc == 0; i++) {
        bool longer = !degraded || g->answers[i].body.len > degraded->body.len;
        if (g->answers[i].status == 200 && longer) {
            degraded = &g->answers[i];
        } else if (g->answers[i].status != 200) {
            rc = strbuf_printf(&why, "%sworker %u: ", why.len ? "; " : "", i + 1);
            rc = rc ? rc : put_detail(&why, &g->answers[i]);
        }
    }
    if (rc == 0 && why.len == 0 && degraded) {
        admin_answer(s, 200, "text/plain; charset=utf-8", strbuf_slice(&degraded->body));
    } else {
        admin_refuse(s, 503, strbuf_slice(&why), NULL);
    }
    strbuf_clear(&why);
}

/* What is known here only. */
static int put_workers(const struct collect *g, struct strbuf *out)
{
    static const char up[] = "tidegate_worker_up", starts[] = "tidegate_worker_restarts_total";
    const struct admin_workers *a = g->admin;
    int rc = metrics_put_admin_net(a->server->metrics, out);
    rc = rc ? rc
            : strbuf_printf(out,
                            "# HELP tidegate_workers Workers of this supervisor.\n"
                            "# TYPE tidegate_workers gauge\ntidegate_workers %u\n"
                            "# HELP %s 1 when the worker answers.\n# TYPE %s gauge\n",
                            a->count, up, up);
    for (unsigned i = 0; i < a->count && rc == 0; i++) {
        rc = strbuf_printf(out, "%s{worker=\"%u\"} %d\n", up, i + 1, g->answers[i].status == 200);
    }
    rc = rc ? rc
            : strbuf_printf(out, "# HELP %s Times the worker was restarted.\n# TYPE %s counter\n",
                            starts, starts);
    for (unsigned i = 0; i < a->count && rc == 0; i++) {
        unsigned n = a->info(a->ctx, i).starts;
        rc = strbuf_printf(out, "%s{worker=\"%u\"} %u\n", starts, i + 1, n ? n - 1 : 0);
    }
    return rc;
}

static void finish_metrics(struct collect *g, struct stream *s)
{
    /* a worker that does not answer is not ready */
    static const char unready[] = "# HELP tidegate_ready 1 when /readyz answers 200.\n"
                                  "# TYPE tidegate_ready gauge\n# RULE tidegate_ready min\n"
                                  "tidegate_ready 0\n";
    struct metrics_sum *sum = g->admin->sum;
    struct strbuf body;
    strbuf_init(&body, ADMIN_JSON_MAX_BYTES);
    metrics_sum_begin(sum);
    for (unsigned i = 0; i < g->admin->count; i++) {
        bool good = g->answers[i].status == 200;
        metrics_sum_add(sum, i, good ? strbuf_slice(&g->answers[i].body) : slice_str(unready));
    }
    int rc = put_workers(g, &body);
    rc = rc ? rc : metrics_sum_render(sum, &body);
    admin_answer_built(s, rc, METRICS_CONTENT_TYPE, &body);
}

/* Takes `root`; `bad`: something in it could not be made. */
static void answer_json(struct stream *s, json_t *root, int bad)
{
    struct strbuf body;
    strbuf_init(&body, ADMIN_JSON_MAX_BYTES);
    admin_answer_built(s, admin_json_dump(root, bad, &body), "application/json", &body);
}

static json_t *document(const struct answer *a)
{
    json_t *o = a->status == 200 ? json_loadb(a->body.data, a->body.len, 0, NULL) : NULL;
    return o ? o : json_object();
}

static json_t *restart_json(const struct admin_workers *a)
{
    struct admin_restart r = a->restart(a->ctx);
    return json_pack("{s:s, s:I, s:s*}", "state", r.phase, "count", (json_int_t)r.count, "error",
                     r.error);
}

/* What a worker says of itself; a new reference. An older program that is being replaced has no list. */
static json_t *worker_of(const struct answer *a)
{
    json_t *o = document(a);
    json_t *self = json_array_get(json_object_get(o, "workers"), 0);
    if (self) {
        json_incref(self);
        json_decref(o);
    }
    return self ? self : o;
}

static void finish_status(struct collect *g, struct stream *s)
{
    const struct admin_workers *a = g->admin;
    json_t *list = json_array();
    struct strbuf body;
    int bad = 0;
    for (unsigned i = 0; i < a->count; i++) {
        struct admin_worker_info info = a->info(a->ctx, i);
        json_t *o = worker_of(&g->answers[i]);
        bad |= status_json_describe(o, i + 1, g->answers[i].status == 200,
                                    info.starts ? info.starts - 1 : 0);
        bad |= json_object_set_new(o, "pid", json_integer(info.pid));
        bad |= json_array_append_new(list, o);
    }
    strbuf_init(&body, ADMIN_JSON_MAX_BYTES);
    int rc = status_json(list, bad, getppid(), restart_json(a), &body);
    admin_answer_built(s, rc, "application/json", &body);
}

/* Moves the connections of one worker into `list`, up to `limit` in all. */
static int take_connections(json_t *list, json_t *document, unsigned worker, size_t limit)
{
    size_t i;
    json_t *connection;
    int bad = 0;
    json_array_foreach(json_object_get(document, "connections"), i, connection)
    {
        char id[48];
        const char *own = json_string_value(json_object_get(connection, "id"));
        if (json_array_size(list) >= limit || !own) {
            break;
        }
        snprintf(id, sizeof id, "%u-%s", worker, own);
        bad |= json_object_set_new(connection, "id", json_string(id));
        bad |= json_object_set_new(connection, "worker", json_integer(worker));
        bad |= json_array_append(list, connection);
    }
    return bad;
}

static void finish_connections(struct collect *g, struct stream *s)
{
    json_t *list = json_array(), *root = json_object();
    json_int_t total = 0, matched = 0;
    int bad = 0;
    bool missing = false;
    for (unsigned i = 0; i < g->admin->count; i++) {
        json_t *o = document(&g->answers[i]);
        const json_t *own_total = json_object_get(o, "total");
        const json_t *own_matched = json_object_get(o, "matched");
        /* an older program, which is being replaced, lists all */
        bool knows = json_is_integer(own_matched) || !g->filtered;
        missing |= g->answers[i].status != 200 || !knows;
        total += json_integer_value(own_total);
        if (knows) {
            matched += json_integer_value(own_matched ? own_matched : own_total);
            bad |= take_connections(list, o, i + 1, (size_t)g->limit);
        }
        json_decref(o);
    }
    bool truncated = missing || (json_int_t)json_array_size(list) < matched;
    bad |= json_object_set_new(root, "total", json_integer(total));
    bad |= json_object_set_new(root, "matched", json_integer(matched));
    bad |= json_object_set_new(root, "truncated", json_boolean(truncated));
    bad |= json_object_set_new(root, "connections", list);
    answer_json(s, root, bad);
}

static const char *detail_of(const json_t *problem)
{
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    return detail ? detail : "The worker's answer makes no sense.";
}

/* The one worker said something else than that all went well. */
static void refuse_one(const struct collect *g, struct stream *s)
{
    const struct answer *a = &g->answers[g->worker];
    char text[96];
    int n = snprintf(text, sizeof text, "Worker %u %s.", g->worker + 1,
                     a->asked ? "does not answer" : "does not serve at the moment");
    if (a->status == 0) {
        admin_refuse(s, 503, slice_of(text, (size_t)n), NULL);
        return;
    }
    json_t *o = json_loadb(a->body.data, a->body.len, 0, NULL);
    admin_refuse(s, a->status >= 400 ? a->status : 503, slice_str(detail_of(o)), NULL);
    json_decref(o);
}

/* What the worker said, with ids as they are known here. */
static void finish_one(struct collect *g, struct stream *s)
{
    char id[48];
    const struct answer *a = &g->answers[g->worker];
    if (a->status < 200 || a->status > 299) {
        refuse_one(g, s);
        return;
    }
    json_t *o = json_loadb(a->body.data ? a->body.data : "", a->body.len, 0, NULL);
    json_t *connection = json_object_get(o, "connection");
    const char *own = json_string_value(json_object_get(connection, "id"));
    if (own) {
        snprintf(id, sizeof id, "%u-%s", g->worker + 1, own);
        int bad = json_object_set_new(connection, "id", json_string(id));
        bad |= json_object_set_new(connection, "worker", json_integer(g->worker + 1));
        answer_json(s, o, bad);
        return;
    }
    admin_answer(s, a->status, o ? "application/json" : NULL, strbuf_slice(&a->body));
    json_decref(o);
}

/* ---------------------------------------------------------------- questions */

void collect_ready(struct admin_workers *a, struct stream *s)
{
    ask_all(collect_new(a, s, finish_ready), "/readyz");
}

void collect_metrics(struct admin_workers *a, struct stream *s)
{
    ask_all(collect_new(a, s, finish_metrics), "/metrics");
}

void collect_status(struct admin_workers *a, struct stream *s)
{
    ask_all(collect_new(a, s, finish_status), "/status");
}

static const char *const collect_methods[] = {
    [HTTP_GET] = "GET", [HTTP_POST] = "POST", [HTTP_DELETE] = "DELETE"};

/* The path and the query as they are. False: memory is short, which was answered. */
static bool collect_put_target(const struct admin_call *c, struct strbuf *out)
{
    struct slice query = c->rq->query;
    strbuf_init(out, query.n + 96);
    int rc = strbuf_append_str(out, c->route->path);
    rc = rc || !query.n ? rc : strbuf_printf(out, "?%.*s", (int)query.n, query.p);
    if (rc) {
        admin_refuse(c->stream, 503, slice_str("Memory is short."), NULL);
        strbuf_clear(out);
    }
    return rc == 0;
}

void collect_connections(struct admin_workers *a, const struct admin_call *c,
                         const struct connection_filter *filter)
{
    struct strbuf target;
    if (collect_put_target(c, &target)) {
        struct collect *g = collect_new(a, c->stream, finish_connections);
        g->limit = filter->limit;
        g->filtered = connection_filter_selects(filter);
        ask_all(g, target.data);
        strbuf_clear(&target);
    }
}

/* The path of the worker's own service: its connections have plain numbers. */
static int put_target(const struct admin_call *c, struct strbuf *out)
{
    const char *action = strstr(c->route->path, "}") + 1;
    struct slice query = c->rq->query;
    int rc = strbuf_printf(out, "/connections/%llu%s", (unsigned long long)c->connection, action);
    return rc || !query.p ? rc : strbuf_printf(out, "?%.*s", (int)query.n, query.p);
}

void collect_one(struct admin_workers *a, const struct admin_call *c)
{
    struct strbuf target;
    strbuf_init(&target, c->rq->query.n + 96);
    if (put_target(c, &target)) {
        admin_refuse(c->stream, 503, slice_str("Memory is short."), NULL);
    } else {
        order_one(collect_new(a, c->stream, finish_one), c->worker,
                  &(struct backend_request){.method = collect_methods[c->route->method],
                                            .target = target.data,
                                            .type = http_request_header(c->rq, "Content-Type"),
                                            .body = strbuf_slice(&c->rq->body)});
    }
    strbuf_clear(&target);
}

void collect_any(struct admin_workers *a, const struct admin_call *c)
{
    char from[ADDRESS_TEXT_MAX];
    struct collect *g = collect_new(a, c->stream, finish_one);
    unsigned worker = 0;
    while (worker + 1 < a->count && !a->info(a->ctx, worker).ready) {
        worker++;
    }
    peer_address_text(c->client, from);
    (void)snprintf(g->target, sizeof g->target, "%s?%s", c->route->path, from);
    g->timeout_ms = ERASE_TIMEOUT_MS;
    order_one(g, worker,
              &(struct backend_request){.method = collect_methods[c->route->method],
                                        .target = g->target,
                                        .type = http_request_header(c->rq, "Content-Type"),
                                        .body = strbuf_slice(&c->rq->body)});
}

/* ---------------------------------------------------------------- orders about the policy */

/* What one worker said, for the list; a new reference. */
static json_t *order_answer(const struct answer *a)
{
    json_t *o = a->status ? json_loadb(a->body.data, a->body.len, 0, NULL) : NULL;
    const char *why = a->asked ? "no answer in time; the log says what came of it"
                               : "it does not serve at the moment";
    return o ? o : json_pack("{s:s}", "error", why);
}

/* `acted`: it was an order, else the question whether they would. 200 where all said yes; 503 where
 * one said nothing; 500 where some did it and some refused; else what the first said who refused.
 */
static int order_status(const struct collect *g, bool acted, const char **result)
{
    bool good = false, silent = false;
    int refused = 0;
    for (unsigned i = 0; i < g->admin->count; i++) {
        int status = g->answers[i].status;
        bool yes = status == 200 || status == 202;
        good = good || yes;
        silent = silent || status == 0;
        refused = yes || refused ? refused : status;
    }
    bool mixed = acted && good && (silent || refused);
    *result = mixed ? "mixed" : acted ? "refused" : "nothing-done";
    return silent ? 503 : mixed ? 500 : refused ? refused : 200;
}

/* Takes `list`. `result`: what came of it; NULL: all did the same. */
static json_t *order_json(json_t *list, const char *result)
{
    json_t *root = result ? json_object() : json_copy(json_array_get(list, 0));
    json_int_t streams = 0;
    int bad = result ? json_object_set_new(root, "result", json_string(result)) : 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        streams += json_integer_value(json_object_get(json_array_get(list, i), "streams"));
    }
    if (json_object_get(root, "streams")) {
        bad |= json_object_set_new(root, "streams", json_integer(streams));
    }
    (void)json_object_del(root, "worker"); /* it may have none */
    bad |= json_object_set_new(root, "workers", list);
    if (bad) {
        json_decref(root);
        return NULL;
    }
    return root;
}

/* What each said. */
static void answer_order(const struct collect *g, struct stream *s, bool acted)
{
    json_t *list = json_array();
    const char *result;
    struct strbuf body;
    int status = order_status(g, acted, &result), bad = 0;
    for (unsigned i = 0; i < g->admin->count; i++) {
        json_t *o = order_answer(&g->answers[i]);
        bad |= json_object_set_new(o, "worker", json_integer(i + 1));
        bad |= json_array_append_new(list, o);
    }
    json_t *root = order_json(list, status == 200 ? NULL : result);
    strbuf_init(&body, ADMIN_JSON_MAX_BYTES);
    int rc = admin_json_dump(root, bad, &body);
    if (rc) {
        admin_answer_built(s, rc, "application/json", &body);
    } else {
        admin_answer(s, status, "application/json", strbuf_slice(&body));
        strbuf_clear(&body);
    }
}

static void finish_order(struct collect *g, struct stream *s)
{
    answer_order(g, s, true);
}

static void finish_dry_run(struct collect *g, struct stream *s)
{
    answer_order(g, s, false);
}

/* All of them would: now they do. */
static void finish_check(struct collect *g, struct stream *s)
{
    const char *result;
    if (order_status(g, false, &result) == 200) {
        struct collect *order = collect_new(g->admin, s, finish_order);
        order->timeout_ms = g->timeout_ms;
        collect_order_all(order, "POST", g->target);
    } else {
        answer_order(g, s, false);
    }
}

void collect_order(struct admin_workers *a, const struct admin_call *c)
{
    struct strbuf target;
    if (collect_put_target(c, &target)) {
        collect_order_all(collect_new(a, c->stream, finish_order),
                          collect_methods[c->route->method], target.data);
        strbuf_clear(&target);
    }
}

void collect_reload(struct admin_workers *a, struct stream *s, bool dry_run, bool force)
{
    struct collect *g = collect_new(a, s, dry_run ? finish_dry_run : finish_check);
    g->timeout_ms = a->load_timeout_ms;
    snprintf(g->target, sizeof g->target, "/policy/reload?force=%d", force);
    collect_order_all(g, "POST",
                      force ? "/policy/reload?dry_run=1&force=1" : "/policy/reload?dry_run=1");
}
