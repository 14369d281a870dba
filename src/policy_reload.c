#include "policy_reload.h"

#include "auth/keyring.h"
#include "base/logging.h"
#include "base/xalloc.h"
#include "lua/lua_sources.h"

#include <signal.h>
#include <stdlib.h>

enum { TICK_MS = 1000, SHOWN_VERSION = 12 };

/* One loaded policy. */
struct generation {
    struct list node; /* in policy_reload.retired */
    struct policy *policy;
    struct lua_sources sources;
    uint64_t retired_ms; /* loop time */
};

/* An order under way; there is one at most. */
struct job {
    struct policy_order order;
    policy_report_cb cb; /* NULL: nobody waits for the answer */
    void *ctx;
    uint64_t token;
    const char *origin;
    struct generation *candidate; /* owned */
};

struct policy_reload {
    struct loop *loop;
    struct broker *broker;
    struct broker_metrics *metrics;
    struct policy_reload_options opt;
    struct generation *current, *previous; /* owned */
    struct list retired;                   /* to be closed when not busy */
    struct deadline tick;
    uv_signal_t hangup;
    struct job *job;
    bool again; /* SIGHUP came meanwhile */
    bool closing;
    policy_ready_cb ready; /* of the start */
    void *ready_ctx;
};

static void generation_close(struct generation *g)
{
    list_del(&g->node);
    if (g->policy) {
        g->policy->ops->close(g->policy);
    }
    lua_sources_clear(&g->sources);
    free(g);
}

/* ---------------------------------------------------------------- those of the past */

static void on_tick(struct deadline *d)
{
    struct policy_reload *r = container_of(d, struct policy_reload, tick);
    uint64_t now = loop_now(r->loop);
    if (r->previous && now - r->previous->retired_ms >= r->opt.warm_ms) {
        list_add_tail(&r->retired, &r->previous->node);
        r->previous = NULL;
    }
    list_for_each_safe (it, next, &r->retired) {
        struct generation *g = container_of(it, struct generation, node);
        if (!g->policy->ops->busy(g->policy)) {
            generation_close(g);
            r->metrics->policy_generations--;
        }
    }
    if (!r->closing) {
        deadline_arm(loop_deadline_class(r->loop, TICK_MS, on_tick), &r->tick);
    }
}

static void retire(struct policy_reload *r, struct generation *g)
{
    if (g) {
        g->retired_ms = loop_now(r->loop);
        list_add_tail(&r->retired, &g->node);
    }
}

/* ---------------------------------------------------------------- the end of an order */

static void begin(struct policy_reload *r, struct job *j);

static struct job *job_new(const char *origin, const struct policy_order *order)
{
    struct job *j = xcalloc(1, sizeof *j);
    j->order = *order;
    j->origin = origin;
    return j;
}

static void log_outcome(const struct job *j, const struct policy_report *rep)
{
    const struct log_field *f =
        LOG_F(log_str("by", j->origin), log_str("from", rep->previous),
              log_str("to", rep->version ? rep->version : ""), log_str("label", rep->label),
              log_uint("streams", rep->streams));
    switch (rep->outcome) {
    case POLICY_RELOADED:
        log_info("policy", "reloaded", f);
        break;
    case POLICY_UNCHANGED:
        log_info("policy", "unchanged, not reloaded", f);
        break;
    case POLICY_REFUSED:
        log_error("policy", "reload refused, the policy in force stays",
                  LOG_F(log_str("by", j->origin), log_str("in_force", rep->previous),
                        log_str("error", rep->error)));
        break;
    case POLICY_WOULD_RELOAD:
    case POLICY_BUSY:
        break;
    }
}

/* Frees the job and what it made but did not put in force. */
static void finish(struct policy_reload *r, struct job *j, struct policy_report *rep)
{
    rep->previous = rep->previous ? rep->previous : lua_policy_version(r->current->policy);
    rep->previous_label =
        rep->previous_label ? rep->previous_label : lua_policy_label(r->current->policy);
    rep->streams = broker_stream_count(r->broker);
    if (!j->order.dry_run) {
        r->metrics->policy_reloads_ok += rep->outcome == POLICY_RELOADED;
        r->metrics->policy_reloads_unchanged += rep->outcome == POLICY_UNCHANGED;
        r->metrics->policy_reloads_refused += rep->outcome == POLICY_REFUSED;
        log_outcome(j, rep);
    }
    r->job = NULL;
    if (j->cb) {
        j->cb(j->ctx, j->token, rep);
    }
    retire(r, j->candidate);
    free(j);
    if (r->again && !r->closing) {
        const struct policy_order plain = {0};
        r->again = false;
        begin(r, job_new("SIGHUP", &plain));
    }
}

static void refuse(struct policy_reload *r, struct job *j, const struct err *e)
{
    struct policy_report rep = {.outcome = POLICY_REFUSED, .error = e->text};
    if (j->candidate) {
        rep.version = lua_policy_version(j->candidate->policy);
        rep.label = lua_policy_label(j->candidate->policy);
    }
    finish(r, j, &rep);
}

/* ---------------------------------------------------------------- taking over */

static void take_over(struct policy_reload *r, struct job *j)
{
    struct policy_report rep = {.outcome = POLICY_RELOADED};
    struct policy *next = j->candidate->policy;
    struct generation *old = r->current;
    struct err e = {0};
    rep.version = lua_policy_version(next);
    rep.label = lua_policy_label(next);
    rep.previous = lua_policy_version(old->policy);
    rep.previous_label = lua_policy_label(old->policy);
    if (next->ops->reloaded(next, rep.previous, &rep.mode, &e)) {
        refuse(r, j, &e);
        return;
    }
    if (j->order.dry_run) {
        rep.outcome = POLICY_WOULD_RELOAD;
        finish(r, j, &rep);
        return;
    }
    broker_swap_policy(r->broker, next, rep.mode);
    retire(r, r->previous);
    r->current = j->candidate;
    r->previous = old;
    old->retired_ms = loop_now(r->loop);
    j->candidate = NULL;
    finish(r, j, &rep);
}

static void on_setup(void *ctx, int rc, const struct err *e)
{
    struct policy_reload *r = ctx;
    struct job *j = r->job;
    struct err closing = {0};
    if (r->closing) {
        err_set(&closing, UV_ECANCELED, "the broker is shutting down");
        refuse(r, j, &closing);
    } else if (rc) {
        refuse(r, j, e);
    } else {
        take_over(r, j);
    }
}

/* Opens the file as it is now. On failure there is nothing to close. */
static int load(struct policy_reload *r, struct generation **out, struct err *e)
{
    struct generation *g = xcalloc(1, sizeof *g);
    list_init(&g->node);
    int rc = lua_policy_open(r->opt.policy, r->loop, r->metrics, &g->policy, &g->sources, e);
    if (rc) {
        generation_close(g);
        return rc;
    }
    r->metrics->policy_generations++;
    *out = g;
    return 0;
}

static void begin(struct policy_reload *r, struct job *j)
{
    struct err e = {0};
    r->job = j;
    if (!j->order.dry_run) {
        keyring_reload(r->opt.policy->keyring);
    }
    if (load(r, &j->candidate, &e)) {
        refuse(r, j, &e);
        return;
    }
    struct policy *next = j->candidate->policy;
    const char *version = lua_policy_version(next);
    const char *in_force = lua_policy_version(r->current->policy);
    if (strcmp(version, in_force) == 0 && !j->order.force) {
        struct policy_report rep = {
            .outcome = POLICY_UNCHANGED, .version = version, .label = lua_policy_label(next)};
        finish(r, j, &rep);
        return;
    }
    next->ops->setup(next, in_force, on_setup, r);
}

/* ---------------------------------------------------------------- orders */

void policy_reload_order(struct policy_reload *r, const struct policy_order *order,
                         policy_report_cb cb, void *ctx, uint64_t token)
{
    if (r->job || r->closing || !r->current) {
        const struct policy_report rep = {
            .outcome = POLICY_BUSY,
            .error = r->closing ? "the broker is shutting down"
                                : "the policy is being loaded already; try again in a moment"};
        cb(ctx, token, &rep);
        return;
    }
    struct job *j = job_new("admin", order);
    j->cb = cb;
    j->ctx = ctx;
    j->token = token;
    begin(r, j);
}

static void on_hangup(uv_signal_t *h, int signum)
{
    struct policy_reload *r = container_of(h, struct policy_reload, hangup);
    (void)signum;
    if (r->closing) {
        return;
    }
    if (r->job || !r->current) {
        r->again = true; /* the file may have changed since it was read */
        return;
    }
    const struct policy_order plain = {0};
    begin(r, job_new("SIGHUP", &plain));
}

/* ---------------------------------------------------------------- life */

struct policy_reload *policy_reload_new(struct loop *loop, struct broker *broker,
                                        struct broker_metrics *metrics,
                                        const struct policy_reload_options *opt)
{
    struct policy_reload *r = xcalloc(1, sizeof *r);
    r->loop = loop;
    r->broker = broker;
    r->metrics = metrics;
    r->opt = *opt;
    list_init(&r->retired);
    deadline_init(&r->tick);
    REQUIRE(uv_signal_init(loop_uv(loop), &r->hangup) == 0);
    return r;
}

static void on_first_setup(void *ctx, int rc, const struct err *e)
{
    struct policy_reload *r = ctx;
    if (rc == 0) {
        broker_set_policy(r->broker, r->current->policy);
        deadline_arm(loop_deadline_class(r->loop, TICK_MS, on_tick), &r->tick);
    }
    r->ready(r->ready_ctx, rc, e);
}

int policy_reload_start(struct policy_reload *r, policy_ready_cb ready, void *ctx, struct err *e)
{
    int rc = uv_signal_start(&r->hangup, on_hangup, SIGHUP);
    if (rc) {
        return err_set(e, rc, "cannot handle SIGHUP: %s", uv_strerror(rc));
    }
    rc = load(r, &r->current, e);
    if (rc) {
        return rc;
    }
    r->ready = ready;
    r->ready_ctx = ctx;
    r->current->policy->ops->setup(r->current->policy, NULL, on_first_setup, r);
    return 0;
}

const struct policy *policy_reload_current(const struct policy_reload *r)
{
    return r->current ? r->current->policy : NULL;
}

void policy_reload_close(struct policy_reload *r)
{
    if (!r->closing) {
        r->closing = true;
        deadline_disarm(&r->tick);
        uv_close((uv_handle_t *)&r->hangup, NULL);
    }
}

void policy_reload_free(struct policy_reload *r)
{
    REQUIRE(r->closing);
    if (r->job) { /* its setup waits, and will not be answered */
        retire(r, r->job->candidate);
        free(r->job);
    }
    retire(r, r->current);
    retire(r, r->previous);
    while (!list_empty(&r->retired)) {
        generation_close(list_first(&r->retired, struct generation, node));
    }
    free(r);
}
