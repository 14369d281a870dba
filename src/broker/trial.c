#include "broker/trial.h"

#include "base/xalloc.h"
#include "broker/audience_set.h"
#include "broker/render.h"
#include "broker/subscriber_state.h"

#include <stdio.h>
#include <stdlib.h>

enum { AUDIENCES_MAX = 64, JUDGEMENTS_MAX = 10000, UNDER_WAY_MAX = 16 };

static const uint64_t turn_ns = 2000000; /* of each turn of the loop */

/* What distinguishes the tokens of these questions from those of streams and reviews. */
#define TOKEN_OF_TRIAL (UINT64_C(3) << 62)

/* Somebody to be asked about. */
struct item {
    struct saved_request *saved; /* a reference */
    struct peer_address client;
    uint64_t stream; /* open: its id; else 0 */
    bool asked;      /* and not answered */
};

struct trial {
    struct broker *b;
    struct policy *policy;
    struct task task;
    void (*done)(void *ctx, const struct trial_report *r);
    void *ctx;
    struct trial_report report;
    struct item *items; /* owned */
    size_t count, at;
    unsigned under_way;
    uint64_t *audiences; /* owned: ids; audiences may go meanwhile */
    size_t audience_count, audience_at;
    struct renderer renderer; /* of the policy that is tried */
};

/* ---------------------------------------------------------------- recent connects */

struct trial_recent {
    struct saved_request *saved; /* a reference; NULL: none yet */
    struct peer_address client;
};

struct trial_recents {
    struct trial_recent v[TRIAL_CONNECTS]; /* a ring */
    unsigned next;
};

struct trial_recents *trial_recents_new(void)
{
    return xcalloc(1, sizeof(struct trial_recents));
}

void trial_recents_free(struct trial_recents *r)
{
    for (unsigned i = 0; i < TRIAL_CONNECTS; i++) {
        saved_request_unref(r->v[i].saved);
    }
    free(r);
}

void trial_recents_add(struct trial_recents *r, struct saved_request *saved,
                       const struct peer_address *client)
{
    struct trial_recent *at = &r->v[r->next];
    saved_request_unref(at->saved);
    *at = (struct trial_recent){saved_request_ref(saved), *client};
    r->next = (r->next + 1) % TRIAL_CONNECTS;
}

static void trial_note(struct trial *t, const char *error)
{
    if (t->report.errors++ == 0) {
        snprintf(t->report.error, sizeof t->report.error, "%s", error);
    }
}

static const char *trial_last_error(const struct policy *p)
{
    struct policy_figures f;
    p->life->figures(p, &f);
    return f.last_error;
}

static uint64_t trial_errors_of(const struct policy *p)
{
    struct policy_figures f;
    p->life->figures(p, &f);
    return f.errors;
}

/* ---------------------------------------------------------------- questions */

static void trial_on_verdict(void *ctx, uint64_t token, const struct verdict *v)
{
    struct trial *t = ctx;
    struct item *item = &t->items[token & ~TOKEN_OF_TRIAL];
    struct trial_report *r = &t->report;
    const struct subscriber *sub = item->stream ? subscriber_of_stream(t->b, item->stream) : NULL;
    item->asked = false;
    t->under_way--;
    if (v->failed) {
        trial_note(t, trial_last_error(t->policy));
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

static void trial_ask(struct trial *t)
{
    struct item *item = &t->items[t->at];
    struct http_query query;
    saved_request_query(item->saved, &query);
    struct policy_request rq = {.id = item->stream,
                                .path = slice_str(t->b->opt.events_path),
                                .query = &query,
                                .client = item->client};
    item->asked = true;
    t->under_way++;
    t->report.connects += item->stream == 0;
    t->policy->gates->resubscribe(t->policy, &rq, saved_request_identity(item->saved),
                                  trial_on_verdict, t, TOKEN_OF_TRIAL | t->at);
    t->at++;
    http_query_clear(&query);
}

static void trial_add_item(struct trial *t, struct saved_request *saved,
                           const struct peer_address *client, uint64_t stream)
{
    t->items[t->count++] = (struct item){saved_request_ref(saved), *client, stream, false};
}

/* The newest streams: those before are likely to be of the same kinds. */
static void trial_collect_items(struct trial *t, unsigned streams)
{
    struct broker *b = t->b;
    t->items = xcalloc(TRIAL_CONNECTS + (size_t)streams, sizeof *t->items);
    for (unsigned i = 0; i < TRIAL_CONNECTS && b->recents->v[i].saved; i++) {
        trial_add_item(t, b->recents->v[i].saved, &b->recents->v[i].client, 0);
    }
    for (struct list *it = b->subscribers.prev; streams && it != &b->subscribers; it = it->prev) {
        const struct subscriber *sub = subscriber_of_node(it);
        trial_add_item(t, sub->saved, &sub->client, sub->id);
        streams--;
    }
}

/* ---------------------------------------------------------------- events */

/* Does the policy fail on it? */
static bool trial_fails(struct renderer *r, const struct policy_binding *binding, struct event *ev)
{
    struct rendering what;
    const struct render_order order = {.mode = RENDER_DRY_RUN, .binding = binding, .event = ev};
    uint64_t before = trial_errors_of(r->policy);
    (void)render(r, &order, &what); /* errors are counted by the policy */
    return trial_errors_of(r->policy) > before;
}

/* The policy in force, too? */
static bool trial_fails_now(struct broker *b, const struct audience *a, struct event *ev)
{
    struct policy *p = b->policy;
    p->life->set_stage(p, POLICY_TRIED);
    bool failed = !a->unbound && trial_fails(b->renderer, &a->binding, ev);
    p->life->set_stage(p, POLICY_LIVE); /* forgets what was counted meanwhile */
    return failed;
}

static void trial_judge_all(struct trial *t, const struct audience *a)
{
    struct policy *p = t->policy;
    struct eventlog *log = t->b->log;
    struct policy_binding binding;
    struct subscription s = audience_subscription(a);
    uint64_t end = eventlog_end(log);
    uint64_t first = end > TRIAL_EVENTS ? end - TRIAL_EVENTS : 0;
    if (p->rules->bind(p, &s, &binding)) {
        return; /* no such filter or format: its streams are asked about */
    }
    for (uint64_t i = first; i < end && t->report.judgements < JUDGEMENTS_MAX; i++) {
        struct event *ev = eventlog_at(log, i);
        if (!ev || !audience_wants(a, event_topic(ev))) {
            continue;
        }
        t->report.judgements++;
        if (trial_fails(&t->renderer, &binding, ev) && !trial_fails_now(t->b, a, ev)) {
            trial_note(t, trial_last_error(p));
            break; /* one of a kind is enough */
        }
    }
    p->rules->unbind(p, &binding);
}

static void trial_collect_audiences(struct trial *t)
{
    t->audiences = xcalloc(AUDIENCES_MAX, sizeof *t->audiences);
    for (const struct audience *a = audience_set_first(t->b->audiences);
         a && t->audience_count < AUDIENCES_MAX; a = audience_set_next(a)) {
        t->audiences[t->audience_count++] = a->id;
    }
}

static const struct audience *trial_audience_of(const struct broker *b, uint64_t id)
{
    const struct audience *a = audience_set_first(b->audiences);
    while (a && a->id != id) {
        a = audience_set_next(a);
    }
    return a;
}

/* ---------------------------------------------------------------- the way through */

void trial_free(struct trial *t)
{
    task_cancel(&t->task);
    for (size_t i = 0; i < t->count; i++) {
        if (t->items[i].asked) {
            t->policy->gates->cancel(t->policy, TOKEN_OF_TRIAL | i);
        }
        saved_request_unref(t->items[i].saved);
    }
    free(t->items);
    free(t->audiences);
    renderer_clear(&t->renderer);
    free(t);
}

/* A part of the work per turn. */
static void trial_step(struct task *task)
{
    struct trial *t = container_of(task, struct trial, task);
    uint64_t until = uv_hrtime() + turn_ns;
    while (t->at < t->count && t->under_way < UNDER_WAY_MAX && uv_hrtime() < until) {
        trial_ask(t);
    }
    while (t->at == t->count && t->audience_at < t->audience_count && uv_hrtime() < until) {
        const struct audience *a = trial_audience_of(t->b, t->audiences[t->audience_at++]);
        if (a) {
            trial_judge_all(t, a);
        }
    }
    if (t->at == t->count && t->under_way == 0 && t->audience_at == t->audience_count) {
        struct trial_report report = t->report;
        void (*done)(void *, const struct trial_report *) = t->done;
        void *ctx = t->ctx;
        trial_free(t);
        done(ctx, &report);
    } else if (t->under_way < UNDER_WAY_MAX && (t->at < t->count || t->under_way == 0)) {
        loop_defer(t->b->loop, &t->task);
    } /* else an answer wakes it */
}

struct trial *trial_start(struct broker *b, struct policy *p, unsigned streams,
                          void (*done)(void *ctx, const struct trial_report *r), void *ctx)
{
    struct trial *t = xcalloc(1, sizeof *t);
    t->b = b;
    t->policy = p;
    t->done = done;
    t->ctx = ctx;
    task_init(&t->task, trial_step);
    renderer_init(&t->renderer, p, NULL, b->opt.publish.event_bytes);
    p->life->set_stage(p, POLICY_TRIED);
    trial_collect_items(t, streams);
    trial_collect_audiences(t);
    loop_defer(b->loop, &t->task);
    return t;
}
