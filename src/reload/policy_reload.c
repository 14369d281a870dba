/* See policy_reload.h.
 *
 * An order (`job`), and the functions that move it on:
 *
 *   none  -> LOAD   policy_reload_begin(): of policy_reload_order(), SIGHUP, a changed file
 *   LOAD  -> SETUP  policy_reload_begin(): the files are loaded, and their version is not the current one
 *   LOAD  -> none   policy_reload_finish(): unchanged; policy_reload_refuse(): cannot be loaded, or was rolled back before
 *   SETUP -> DRY_RUN on_setup(): the setup hook succeeded
 *   SETUP -> none   on_setup(): policy_reload_refuse()
 *   DRY_RUN -> none on_dry_run(): policy_reload_refuse(): it fails, or the broker is closing; take_over():
 *                   a dry run was all that was ordered
 *   DRY_RUN -> LOAD policy_reload_load_again(): its hooks have left traces in its locals
 *   LOAD  -> SETUP  policy_reload_examine(): it is tried if the files have changed meanwhile
 *   SETUP -> none   on_setup(): take_over(), of one that has never been asked anything
 *   none  -> LOAD   begin_again(): something was ordered by SIGHUP or a file meanwhile (`again`)
 *
 * Where a generation is:
 *
 *   candidate -> current   take_over(): swap()
 *   candidate -> retired   policy_reload_load_again(), when it was tried; policy_reload_finish(), when it
 *                          was not put in force
 *   current   -> previous  swap()
 *   previous  -> current   rollback_to(): the new one fails much more often;
 *                          policy_reload_rollback(): an operator's order
 *   current   -> retired   rollback_to(): the one that failed
 *   previous  -> retired   policy_reload_on_tick() after policy.warm_s; take_over() of another one
 *   retired   -> closed    close_retired(), when nothing of it waits any more
 *
 * Invariants:
 *
 *   1. One order at a time: `job` is set from policy_reload_begin() to policy_reload_finish().
 *   2. Each order of the admin service is answered once: busy, refused, or done. Only the end of the
 *      process (policy_reload_free()) leaves it without an answer.
 *   3. Each generation is in one place: candidate, current, previous or retired. Only retired ones
 *      are closed.
 *   4. From on_first_setup() on, `current` is the policy that the broker asks. Only swap() changes
 *      it, between two turns of the loop.
 *   5. An order that is refused, and a dry run, change neither the current nor the previous one.
 *   6. A version in `bad` does not come back, unless the order says force. */
#include "reload/policy_reload.h"

#include "auth/keyring.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "lua/load/lua_sources.h"
#include "reload/policy_names.h"
#include "reload/policy_rollback.h"
#include "reload/policy_watch.h"

#include <signal.h>
#include <stdlib.h>

enum {
    TICK_MS = 1000,
    DRY_STREAMS = 1000, /* asked about on a dry run */
    BAD_MAX = 16,
    LOADS_MAX = 4, /* of one order */
};

/* One loaded policy. */
struct generation {
    struct list node; /* in policy_reload.retired */
    struct policy *policy;
    uint64_t retired_ms; /* loop time */
};

/* The running order; there is one at most. */
struct job {
    struct policy_order order;
    policy_report_cb cb; /* NULL: no answer is expected */
    void *ctx;
    uint64_t token;
    const char *origin;
    struct generation *candidate; /* owned */
    unsigned loads;
    char good[POLICY_VERSION_BYTES]; /* the version whose dry run found nothing; empty: none */
    struct dry_run *dry_run;         /* while it runs */
    struct dry_run_report tried;
};

struct policy_reload {
    struct loop *loop;
    struct broker *broker;
    struct policy_metrics *metrics;
    struct policy_reload_options opt;
    struct generation *current, *previous; /* owned */
    struct list retired;                   /* to be closed when not busy */
    struct policy_rollback rollback;
    char bad[BAD_MAX][POLICY_VERSION_BYTES]; /* versions that had to be rolled back; a ring */
    unsigned bad_next;
    struct lua_sources sources; /* the files as they were last loaded, well or not */
    struct policy_watch *watch; /* NULL: not watched */
    struct deadline tick;
    uv_signal_t hangup;
    struct job *job;
    const char *again; /* an order that came meanwhile: its origin */
    bool in_force;     /* the first policy is set up; before, no order can be carried out */
    bool closing;
    policy_ready_cb ready; /* of the start */
    void *ready_ctx;
};

static const char *version_of(const struct generation *g)
{
    return lua_policy_version(g->policy);
}

/* ---------------------------------------------------------------- those of the past */

static void generation_close(struct policy_reload *r, struct generation *g)
{
    list_del(&g->node);
    g->policy->life->close(g->policy);
    r->metrics->policy_generations--;
    free(g);
}

static void policy_reload_retire(struct policy_reload *r, struct generation *g)
{
    if (g) {
        g->retired_ms = loop_now(r->loop);
        list_add_tail(&r->retired, &g->node);
    }
}

static void close_retired(struct policy_reload *r)
{
    list_for_each_safe (it, next, &r->retired) {
        struct generation *g = container_of(it, struct generation, node);
        if (!g->policy->life->busy(g->policy)) {
            generation_close(r, g);
        }
    }
}

/* ---------------------------------------------------------------- taking over, and back */

static void swap(struct policy_reload *r, struct generation *next, enum reload_mode mode)
{
    struct policy_figures now, then;
    r->current->policy->life->figures(r->current->policy, &now);
    broker_swap_policy(r->broker, next->policy, mode);
    /* after binding: audiences made for the old one that do not fit are no errors of the new one */
    next->policy->life->figures(next->policy, &then);
    policy_rollback_swap(&r->rollback, &now, &then, r->opt.watched_s);
    r->current->retired_ms = loop_now(r->loop);
    r->previous = r->current;
    r->current = next;
}

static bool is_bad(const struct policy_reload *r, const char *version)
{
    for (unsigned i = 0; i < BAD_MAX; i++) {
        if (strcmp(r->bad[i], version) == 0) {
            return true;
        }
    }
    return false;
}

/* The current policy fails much more often than the previous one. */
static void policy_reload_rollback_to(struct policy_reload *r, const struct policy_figures *f)
{
    struct generation *bad = r->current;
    struct generation *good = r->previous;
    char *mark = r->bad[r->bad_next++ % BAD_MAX];
    memcpy(mark, version_of(bad), POLICY_VERSION_BYTES);
    log_error("policy", "rolled back: it fails much more often than the previous one",
              LOG_F(log_str("version", version_of(bad)), log_str("in_force", version_of(good)),
                    log_uint("errors", f->errors - r->rollback.taken_over.errors),
                    log_uint("calls", f->calls - r->rollback.taken_over.calls),
                    log_str("last_error", f->last_error)));
    r->metrics->policy_rollbacks++;
    r->metrics->policy_rolled_back = 1;
    swap(r, good, RELOAD_RESUBSCRIBE);
    r->rollback.watched_s = 0;
    r->previous = NULL; /* no rollback to the bad one */
    policy_reload_retire(r, bad);
}

static void watch_health(struct policy_reload *r)
{
    struct policy_figures f;
    r->current->policy->life->figures(r->current->policy, &f);
    if (r->previous && !r->job && policy_rollback_due(&r->rollback, &f)) {
        policy_reload_rollback_to(r, &f);
        r->current->policy->life->figures(r->current->policy, &f);
    }
    policy_rollback_sample(&r->rollback, &f);
}

static void policy_reload_on_tick(struct deadline *d)
{
    struct policy_reload *r = container_of(d, struct policy_reload, tick);
    watch_health(r);
    if (r->previous && loop_now(r->loop) - r->previous->retired_ms >= r->opt.warm_ms) {
        policy_reload_retire(r, r->previous);
        r->previous = NULL;
    }
    close_retired(r);
    deadline_arm(loop_deadline_class(r->loop, TICK_MS, policy_reload_on_tick), &r->tick);
}

/* ---------------------------------------------------------------- the end of an order */

static const char by_signal[] = "SIGHUP";

static void policy_reload_begin(struct policy_reload *r, struct job *j);
static void policy_reload_load_again(struct policy_reload *r, struct job *j);

static struct job *job_new(const char *origin, const struct policy_order *order)
{
    struct job *j = xcalloc(1, sizeof *j);
    j->order = *order;
    j->origin = origin;
    return j;
}

static void begin_plain(struct policy_reload *r, const char *origin)
{
    const struct policy_order plain = {0};
    if (r->job || !r->in_force) {
        /* the file may have changed since it was read */
        r->again = r->again == by_signal ? by_signal : origin;
    } else if (!r->closing) {
        if (origin == by_signal && r->opt.signalled) {
            r->opt.signalled(r->opt.ctx, NULL);
        }
        policy_reload_begin(r, job_new(origin, &plain));
    }
}

/* What was ordered while nothing could be done about it. */
static void begin_again(struct policy_reload *r)
{
    const char *origin = r->again;
    if (origin) {
        r->again = NULL;
        begin_plain(r, origin);
    }
}

static void log_outcome(const struct job *j, const struct policy_report *rep)
{
    const char *label = rep->label ? rep->label : "";
    if (rep->outcome == POLICY_REFUSED) {
        log_error("policy", "reload failed, the current policy stays",
                  LOG_F(log_str("by", j->origin), log_str("in_force", rep->previous),
                        log_str("error", rep->error)));
    } else if (rep->outcome == POLICY_RELOADED) {
        log_info("policy", "reloaded",
                 LOG_F(log_str("by", j->origin), log_str("from", rep->previous),
                       log_str("to", rep->version), log_str("label", label),
                       log_uint("streams", rep->streams)));
    } else {
        log_info("policy", "unchanged, not reloaded",
                 LOG_F(log_str("by", j->origin), log_str("version", rep->version)));
    }
}

/* Frees the job and what it made but did not put in force. */
static void policy_reload_finish(struct policy_reload *r, struct job *j, struct policy_report *rep)
{
    rep->previous = rep->previous ? rep->previous : version_of(r->current);
    rep->previous_label = rep->previous_label ? rep->previous_label : r->current->policy->label;
    rep->streams = broker_stream_count(r->broker);
    if (!j->order.dry_run) {
        r->metrics->policy_reloads_ok += rep->outcome == POLICY_RELOADED;
        r->metrics->policy_reloads_unchanged += rep->outcome == POLICY_UNCHANGED;
        r->metrics->policy_reloads_refused += rep->outcome == POLICY_REFUSED;
        log_outcome(j, rep);
    }
    if (j->cb) {
        j->cb(j->ctx, j->token, rep);
    }
    if (j->origin == by_signal && r->again != by_signal && r->opt.signalled) {
        r->opt.signalled(r->opt.ctx, rep);
    }
    r->job = NULL;
    policy_reload_retire(r, j->candidate);
    free(j);
    begin_again(r);
}

static void policy_reload_refuse(struct policy_reload *r, struct job *j, const struct err *e)
{
    struct policy_report rep = {.outcome = POLICY_REFUSED, .error = e->text};
    if (j->candidate) {
        rep.version = version_of(j->candidate);
        rep.label = j->candidate->policy->label;
        rep.dry_run = j->tried.errors ? &j->tried : NULL;
    }
    policy_reload_finish(r, j, &rep);
}

/* ---------------------------------------------------------------- the way through an order */

static void take_over(struct policy_reload *r, struct job *j)
{
    struct policy_report rep = {.outcome = POLICY_RELOADED, .dry_run = &j->tried};
    struct policy *next = j->candidate->policy;
    struct err e = {0};
    rep.version = version_of(j->candidate);
    rep.label = next->label;
    rep.previous = version_of(r->current);
    rep.previous_label = r->current->policy->label;
    if (next->life->reloaded(next, rep.previous, &rep.mode, &e)) {
        policy_reload_refuse(r, j, &e);
        return;
    }
    policy_names_compare(r->current->policy, next, &rep);
    if (j->order.dry_run) {
        rep.outcome = POLICY_WOULD_RELOAD;
    } else {
        policy_reload_retire(r, r->previous);
        swap(r, j->candidate, rep.mode);
        j->candidate = NULL;
        r->metrics->policy_rolled_back = 0;
    }
    policy_reload_finish(r, j, &rep);
    policy_names_clear(&rep);
}

static void on_dry_run(void *ctx, const struct dry_run_report *tried)
{
    struct policy_reload *r = ctx;
    struct job *j = r->job;
    struct err e = {0};
    j->dry_run = NULL;
    j->tried = *tried;
    if (r->closing) {
        err_set(&e, UV_ECANCELED, "the broker is shutting down");
    } else if (tried->errors) {
        err_set(&e, UV_EINVAL, "tried on what happened lately, it fails: %s", tried->error);
    }
    if (e.code) {
        policy_reload_refuse(r, j, &e);
    } else if (j->order.dry_run) {
        take_over(r, j);
    } else {
        policy_reload_load_again(r, j);
    }
}

static void on_setup(void *ctx, int rc, const struct err *e)
{
    struct policy_reload *r = ctx;
    struct job *j = r->job;
    if (rc) {
        policy_reload_refuse(r, j, e);
    } else if (strcmp(j->good, version_of(j->candidate)) == 0) {
        take_over(r, j);
    } else {
        j->dry_run = dry_run_start(r->broker, j->candidate->policy,
                                   j->order.dry_run ? DRY_STREAMS : 0, on_dry_run, r);
    }
}

/* Reads the settings again. */
static int policy_reload_refresh(struct policy_reload *r, bool dry_run, struct err *e)
{
    int rc = r->in_force && r->opt.refresh ? r->opt.refresh(r->opt.ctx, e) : 0;
    if (rc && !dry_run && r->watch) {
        lua_sources_look_again(&r->sources);
        policy_watch_set(r->watch, &r->sources);
    }
    return rc;
}

/* Opens the file as it is now. On failure there is nothing to close. */
static int policy_reload_load(struct policy_reload *r, bool dry_run, struct generation **out,
                              struct err *e)
{
    int rc = policy_reload_refresh(r, dry_run, e);
    if (rc) {
        return rc;
    }
    struct generation *g = xcalloc(1, sizeof *g);
    struct lua_sources sources;
    list_init(&g->node);
    rc = lua_policy_open(r->opt.policy, r->loop, r->metrics, &g->policy, &sources, e);
    if (dry_run) {
        lua_sources_clear(&sources);
    } else {
        lua_sources_clear(&r->sources);
        r->sources = sources;
        if (r->watch) {
            policy_watch_set(r->watch, &r->sources);
        }
    }
    if (rc) {
        free(g);
        return rc;
    }
    r->metrics->policy_generations++;
    *out = g;
    return 0;
}

/* The candidate is loaded; where does it go? */
static void policy_reload_examine(struct policy_reload *r, struct job *j)
{
    struct policy *next = j->candidate->policy;
    const char *version = version_of(j->candidate);
    if (!j->order.force && strcmp(version, version_of(r->current)) == 0) {
        struct policy_report rep = {
            .outcome = POLICY_UNCHANGED, .version = version, .label = next->label};
        policy_reload_finish(r, j, &rep);
    } else if (!j->order.force && is_bad(r, version)) {
        struct err e = {0};
        err_set(&e, UV_EPERM,
                "this version was rolled back because it failed; change it, or reload with "
                "force=1");
        policy_reload_refuse(r, j, &e);
    } else {
        next->life->setup(next, version_of(r->current), on_setup, r);
    }
}

static void policy_reload_try(struct policy_reload *r, struct job *j)
{
    struct err e = {0};
    if (j->loads++ == LOADS_MAX) {
        err_set(&e, UV_EAGAIN, "the files change again and again while they are loaded");
        policy_reload_refuse(r, j, &e);
    } else if (policy_reload_load(r, j->order.dry_run, &j->candidate, &e)) {
        policy_reload_refuse(r, j, &e);
    } else {
        policy_reload_examine(r, j);
    }
}

static void policy_reload_load_again(struct policy_reload *r, struct job *j)
{
    memcpy(j->good, version_of(j->candidate), sizeof j->good);
    policy_reload_retire(r, j->candidate);
    j->candidate = NULL;
    policy_reload_try(r, j);
}

static void policy_reload_begin(struct policy_reload *r, struct job *j)
{
    r->job = j;
    if (!j->order.dry_run) {
        keyring_reload(r->opt.policy->keyring);
    }
    policy_reload_try(r, j);
}

/* ---------------------------------------------------------------- orders */

static bool is_busy(const struct policy_reload *r, policy_report_cb cb, void *ctx, uint64_t token)
{
    struct policy_report rep = {.outcome = POLICY_BUSY};
    if (r->closing || !r->in_force) {
        rep.error = "the broker is starting or shutting down";
    } else if (r->job) {
        rep.error = "the policy is being loaded already; try again in a moment";
    } else {
        return false;
    }
    cb(ctx, token, &rep);
    return true;
}

void policy_reload_order(struct policy_reload *r, const struct policy_order *order,
                         policy_report_cb cb, void *ctx, uint64_t token)
{
    if (is_busy(r, cb, ctx, token)) {
        return;
    }
    struct job *j = job_new("admin", order);
    j->cb = cb;
    j->ctx = ctx;
    j->token = token;
    policy_reload_begin(r, j);
}

void policy_reload_rollback(struct policy_reload *r, policy_report_cb cb, void *ctx, uint64_t token)
{
    struct policy_report rep = {.outcome = POLICY_ROLLED_BACK};
    if (is_busy(r, cb, ctx, token)) {
        return;
    }
    if (!r->previous) {
        rep.outcome = POLICY_NO_PREVIOUS;
        rep.error = "there is no previous policy to roll back to, or it was replaced too long ago "
                    "(policy.warm_s)";
        cb(ctx, token, &rep);
        return;
    }
    rep.previous = version_of(r->current);
    rep.previous_label = r->current->policy->label;
    swap(r, r->previous, RELOAD_RESUBSCRIBE);
    r->rollback.watched_s = 0; /* the operator decided; no automatic rollback */
    rep.version = version_of(r->current);
    rep.label = r->current->policy->label;
    rep.streams = broker_stream_count(r->broker);
    r->metrics->policy_rollbacks++;
    log_warn("policy", "rolled back by an operator",
             LOG_F(log_str("version", rep.previous), log_str("in_force", rep.version)));
    cb(ctx, token, &rep);
}

static void on_hangup(uv_signal_t *h, int signum)
{
    (void)signum;
    begin_plain(container_of(h, struct policy_reload, hangup), by_signal);
}

static void on_files_changed(void *ctx)
{
    begin_plain(ctx, "watch");
}

/* ---------------------------------------------------------------- life */

struct policy_reload *policy_reload_new(struct loop *loop, struct broker *broker,
                                        struct policy_metrics *metrics,
                                        const struct policy_reload_options *opt)
{
    struct policy_reload *r = xcalloc(1, sizeof *r);
    r->loop = loop;
    r->broker = broker;
    r->metrics = metrics;
    r->opt = *opt;
    r->watch = opt->watch_files ? policy_watch_new(loop, on_files_changed, r) : NULL;
    list_init(&r->retired);
    deadline_init(&r->tick);
    if (opt->on_hangup) {
        REQUIRE(uv_signal_init(loop_uv(loop), &r->hangup) == 0);
    }
    return r;
}

static void on_first_setup(void *ctx, int rc, const struct err *e)
{
    struct policy_reload *r = ctx;
    if (rc == 0) {
        broker_set_policy(r->broker, r->current->policy);
        r->in_force = true;
        deadline_arm(loop_deadline_class(r->loop, TICK_MS, policy_reload_on_tick), &r->tick);
    }
    r->ready(r->ready_ctx, rc, e);
    if (rc == 0) {
        begin_again(r);
    }
}

int policy_reload_start(struct policy_reload *r, policy_ready_cb ready, void *ctx, struct err *e)
{
    int rc = r->opt.on_hangup ? uv_signal_start(&r->hangup, on_hangup, SIGHUP) : 0;
    if (rc) {
        return err_set(e, rc, "cannot handle SIGHUP: %s", uv_strerror(rc));
    }
    rc = policy_reload_load(r, false, &r->current, e);
    if (rc) {
        return rc;
    }
    r->ready = ready;
    r->ready_ctx = ctx;
    r->current->policy->life->setup(r->current->policy, NULL, on_first_setup, r);
    return 0;
}

struct policy *policy_reload_current(const struct policy_reload *r)
{
    return r->current ? r->current->policy : NULL;
}

const struct policy *policy_reload_previous(const struct policy_reload *r)
{
    return r->previous ? r->previous->policy : NULL;
}

void policy_reload_close(struct policy_reload *r)
{
    if (!r->closing) {
        r->closing = true;
        r->again = NULL;
        deadline_disarm(&r->tick);
        policy_watch_close(r->watch);
        r->watch = NULL;
        if (r->opt.on_hangup) {
            uv_close((uv_handle_t *)&r->hangup, NULL);
        }
    }
}

void policy_reload_free(struct policy_reload *r)
{
    REQUIRE(r->closing);
    if (r->job) { /* its setup or its dry run waits, and will not be answered */
        if (r->job->dry_run) {
            dry_run_free(r->job->dry_run);
        }
        policy_reload_retire(r, r->job->candidate);
        free(r->job);
    }
    policy_reload_retire(r, r->current);
    policy_reload_retire(r, r->previous);
    while (!list_empty(&r->retired)) {
        generation_close(r, list_first(&r->retired, struct generation, node));
    }
    lua_sources_clear(&r->sources);
    free(r);
}
