#include "broker/dry_run.h"

#include "audience/audience_set.h"
#include "audience/render.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "broker/reach.h"
#include "broker/subscriber_state.h"

#include <stdio.h>
#include <stdlib.h>

enum { AUDIENCES_MAX = 64, JUDGEMENTS_MAX = 10000, UNDER_WAY_MAX = 16 };

static const uint64_t turn_ns = 2000000; /* of each turn of the loop */

/* What distinguishes the tokens of these questions from those of streams and resubscribes. */
#define TOKEN_OF_DRY_RUN (UINT64_C(3) << 62)

/* Somebody to be asked about. */
struct item {
    struct saved_request *saved; /* a reference */
    struct peer_address client;
    uint64_t stream; /* open: its id; else 0 */
    bool asked;      /* and not answered */
};

struct dry_run {
    struct broker *b;
    struct policy *policy;
    struct task task;
    void (*done)(void *ctx, const struct dry_run_report *r);
    void *ctx;
    struct dry_run_report report;
    struct item *items; /* owned */
    size_t count, at;
    unsigned under_way;
    uint64_t *audiences; /* owned: ids; audiences may go meanwhile */
    size_t audience_count, audience_at;
    uint64_t observe_at, observe_end; /* ordinals of the events that observe is tried on */
    struct renderer renderer;         /* of the policy that is tried */
};

/* ---------------------------------------------------------------- recent connects */

struct dry_run_recent {
    struct saved_request *saved; /* a reference; NULL: none yet */
    struct peer_address client;
};

struct dry_run_recents {
    struct dry_run_recent v[DRY_RUN_CONNECTS]; /* a ring */
    unsigned next;
};

struct dry_run_recents *dry_run_recents_new(void)
{
    return xcalloc(1, sizeof(struct dry_run_recents));
}

void dry_run_recents_free(struct dry_run_recents *r)
{
    for (unsigned i = 0; i < DRY_RUN_CONNECTS; i++) {
        saved_request_unref(r->v[i].saved);
    }
    free(r);
}

void dry_run_recents_add(struct dry_run_recents *r, struct saved_request *saved,
                         const struct peer_address *client)
{
    struct dry_run_recent *at = &r->v[r->next];
    saved_request_unref(at->saved);
    *at = (struct dry_run_recent){saved_request_ref(saved), *client};
    r->next = (r->next + 1) % DRY_RUN_CONNECTS;
}

static void dry_run_note(struct dry_run *t, const char *error)
{
    if (t->report.errors++ == 0) {
        snprintf(t->report.error, sizeof t->report.error, "%s", error);
    }
}

static const char *dry_run_last_error(const struct policy *p)
{
    struct policy_figures f;
    p->life->figures(p, &f);
    return f.last_error;
}

static uint64_t dry_run_errors_of(const struct policy *p)
{
    struct policy_figures f;
    p->life->figures(p, &f);
    return f.errors;
}

/* ---------------------------------------------------------------- questions */

static void dry_run_on_verdict(void *ctx, uint64_t token, const struct verdict *v)
{
    struct dry_run *t = ctx;
    struct item *item = &t->items[token & ~TOKEN_OF_DRY_RUN];
    struct dry_run_report *r = &t->report;
    const struct subscriber *sub = item->stream ? subscriber_of_stream(t->b, item->stream) : NULL;
    item->asked = false;
    t->under_way--;
    if (v->failed) {
        dry_run_note(t, dry_run_last_error(t->policy));
    }
    if (sub) {
        r->streams++;
        r->denied += v->kind == VERDICT_DENY;
        r->unknown += v->kind == VERDICT_TRANSIENT;
        bool same = v->kind == VERDICT_ALLOW && audience_is_for(sub->audience, &v->subscription);
        r->same += same;
        r->moved += v->kind == VERDICT_ALLOW && !same;
    }
    loop_defer(t->b->loop, &t->task);
}

static void dry_run_ask(struct dry_run *t)
{
    struct item *item = &t->items[t->at];
    struct http_query query, params;
    saved_request_query(item->saved, &query);
    const struct subscriber *sub = item->stream ? subscriber_of_stream(t->b, item->stream) : NULL;
    struct policy_request rq = {.id = item->stream,
                                .mark = sub ? sub->audience->mark : saved_request_mark(item->saved),
                                .path = broker_saved_path(&t->b->opt, item->saved, &params),
                                .query = &query,
                                .params = &params,
                                .published = saved_request_published(item->saved),
                                .client = item->client};
    item->asked = true;
    t->under_way++;
    t->report.connects += item->stream == 0;
    t->policy->gates->resubscribe(t->policy, &rq, saved_request_identity(item->saved),
                                  dry_run_on_verdict, t, TOKEN_OF_DRY_RUN | t->at);
    t->at++;
    http_query_clear(&query);
    http_query_clear(&params);
}

static void dry_run_add_item(struct dry_run *t, struct saved_request *saved,
                             const struct peer_address *client, uint64_t stream)
{
    t->items[t->count++] = (struct item){saved_request_ref(saved), *client, stream, false};
}

/* The newest streams: those before are likely to be of the same kinds. */
static void dry_run_collect_items(struct dry_run *t, unsigned streams)
{
    struct broker *b = t->b;
    t->items = xcalloc(DRY_RUN_CONNECTS + (size_t)streams, sizeof *t->items);
    for (unsigned i = 0; i < DRY_RUN_CONNECTS && b->recents->v[i].saved; i++) {
        dry_run_add_item(t, b->recents->v[i].saved, &b->recents->v[i].client, 0);
    }
    for (struct list *it = b->subscribers.prev; streams && it != &b->subscribers; it = it->prev) {
        const struct subscriber *sub = subscriber_of_node(it);
        dry_run_add_item(t, sub->saved, &sub->client, sub->id);
        streams--;
    }
}

/* ---------------------------------------------------------------- events */

/* Does the policy fail on it? */
static bool dry_run_fails(struct renderer *r, const struct policy_binding *binding,
                          struct event *ev)
{
    struct rendering what;
    const struct render_order order = {
        .mode = RENDER_DRY_RUN, .binding = binding, .event = ev, .expired_too = true};
    uint64_t before = dry_run_errors_of(r->policy);
    (void)render(r, &order, &what); /* errors are counted by the policy */
    return dry_run_errors_of(r->policy) > before;
}

/* The policy in force, too? */
static bool dry_run_fails_now(struct broker *b, const struct audience *a, struct event *ev)
{
    struct policy *p = b->policy;
    p->life->set_stage(p, POLICY_DRY_RUN);
    bool failed = !a->unbound && dry_run_fails(b->renderer, &a->binding, ev);
    p->life->set_stage(p, POLICY_LIVE); /* forgets what was counted meanwhile */
    return failed;
}

static void dry_run_judge_all(struct dry_run *t, const struct audience *a)
{
    struct policy *p = t->policy;
    struct eventlog *log = t->b->log;
    struct policy_binding binding;
    struct subscription s = audience_subscription(a);
    uint64_t end = eventlog_end(log);
    uint64_t first = end > DRY_RUN_EVENTS ? end - DRY_RUN_EVENTS : 0;
    if (p->rules->bind(p, &s, &binding)) {
        return; /* no such filter or format: its streams are asked about */
    }
    for (uint64_t i = first; i < end && t->report.judgements < JUDGEMENTS_MAX; i++) {
        struct event *ev = eventlog_at(log, i);
        if (!ev || !audience_wants(a, event_topic(ev))) {
            continue;
        }
        t->report.judgements++;
        if (dry_run_fails(&t->renderer, &binding, ev) && !dry_run_fails_now(t->b, a, ev)) {
            dry_run_note(t, dry_run_last_error(p));
            break; /* one of a kind is enough */
        }
    }
    p->rules->unbind(p, &binding);
}

static void dry_run_collect_audiences(struct dry_run *t)
{
    t->audiences = xcalloc(AUDIENCES_MAX, sizeof *t->audiences);
    for (const struct audience *a = audience_set_first(t->b->audiences);
         a && t->audience_count < AUDIENCES_MAX; a = audience_set_next(a)) {
        t->audiences[t->audience_count++] = a->id;
    }
}

static const struct audience *dry_run_audience_of(const struct broker *b, uint64_t id)
{
    const struct audience *a = audience_set_first(b->audiences);
    while (a && a->id != id) {
        a = audience_set_next(a);
    }
    return a;
}

/* What it orders is dropped, and so are its traces: the policy that takes over is loaded anew. The one in
 * force is not run again, for it would leave some; where it has failed, the new one may. */
static void dry_run_observe(struct dry_run *t)
{
    struct policy *p = t->policy;
    struct event *ev = eventlog_at(t->b->log, t->observe_at++);
    struct policy_effects effects;
    if (!ev || !p->reach || reach_failed_on(t->b, ev->id) ||
        !p->reach->observes(p, event_topic(ev))) {
        return;
    }
    policy_effects_init(&effects);
    t->report.judgements++;
    if (p->reach->observe(p, ev, &effects)) {
        dry_run_note(t, dry_run_last_error(p));
        t->observe_at = t->observe_end; /* one of a kind is enough */
    }
    policy_effects_clear(&effects);
}

/* ---------------------------------------------------------------- the way through */

void dry_run_free(struct dry_run *t)
{
    task_cancel(&t->task);
    for (size_t i = 0; i < t->count; i++) {
        if (t->items[i].asked) {
            t->policy->gates->cancel(t->policy, TOKEN_OF_DRY_RUN | i);
        }
        saved_request_unref(t->items[i].saved);
    }
    free(t->items);
    free(t->audiences);
    renderer_clear(&t->renderer);
    free(t);
}

/* A part of the work per turn. */
static void dry_run_step(struct task *task)
{
    struct dry_run *t = container_of(task, struct dry_run, task);
    uint64_t until = uv_hrtime() + turn_ns;
    while (t->at < t->count && t->under_way < UNDER_WAY_MAX && uv_hrtime() < until) {
        dry_run_ask(t);
    }
    while (t->at == t->count && t->audience_at < t->audience_count && uv_hrtime() < until) {
        const struct audience *a = dry_run_audience_of(t->b, t->audiences[t->audience_at++]);
        if (a) {
            dry_run_judge_all(t, a);
        }
    }
    while (t->at == t->count && t->observe_at < t->observe_end && uv_hrtime() < until) {
        dry_run_observe(t);
    }
    if (t->at == t->count && t->under_way == 0 && t->audience_at == t->audience_count &&
        t->observe_at == t->observe_end) {
        struct dry_run_report report = t->report;
        void (*done)(void *, const struct dry_run_report *) = t->done;
        void *ctx = t->ctx;
        dry_run_free(t);
        done(ctx, &report);
    } else if (t->under_way < UNDER_WAY_MAX && (t->at < t->count || t->under_way == 0)) {
        loop_defer(t->b->loop, &t->task);
    } /* else an answer wakes it */
}

struct dry_run *dry_run_start(struct broker *b, struct policy *p, unsigned streams,
                              void (*done)(void *ctx, const struct dry_run_report *r), void *ctx)
{
    struct dry_run *t = xcalloc(1, sizeof *t);
    t->b = b;
    t->policy = p;
    t->done = done;
    t->ctx = ctx;
    task_init(&t->task, dry_run_step);
    renderer_init(&t->renderer, p, NULL, b->opt.publish.event_bytes);
    t->renderer.source = b->renderer->source;
    p->life->set_stage(p, POLICY_DRY_RUN);
    dry_run_collect_items(t, streams);
    dry_run_collect_audiences(t);
    t->observe_end = eventlog_end(b->log);
    t->observe_at = t->observe_end > DRY_RUN_EVENTS ? t->observe_end - DRY_RUN_EVENTS : 0;
    loop_defer(b->loop, &t->task);
    return t;
}
