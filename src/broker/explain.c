#include "broker/explain.h"

#include "audience/render.h"
#include "base/alloc.h"
#include "base/container/slots.h"
#include "base/container_of.h"
#include "broker/resubscribe.h"
#include "broker/subscriber_state.h"
#include "event/topic.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct explains {
    struct slots asked; /* question -> struct explain */
    unsigned under_way;
};

/* A question, until it is answered: in a task when the event is at hand, else when the store has
 * read it. Streams and policies may come and go meanwhile, so nothing of them is kept. */
struct explain {
    struct broker *b;
    struct task task;
    struct explain_question q; /* `given`: a reference, also to one that was found; NULL and no
                                  failure: retention has removed it */
    bool newest;               /* of its topic, where explain_snapshot() wants to know */
    uint64_t id;               /* in explains.asked */
    enum explain_failure failure;
    explain_cb cb;
    void *ctx;
    uint64_t token;
};

/* ---------------------------------------------------------------- judging */

static struct slice explain_matching(const struct audience *a, struct slice topic)
{
    for (size_t i = 0; i < a->topic_count; i++) {
        if (topic_match(a->topics[i], topic)) {
            return a->topics[i];
        }
    }
    return slice_of(NULL, 0);
}

static enum explain_reason explain_ask_policy(struct broker *b, const struct audience *a,
                                              struct event *ev, struct explanation *x)
{
    struct rendering what;
    const struct render_order order = {.mode = RENDER_EXPLAIN,
                                       .binding = &a->binding,
                                       .event = ev,
                                       .expired_too = true,
                                       .filter = &x->filter,
                                       .format = &x->format,
                                       .ends = &x->ends};
    switch (render(b->renderer, &order, &what)) {
    case RENDER_EXPIRED: /* that is not asked here */
    case RENDER_FILTERED:
        return x->filter.failed ? EXPLAIN_FILTER_ERROR : EXPLAIN_FILTERED;
    case RENDER_LEFT_OUT:
        return EXPLAIN_FORMAT_NIL;
    case RENDER_FAILED:
    case RENDER_NO_MEMORY:
        return EXPLAIN_FORMAT_ERROR;
    case RENDER_EVENT:
        break;
    }
    x->ends_stream = what.ends;
    struct frame *frame = sse_frame(&what.fields);
    x->frame_bytes = frame ? frame->len : 0;
    frame_unref(frame);
    return x->frame_bytes ? EXPLAIN_NONE : EXPLAIN_FORMAT_ERROR;
}

/* The first rule that keeps the event from the stream. */
static enum explain_reason explain_rules(const struct subscriber *sub, struct event *ev,
                                         struct explanation *x)
{
    const struct audience *a = sub->audience;
    x->pattern = explain_matching(a, event_topic(ev));
    if (!x->pattern.p) {
        return EXPLAIN_TOPIC;
    }
    x->held = a->unbound;
    return x->held ? EXPLAIN_HELD : explain_ask_policy(sub->b, a, ev, x);
}

static void explain_conclude(enum explain_reason by_rules, struct explanation *x)
{
    bool through = by_rules == EXPLAIN_NONE;
    x->reason = through ? x->reason : by_rules;
    switch (x->place) {
    case EXPLAIN_PASSED:
        x->outcome = through ? EXPLAIN_DELIVERED : EXPLAIN_NOT_DELIVERED;
        break;
    case EXPLAIN_BEFORE_START:
    case EXPLAIN_SKIPPED:
        x->outcome = EXPLAIN_NOT_DELIVERED;
        break;
    case EXPLAIN_NOT_STORED:
    case EXPLAIN_AHEAD:
    case EXPLAIN_PASSED_BEFORE:
        x->outcome = through ? EXPLAIN_WOULD : EXPLAIN_WOULD_NOT;
        break;
    }
}

static void explain_removed(struct explanation *x)
{
    if (x->place == EXPLAIN_AHEAD) {
        x->place = EXPLAIN_SKIPPED;
        x->reason = EXPLAIN_EXPIRED;
        snprintf(x->text, sizeof x->text,
                 "retention removed it before the stream, at %" PRIu64 ", came to it",
                 x->connection.cursor);
    }
    if (x->place == EXPLAIN_PASSED || x->place == EXPLAIN_PASSED_BEFORE) {
        x->failure = EXPLAIN_GONE;
        snprintf(x->text, sizeof x->text,
                 "Retention has removed event %" PRIu64 ". The stream passed it before; whether it "
                 "got it is not known any more.",
                 x->event_id);
        return;
    }
    x->outcome = EXPLAIN_NOT_DELIVERED;
}

/* Its time has passed: before the stream could be given it? When the stream came to it is not known; it had the chance
 * where it was open in time. */
static bool explain_expired(const struct subscriber *sub, const struct event *ev,
                            const struct explanation *x)
{
    int64_t opened_ms = loop_unix_ms(sub->b->loop) - (int64_t)(x->connection.seconds * 1000);
    switch (x->place) {
    case EXPLAIN_NOT_STORED:
    case EXPLAIN_AHEAD:
        return true;
    case EXPLAIN_PASSED:
    case EXPLAIN_PASSED_BEFORE:
        return ev->expires_ms <= ev->time_ms || ev->expires_ms <= opened_ms;
    case EXPLAIN_BEFORE_START:
    case EXPLAIN_SKIPPED:
        break;
    }
    return false;
}

static void explain_event(const struct subscriber *sub, const struct explain *e,
                          struct explanation *x)
{
    subscriber_describe(sub, &x->connection);
    x->state = subscriber_state_name(sub);
    x->resubscribing = resubscribe_waits(sub);
    x->start = sub->start;
    x->event = e->q.given;
    x->event_id = e->q.event;
    explain_locate(sub, e->newest, x);
    if (e->q.given) {
        enum explain_reason by_rules = explain_rules(sub, e->q.given, x);
        x->past = render_is_expired(sub->b->renderer, e->q.given);
        x->expired = x->past && explain_expired(sub, e->q.given, x);
        if (by_rules == EXPLAIN_NONE && x->event_id && !x->ends_stream) {
            explain_replace(sub, x);
        }
        explain_conclude(by_rules == EXPLAIN_NONE && x->expired ? EXPLAIN_EVENT_EXPIRED : by_rules,
                         x);
    } else {
        explain_removed(x);
    }
}

/* ---------------------------------------------------------------- answering */

static void explain_fail(struct explanation *x, const struct explain *e,
                         enum explain_failure failure)
{
    uint64_t id = e->q.event;
    x->failure = failure;
    switch (failure) {
    case EXPLAIN_NO_STREAM:
        snprintf(x->text, sizeof x->text,
                 "No open event stream has that id; `tidegate connections` lists them.");
        break;
    case EXPLAIN_NO_EVENT:
        if (id > eventlog_head(e->b->log)) {
            snprintf(x->text, sizeof x->text,
                     "There is no event %" PRIu64 " yet: the newest is %" PRIu64 ".", id,
                     eventlog_head(e->b->log));
        } else {
            snprintf(x->text, sizeof x->text,
                     "There never was an event %" PRIu64
                     ": ids are handed out with gaps, and this one was left out.",
                     id);
        }
        break;
    case EXPLAIN_STORE_FAILED:
        snprintf(x->text, sizeof x->text, "The store cannot be read now; ask again.");
        break;
    case EXPLAIN_GONE:
    case EXPLAIN_OK:
        break;
    }
}

static void explain_free(struct explain *e)
{
    struct explains *all = e->b->explains;
    slots_del(&all->asked, e->id);
    all->under_way--;
    task_cancel(&e->task);
    event_unref(e->q.given);
    free(e);
}

static void explain_answer(struct explain *e)
{
    struct explanation x = {.failure = EXPLAIN_OK};
    struct strbuf *buffers[] = {&x.filter.lines, &x.filter.why, &x.format.lines,
                                &x.format.why,   &x.ends.lines, &x.ends.why};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        strbuf_init(buffers[i], i % 2 ? EXPLAIN_WHY_MAX_BYTES : EXPLAIN_LINES_MAX_BYTES);
    }
    const struct subscriber *sub = subscriber_of_stream(e->b, e->q.stream);
    if (!sub) {
        explain_fail(&x, e, EXPLAIN_NO_STREAM);
    } else if (e->failure != EXPLAIN_OK) {
        explain_fail(&x, e, e->failure);
    } else {
        explain_event(sub, e, &x);
    }
    e->cb(e->ctx, e->token, &x);
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        strbuf_clear(buffers[i]);
    }
    explain_free(e);
}

static void explain_on_task(struct task *t)
{
    explain_answer(container_of(t, struct explain, task));
}

static void explain_on_page(void *ctx, uint64_t token, int rc, const struct store_page *page)
{
    struct broker *b = ctx;
    struct explain *e = slots_get(&b->explains->asked, token);
    if (!e) {
        return;
    }
    if (rc) {
        e->failure = EXPLAIN_STORE_FAILED;
    } else if (page->n) {
        e->q.given = event_ref(page->events[0]);
    } else if (page->trimmed < e->q.event) {
        e->failure = EXPLAIN_NO_EVENT;
    }
    explain_answer(e);
}

/* Looks where the event is. True: the store was asked. */
static bool explain_look_at_log(struct explain *e)
{
    struct broker *b = e->b;
    uint64_t id = e->q.event;
    if (id > eventlog_head(b->log)) {
        e->failure = EXPLAIN_NO_EVENT;
        return false;
    }
    if (id > eventlog_floor(b->log)) {
        struct event *ev = eventlog_at(b->log, eventlog_index_after(b->log, id - 1));
        bool found = ev && ev->id == id;
        e->q.given = found ? event_ref(ev) : NULL;
        e->failure = found ? EXPLAIN_OK : EXPLAIN_NO_EVENT;
        return false;
    }
    struct store_query q = {.after = id - 1, .upto = id, .max_events = 1, .max_bytes = 1};
    bool asked = b->store->ops->read(b->store, &q, explain_on_page, b, e->id) == 0;
    e->failure = asked ? EXPLAIN_OK : EXPLAIN_STORE_FAILED;
    return asked;
}

static void explain_on_newest(void *ctx, uint64_t token, int rc, const struct store_page *page)
{
    struct broker *b = ctx;
    struct explain *e = slots_get(&b->explains->asked, token);
    if (!e) {
        return;
    }
    if (rc) {
        e->failure = EXPLAIN_STORE_FAILED;
    } else if (page->n && page->events[0]->id == e->q.event) {
        e->newest = true;
        e->q.given = event_ref(page->events[0]); /* retention may have taken it from the log */
    } else if (explain_look_at_log(e)) {
        return;
    }
    explain_answer(e);
}

/* True: the store was asked. */
static bool explain_look(struct explain *e)
{
    struct broker *b = e->b;
    uint64_t id = e->q.event;
    const struct subscriber *sub = subscriber_of_stream(b, e->q.stream);
    if (!sub) {
        e->failure = EXPLAIN_NO_STREAM;
        return false;
    }
    if (e->q.given) {
        return false;
    }
    if (!explain_snapshot(sub, id)) {
        return explain_look_at_log(e);
    }
    struct store_query q = {.after = id - 1,
                            .upto = id,
                            .max_events = 1,
                            .max_bytes = 1,
                            .topics = sub->audience->topics,
                            .topic_count = sub->audience->topic_count,
                            .latest = true};
    bool asked = b->store->ops->read(b->store, &q, explain_on_newest, b, e->id) == 0;
    e->failure = asked ? EXPLAIN_OK : EXPLAIN_STORE_FAILED;
    return asked;
}

bool explain_ask(struct broker *b, const struct explain_question *q, explain_cb cb, void *ctx,
                 uint64_t token)
{
    if (b->explains->under_way == EXPLAIN_UNDER_WAY_MAX) {
        event_unref(q->given);
        return false;
    }
    struct explain *e = xcalloc(1, sizeof *e);
    *e = (struct explain){.b = b, .q = *q, .cb = cb, .ctx = ctx, .token = token};
    task_init(&e->task, explain_on_task);
    e->id = slots_add(&b->explains->asked, e);
    b->explains->under_way++;
    if (!explain_look(e)) {
        loop_defer(b->loop, &e->task);
    }
    return true;
}

int explain_parse(struct broker *b, const struct http_request *rq, struct event **out,
                  struct err *e)
{
    struct http_query q;
    struct event_list events = {0};
    bool is_batch = false;
    if (http_query_parse(&q, rq->query)) {
        (void)err_set(e, UV_EINVAL, "The query is not well-formed.");
        return 400;
    }
    const struct publish_terms terms = {.query = &q, .limits = &b->opt.publish};
    int status = publish_body_parse(rq, &terms, loop_unix_ms(b->loop), &events, &is_batch, e);
    http_query_clear(&q);
    if (status == 0 && events.n != 1) {
        (void)err_set(e, UV_EINVAL, "one event was expected, there are %zu", events.n);
        status = 400;
    }
    if (status == 0) {
        *out = event_ref(events.v[0]);
    }
    event_list_clear(&events);
    return status;
}

struct explains *explains_new(void)
{
    struct explains *all = xcalloc(1, sizeof *all);
    slots_init(&all->asked);
    return all;
}

void explains_free(struct explains *all)
{
    struct explain *e;
    uint32_t at = 0;
    while ((e = slots_next(&all->asked, &at))) {
        explain_free(e);
    }
    slots_clear(&all->asked);
    free(all);
}
