#include "broker/review.h"

#include "base/logging.h"
#include "base/slots.h"
#include "base/xalloc.h"
#include "broker/subscriber_state.h"

#include <stdlib.h>

enum {
    TICK_MS = 20,
    BURSTS_PER_S = 10,
    UNDER_WAY_MAX = 64, /* questions the policy waits with: others want its database, too */
    RETRY_FIRST_MS = 1000,
    RETRY_STEPS = 4,
};

struct reviews {
    struct broker *b;
    struct list queue;    /* struct review: to be asked about, in this order */
    struct deadline tick; /* the next few */
    uint64_t at_ms;       /* when `allowed` was reckoned */
    double allowed;
    struct slots asked; /* question -> struct review */
    unsigned under_way; /* questions */
};

/* One stream that is, or is going to be, asked about. */
struct review {
    struct subscriber_part part; /* sub->review */
    struct list node;            /* in the queue, while it waits for its turn */
    struct deadline retry;       /* armed: the policy could not say */
    struct subscriber *sub;
    uint64_t since_ms; /* it was first asked about; unset before */
    uint64_t question; /* that is under way, in reviews.asked; 0: none */
    unsigned attempts;
    bool reconnect; /* not to be asked about: to be sent away */
};

/* What distinguishes the tokens of these questions from those of streams. */
#define TOKEN_OF_REVIEW (UINT64_C(1) << 63)

static void review_on_tick(struct deadline *d);
static void review_perform_allowed(struct broker *b);

struct reviews *reviews_new(struct broker *b)
{
    struct reviews *rs = xcalloc(1, sizeof *rs);
    rs->b = b;
    list_init(&rs->queue);
    deadline_init(&rs->tick);
    slots_init(&rs->asked);
    return rs;
}

void reviews_free(struct reviews *rs)
{
    REQUIRE(list_empty(&rs->queue)); /* reviews go with their subscribers */
    deadline_disarm(&rs->tick);
    slots_clear(&rs->asked);
    free(rs);
}

bool reviews_pending(const struct reviews *rs)
{
    return rs->under_way > 0 || !list_empty(&rs->queue);
}

static void review_wake(struct broker *b)
{
    if (!list_linked(&b->reviews->tick.node) && !list_empty(&b->reviews->queue)) {
        deadline_arm(loop_deadline_class(b->loop, TICK_MS, review_on_tick), &b->reviews->tick);
    }
}

static void review_on_gone(struct subscriber_part *part);

static struct review *review_of(struct subscriber *sub)
{
    if (!sub->review) {
        struct review *r = xcalloc(1, sizeof *r);
        r->part.gone = review_on_gone;
        list_init(&r->node);
        deadline_init(&r->retry);
        r->sub = sub;
        sub->review = &r->part;
        sub->b->metrics->reviews_waiting++;
    }
    return container_of(sub->review, struct review, part);
}

static void review_end_question(struct review *r)
{
    struct reviews *rs = r->sub->b->reviews;
    slots_del(&rs->asked, r->question);
    rs->under_way--;
    r->question = 0;
}

/* Whatever is answered now does not count. */
static void review_drop_question(struct review *r)
{
    struct broker *b = r->sub->b;
    if (r->question) {
        uint64_t token = r->question | TOKEN_OF_REVIEW;
        review_end_question(r);
        b->policy->gates->cancel(b->policy, token);
    }
}

static void review_forget(struct review *r)
{
    struct subscriber *sub = r->sub;
    review_drop_question(r);
    list_del(&r->node);
    deadline_disarm(&r->retry);
    sub->review = NULL;
    sub->b->metrics->reviews_waiting--;
    free(r);
}

static void review_on_gone(struct subscriber_part *part)
{
    review_forget(container_of(part, struct review, part));
}

/* ---------------------------------------------------------------- answers */

static void review_on_retry(struct deadline *d)
{
    struct review *r = container_of(d, struct review, retry);
    struct broker *b = r->sub->b;
    list_add_head(&b->reviews->queue, &r->node); /* its time runs, that of others does not yet */
    review_wake(b);
}

/* The policy cannot say. For how long a grant lives on is bounded. */
static void review_later(struct review *r)
{
    struct subscriber *sub = r->sub;
    struct broker *b = sub->b;
    if (loop_now(b->loop) - r->since_ms >= b->opt.review_timeout_ms) {
        b->metrics->reviews_gave_up++;
        log_debug("broker", "the policy could not say whether a stream may go on",
                  LOG_F(log_uint("stream", sub->id)));
        subscriber_end(sub, CLOSE_TRANSIENT, sub->retry_ms);
        return;
    }
    unsigned step = r->attempts < RETRY_STEPS ? r->attempts : RETRY_STEPS;
    uint64_t wait = UINT64_C(1) * RETRY_FIRST_MS << step;
    uint64_t most = b->opt.review_timeout_ms / 4 + 1; /* a few times within the bound */
    r->attempts++;
    b->metrics->reviews_later++;
    deadline_arm(loop_deadline_class(b->loop, wait < most ? wait : most, review_on_retry),
                 &r->retry);
}

static void review_answered(struct review *r, const struct verdict *v)
{
    struct subscriber *sub = r->sub;
    struct broker *b = sub->b;
    review_end_question(r);
    if (v->kind == VERDICT_DENY) {
        b->metrics->reviews_revoked++;
        subscriber_revoke(sub, v->reason);
    } else if (v->kind == VERDICT_TRANSIENT) {
        review_later(r);
    } else if (sub->state == SUB_STARTING) { /* it waits for the store, at the old place */
        list_add_tail(&b->reviews->queue, &r->node);
        review_wake(b);
    } else {
        int moved = subscriber_regrant(sub, &v->subscription);
        if (moved < 0) {
            review_later(r);
            return;
        }
        b->metrics->reviews_moved += moved > 0;
        b->metrics->reviews_same += moved == 0;
        review_forget(r);
    }
}

static void review_on_verdict(void *ctx, uint64_t token, const struct verdict *v)
{
    struct broker *b = ctx;
    struct review *r = slots_get(&b->reviews->asked, token & ~TOKEN_OF_REVIEW);
    if (r) { /* else the stream is gone, or another policy was asked meanwhile */
        review_answered(r, v);
    }
    review_perform_allowed(b);
}

/* ---------------------------------------------------------------- questions */

static void review_ask(struct review *r)
{
    struct subscriber *sub = r->sub;
    struct broker *b = sub->b;
    struct http_query query;
    r->since_ms = r->attempts ? r->since_ms : loop_now(b->loop);
    r->question = slots_add(&b->reviews->asked, r);
    b->reviews->under_way++;
    saved_request_query(sub->saved, &query);
    struct policy_request rq = {.id = sub->id,
                                .path = slice_str(b->opt.events_path),
                                .query = &query,
                                .client = sub->client};
    b->policy->gates->resubscribe(b->policy, &rq, saved_request_identity(sub->saved),
                                  review_on_verdict, b, r->question | TOKEN_OF_REVIEW);
    http_query_clear(&query);
}

static void review_perform(struct review *r)
{
    struct subscriber *sub = r->sub;
    if (sub->state == SUB_STARTING) {
        deadline_arm(loop_deadline_class(sub->b->loop, RETRY_FIRST_MS, review_on_retry), &r->retry);
    } else if (r->reconnect) {
        sub->b->metrics->reviews_reconnected++;
        subscriber_end(sub, CLOSE_POLICY_RELOAD, sub->retry_ms);
    } else {
        review_ask(r);
    }
}

static void review_perform_allowed(struct broker *b)
{
    struct reviews *rs = b->reviews;
    uint64_t now = loop_now(b->loop);
    double most =
        b->opt.review_per_s > BURSTS_PER_S ? (double)b->opt.review_per_s / BURSTS_PER_S : 1;
    rs->allowed += (double)b->opt.review_per_s * (double)(now - rs->at_ms) / 1000;
    rs->allowed = rs->allowed > most ? most : rs->allowed;
    rs->at_ms = now;
    while (rs->allowed >= 1 && rs->under_way < UNDER_WAY_MAX && !list_empty(&rs->queue)) {
        struct review *r = list_first(&rs->queue, struct review, node);
        list_del(&r->node);
        rs->allowed--;
        review_perform(r);
    }
}

static void review_on_tick(struct deadline *d)
{
    struct broker *b = container_of(d, struct reviews, tick)->b;
    review_perform_allowed(b);
    review_wake(b);
}

/* Puts it into the queue; a question under way does not count any more. Those who wait already keep
 * their place: where policies follow each other quickly everybody's turn comes. */
static void review_enqueue(struct review *r, bool first)
{
    struct broker *b = r->sub->b;
    deadline_disarm(&r->retry);
    review_drop_question(r);
    r->attempts = 0;
    if (first) {
        list_del(&r->node);
        list_add_head(&b->reviews->queue, &r->node);
    } else if (!list_linked(&r->node)) {
        list_add_tail(&b->reviews->queue, &r->node);
    }
}

void review_all(struct broker *b, enum reload_mode mode)
{
    list_for_each (it, &b->subscribers) {
        struct subscriber *sub = subscriber_of_node(it);
        bool unbound = sub->audience->unbound;
        if (mode == RELOAD_KEEP && !unbound && !sub->review) {
            continue;
        }
        struct review *r = review_of(sub);
        r->reconnect = mode == RELOAD_RECONNECT && !unbound;
        review_enqueue(r, unbound);
    }
    review_wake(b);
}

void review_now(struct subscriber *sub)
{
    review_enqueue(review_of(sub), true);
    review_wake(sub->b);
}
