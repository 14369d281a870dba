#include "broker/resubscribe.h"

#include "audience/tag_index.h"
#include "base/alloc.h"
#include "base/container/slots.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "broker/stream_quotas.h"
#include "broker/subscriber_state.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    TICK_MS = 20,
    BURSTS_PER_S = 10,
    UNDER_WAY_MAX = 64, /* questions the policy waits with: others want its database, too */
    RETRY_FIRST_MS = 1000,
    RETRY_STEPS = 4,
};

static const uint64_t turn_ns = 1000000; /* of each turn of the loop, and one question at least */

/* A queue, and how fast it goes. */
struct resubscribe_lane {
    struct list queue; /* struct resubscribe: to be asked about, in this order */
    unsigned per_s;    /* 0: as fast as the policy answers, UNDER_WAY_MAX at a time */
    uint64_t at_ms;    /* when `allowed` was reckoned */
    double allowed;
};

/* Those that end are barred, and are not asked about. Barred ones get no event until they were asked about;
 * those whose time has come go on with what they had, and need not wait for a reload. */
enum resubscribe_lane_name { LANE_ENDS, LANE_BARRED, LANE_NOW, LANE_RELOAD, LANES };

struct resubscribes {
    struct broker *b;
    struct resubscribe_lane lanes[LANES]; /* the first goes first */
    struct task soon;                     /* those that need not wait for the tick */
    unsigned stale;                       /* see struct resubscribe */
    struct deadline tick;                 /* the next few */
    struct slots asked;                   /* question -> struct resubscribe */
    unsigned under_way;                   /* questions */
};

/* One stream that is, or is going to be, asked about. */
struct resubscribe {
    struct subscriber_part part;
    struct list node; /* in the queue of its lane, while it waits for its turn */
    enum resubscribe_lane_name lane;
    struct deadline retry; /* armed: the policy could not say */
    struct deadline bound; /* armed: it is barred, but not for longer */
    uint64_t barred_ms;    /* since when */
    struct subscriber *sub;
    uint64_t queued_ms; /* since when it has waited for being asked about at all */
    uint64_t since_ms;  /* it was first asked about, whatever came later; 0: not yet */
    uint64_t question;  /* the running one, in resubscribes.asked; 0: none */
    uint64_t moment;    /* when it was asked, in the index of tags */
    unsigned attempts;
    bool reconnect; /* not to be asked about: to be sent away */
    bool ends;      /* nor those: with `reason`, or because the policy could not say for too long */
    char *reason;   /* owned; NULL: none */
    bool barred;
    bool
        stale; /* not barred, and granted by an earlier policy: its tags may have other names now */
};

/* What distinguishes the tokens of these questions from those of streams. */
#define TOKEN_OF_RESUBSCRIBE (UINT64_C(1) << 63)

static void resubscribe_on_tick(struct deadline *d);
static void resubscribe_on_soon(struct task *t);
static void resubscribe_on_bound(struct deadline *d);
static void resubscribe_enqueue(struct resubscribe *r, enum resubscribe_lane_name lane, bool first);

static bool resubscribes_queued(const struct resubscribes *rs)
{
    bool queued = false;
    for (int i = 0; i < LANES; i++) {
        queued = queued || !list_empty(&rs->lanes[i].queue);
    }
    return queued;
}

struct resubscribes *resubscribes_new(struct broker *b)
{
    struct resubscribes *rs = xcalloc(1, sizeof *rs);
    rs->b = b;
    for (int i = 0; i < LANES; i++) {
        list_init(&rs->lanes[i].queue);
    }
    rs->lanes[LANE_NOW].per_s = b->opt.ask_again_per_s;
    rs->lanes[LANE_RELOAD].per_s = b->opt.resubscribe_per_s;
    task_init(&rs->soon, resubscribe_on_soon);
    deadline_init(&rs->tick);
    slots_init(&rs->asked);
    return rs;
}

void resubscribes_free(struct resubscribes *rs)
{
    REQUIRE(!resubscribes_queued(rs)); /* resubscribes go with their subscribers */
    task_cancel(&rs->soon);
    deadline_disarm(&rs->tick);
    slots_clear(&rs->asked);
    free(rs);
}

bool resubscribes_pending(const struct resubscribes *rs)
{
    return rs->under_way > 0 || resubscribes_queued(rs);
}

static void resubscribe_wake(struct broker *b)
{
    if (!list_empty(&b->resubscribes->lanes[LANE_ENDS].queue) ||
        !list_empty(&b->resubscribes->lanes[LANE_BARRED].queue)) {
        loop_defer(b->loop, &b->resubscribes->soon);
    }
    if (!list_linked(&b->resubscribes->tick.node) && resubscribes_queued(b->resubscribes)) {
        deadline_arm(loop_deadline_class(b->loop, TICK_MS, resubscribe_on_tick),
                     &b->resubscribes->tick);
    }
}

static void resubscribe_on_gone(struct subscriber *sub, struct subscriber_part *part);

bool resubscribe_waits(const struct subscriber *sub)
{
    return subscriber_part_of(sub, resubscribe_on_gone) != NULL;
}

static struct resubscribe *resubscribe_of(struct subscriber *sub)
{
    struct subscriber_part *known = subscriber_part_of(sub, resubscribe_on_gone);
    if (known) {
        return container_of(known, struct resubscribe, part);
    }
    struct resubscribe *r = xcalloc(1, sizeof *r);
    r->part.gone = resubscribe_on_gone;
    list_init(&r->node);
    deadline_init(&r->retry);
    deadline_init(&r->bound);
    r->lane = LANE_RELOAD;
    r->sub = sub;
    subscriber_part_add(sub, &r->part);
    sub->b->metrics->resubscribes_waiting++;
    return r;
}

static struct list *resubscribe_queue(const struct resubscribe *r)
{
    return &r->sub->b->resubscribes->lanes[r->lane].queue;
}

static void resubscribe_end_question(struct resubscribe *r)
{
    struct resubscribes *rs = r->sub->b->resubscribes;
    slots_del(&rs->asked, r->question);
    rs->under_way--;
    r->question = 0;
}

/* Whatever is answered now does not count. */
static void resubscribe_drop_question(struct resubscribe *r)
{
    struct broker *b = r->sub->b;
    if (r->question) {
        uint64_t token = r->question | TOKEN_OF_RESUBSCRIBE;
        resubscribe_end_question(r);
        b->policy->gates->cancel(b->policy, token);
    }
}

static void resubscribe_forget(struct resubscribe *r)
{
    struct subscriber *sub = r->sub;
    struct broker_metrics *m = sub->b->metrics;
    resubscribe_drop_question(r);
    list_del(&r->node);
    deadline_disarm(&r->retry);
    deadline_disarm(&r->bound);
    sub->b->resubscribes->stale -= r->stale;
    if (r->barred) {
        m->barred--;
        latency_add(&m->barred_for, (loop_now(sub->b->loop) - r->barred_ms) * 1000);
    }
    subscriber_part_remove(sub, &r->part);
    m->resubscribes_waiting--;
    free(r->reason);
    free(r);
}

static void resubscribe_on_gone(struct subscriber *sub, struct subscriber_part *part)
{
    (void)sub;
    resubscribe_forget(container_of(part, struct resubscribe, part));
}

/* ---------------------------------------------------------------- answers */

static void resubscribe_on_retry(struct deadline *d)
{
    struct resubscribe *r = container_of(d, struct resubscribe, retry);
    struct broker *b = r->sub->b;
    list_add_head(resubscribe_queue(r), &r->node); /* its time runs, that of others does not yet */
    resubscribe_wake(b);
}

static void resubscribe_give_up(struct subscriber *sub)
{
    sub->b->metrics->resubscribes_gave_up++;
    log_debug("broker", "the policy could not say whether a stream may go on",
              LOG_F(log_uint("stream", sub->id)));
    subscriber_end(sub, CLOSE_TRANSIENT, sub->retry_ms);
}

/* Thousands may have been barred by one event. */
static void resubscribe_on_bound(struct deadline *d)
{
    struct resubscribe *r = container_of(d, struct resubscribe, bound);
    struct subscriber *sub = r->sub;
    if (sub->state == SUB_STARTING) { /* it has no head yet, and is sent nothing */
        deadline_arm(loop_deadline_class(sub->b->loop, RETRY_FIRST_MS, resubscribe_on_bound), d);
    } else {
        r->ends = true;
        resubscribe_enqueue(r, LANE_ENDS, false);
        resubscribe_wake(sub->b);
    }
}

/* The policy cannot say. For how long a grant lives on is bounded. */
static void resubscribe_later(struct resubscribe *r)
{
    struct subscriber *sub = r->sub;
    struct broker *b = sub->b;
    if (loop_now(b->loop) - r->since_ms >= b->opt.resubscribe_timeout_ms) {
        resubscribe_give_up(sub);
        return;
    }
    unsigned step = r->attempts < RETRY_STEPS ? r->attempts : RETRY_STEPS;
    uint64_t wait = UINT64_C(1) * RETRY_FIRST_MS << step;
    uint64_t most = b->opt.resubscribe_timeout_ms / 4 + 1; /* a few times within the bound */
    r->attempts++;
    b->metrics->resubscribes_later++;
    deadline_arm(loop_deadline_class(b->loop, wait < most ? wait : most, resubscribe_on_retry),
                 &r->retry);
}

/* What it counts for may be something else now. False: it may not. */
static bool resubscribe_counted(struct resubscribe *r, const struct subscription *s)
{
    struct subscriber *sub = r->sub;
    size_t which = 0;
    char reason[96];
    if (!sub->counted && s->quota_count == 0) {
        return true;
    }
    switch (stream_quotas_change(sub->b->quotas, sub->id, s, &which)) {
    case QUOTA_GRANTED:
        sub->counted = s->quota_count > 0;
        return true;
    case QUOTA_DENIED:
        snprintf(reason, sizeof reason, QUOTA_FULL_REASON, s->quotas[which].max);
        sub->b->metrics->resubscribes_revoked++;
        subscriber_revoke(sub, slice_str(reason));
        return false;
    case QUOTA_NO_ROOM:
        break;
    }
    resubscribe_later(r);
    return false;
}

static void resubscribe_answered(struct resubscribe *r, const struct verdict *v)
{
    struct subscriber *sub = r->sub;
    struct broker *b = sub->b;
    const struct subscription *s = &v->subscription;
    resubscribe_end_question(r);
    if (v->kind == VERDICT_ALLOW &&
        tag_index_touched_since(b->tags, r->moment, s->tags, s->tag_count)) {
        resubscribe_barred(sub); /* the answer may be from before */
    } else if (v->kind == VERDICT_DENY) {
        b->metrics->resubscribes_revoked++;
        subscriber_revoke(sub, v->reason);
    } else if (v->kind == VERDICT_TRANSIENT) {
        resubscribe_later(r);
    } else if (sub->state == SUB_STARTING) { /* it waits for the store, at the old place */
        list_add_tail(resubscribe_queue(r), &r->node);
        resubscribe_wake(b);
    } else if (resubscribe_counted(r, s)) {
        int moved = subscriber_regrant(sub, s);
        if (moved < 0) {
            resubscribe_later(r);
            return;
        }
        b->metrics->resubscribes_moved += moved > 0;
        b->metrics->resubscribes_same += moved == 0;
        resubscribe_forget(r);
    }
}

static void resubscribe_on_verdict(void *ctx, uint64_t token, const struct verdict *v)
{
    struct broker *b = ctx;
    struct resubscribe *r = slots_get(&b->resubscribes->asked, token & ~TOKEN_OF_RESUBSCRIBE);
    if (r) { /* else the stream is gone, or another policy was asked meanwhile */
        resubscribe_answered(r, v);
    }
    if (resubscribes_queued(b->resubscribes)) {
        loop_defer(b->loop, &b->resubscribes->soon); /* many answers may come in one turn */
    }
}

/* ---------------------------------------------------------------- questions */

static void resubscribe_ask(struct resubscribe *r)
{
    struct subscriber *sub = r->sub;
    struct broker *b = sub->b;
    struct http_query query, params;
    uint64_t now = loop_now(b->loop);
    r->since_ms = r->since_ms ? r->since_ms : now;
    if (r->attempts == 0) {
        latency_add(&b->metrics->resubscribe_delay, (now - r->queued_ms) * 1000);
    }
    r->moment = tag_index_now(b->tags);
    r->question = slots_add(&b->resubscribes->asked, r);
    b->resubscribes->under_way++;
    saved_request_query(sub->saved, &query);
    struct request_id id;
    request_id_make(&b->server->request_key, sub->id, &id);
    struct policy_request rq = {.id = sub->id,
                                .request_id = slice_str(id.text),
                                .path = broker_saved_path(&b->opt, sub->saved, &params),
                                .query = &query,
                                .params = &params,
                                .published = saved_request_published(sub->saved),
                                .mark = sub->audience->mark,
                                .client = sub->client};
    b->policy->gates->resubscribe(b->policy, &rq, saved_request_identity(sub->saved),
                                  resubscribe_on_verdict, b, r->question | TOKEN_OF_RESUBSCRIBE);
    http_query_clear(&query);
    http_query_clear(&params);
}

static void resubscribe_perform_end(struct resubscribe *r)
{
    char *reason = r->reason; /* `r` goes with the stream */
    r->reason = NULL;
    if (reason) {
        subscriber_revoke(r->sub, slice_str(reason));
    } else {
        resubscribe_give_up(r->sub);
    }
    free(reason);
}

static void resubscribe_perform(struct resubscribe *r)
{
    struct subscriber *sub = r->sub;
    if (r->ends) {
        resubscribe_perform_end(r);
    } else if (sub->state == SUB_STARTING) {
        deadline_arm(loop_deadline_class(sub->b->loop, RETRY_FIRST_MS, resubscribe_on_retry),
                     &r->retry);
    } else if (r->reconnect && r->lane == LANE_BARRED) { /* at the rate of the others */
        r->lane = LANE_RELOAD;
        list_add_tail(resubscribe_queue(r), &r->node);
        resubscribe_wake(sub->b);
    } else if (r->reconnect) {
        sub->b->metrics->resubscribes_reconnected++;
        subscriber_end(sub, CLOSE_POLICY_RELOAD, sub->retry_ms);
    } else {
        resubscribe_ask(r);
    }
}

/* Takes one away from what the lane may do by now; false: that is nothing. */
static bool resubscribe_lane_take(struct resubscribe_lane *lane, uint64_t now)
{
    double per_s = lane->per_s;
    double most = per_s > BURSTS_PER_S ? per_s / BURSTS_PER_S : 1;
    if (lane->per_s == 0) {
        return true;
    }
    lane->allowed += per_s * (double)(now - lane->at_ms) / 1000;
    lane->allowed = lane->allowed > most ? most : lane->allowed;
    lane->at_ms = now;
    if (lane->allowed < 1) {
        return false;
    }
    lane->allowed--;
    return true;
}

/* Hooks run at once, as far as they need not wait: what their time does not allow goes on in the next
 * turn. */
static void resubscribe_perform_allowed(struct broker *b)
{
    struct resubscribes *rs = b->resubscribes;
    uint64_t now = loop_now(b->loop);
    uint64_t until = uv_hrtime() + turn_ns;
    for (int i = 0; i < LANES; i++) {
        struct resubscribe_lane *lane = &rs->lanes[i];
        while ((i == LANE_ENDS || rs->under_way < UNDER_WAY_MAX) && !list_empty(&lane->queue) &&
               resubscribe_lane_take(lane, now)) {
            struct resubscribe *r = list_first(&lane->queue, struct resubscribe, node);
            list_del(&r->node);
            resubscribe_perform(r);
            if (uv_hrtime() >= until && resubscribes_queued(rs)) {
                loop_defer(b->loop, &rs->soon);
                return;
            }
        }
    }
}

static void resubscribe_on_soon(struct task *t)
{
    struct broker *b = container_of(t, struct resubscribes, soon)->b;
    resubscribe_perform_allowed(b);
}

static void resubscribe_on_tick(struct deadline *d)
{
    struct broker *b = container_of(d, struct resubscribes, tick)->b;
    resubscribe_perform_allowed(b);
    resubscribe_wake(b);
}

/* Puts it into a queue; a running question does not count any more. Those who wait already keep
 * their place, or get one in a queue that goes before: so every stream has its turn even where policies
 * follow each other quickly. */
static void resubscribe_enqueue(struct resubscribe *r, enum resubscribe_lane_name lane, bool first)
{
    bool queued = list_linked(&r->node);
    lane = r->ends ? LANE_ENDS : r->barred ? LANE_BARRED : lane;
    deadline_disarm(&r->retry);
    resubscribe_drop_question(r);
    r->attempts = 0;
    if (!queued) {
        r->queued_ms = loop_now(r->sub->b->loop);
    }
    if (queued && (first || lane < r->lane)) {
        list_del(&r->node);
    }
    r->lane = queued && r->lane < lane ? r->lane : lane;
    if (first) {
        list_add_head(resubscribe_queue(r), &r->node);
    } else if (!list_linked(&r->node)) {
        list_add_tail(resubscribe_queue(r), &r->node);
    }
}

void resubscribe_all(struct broker *b, enum reload_mode mode, bool replaced)
{
    list_for_each (it, &b->subscribers) {
        struct subscriber *sub = subscriber_of_node(it);
        bool unbound = sub->audience->unbound;
        if (mode == RELOAD_KEEP && !unbound && !resubscribe_waits(sub)) {
            continue;
        }
        struct resubscribe *r = resubscribe_of(sub);
        r->reconnect = mode == RELOAD_RECONNECT && !unbound;
        if (replaced && !r->barred && !r->stale) {
            r->stale = true;
            b->resubscribes->stale++;
        }
        resubscribe_enqueue(r, LANE_RELOAD, unbound);
    }
    resubscribe_wake(b);
}

void resubscribe_now(struct subscriber *sub)
{
    resubscribe_enqueue(resubscribe_of(sub), LANE_NOW, false);
    resubscribe_wake(sub->b);
}

void resubscribe_barred(struct subscriber *sub)
{
    struct broker *b = sub->b;
    struct resubscribe *r = resubscribe_of(sub);
    if (!r->barred) {
        r->barred = true;
        r->barred_ms = loop_now(b->loop);
        b->resubscribes->stale -= r->stale;
        r->stale = false;
        b->metrics->barred++;
        deadline_arm(
            loop_deadline_class(b->loop, b->opt.resubscribe_timeout_ms, resubscribe_on_bound),
            &r->bound);
    }
    subscriber_bar(sub);
    resubscribe_enqueue(r, LANE_BARRED, false);
    resubscribe_wake(b);
}

void resubscribe_end(struct subscriber *sub, struct slice reason)
{
    struct resubscribe *r = resubscribe_of(sub);
    if (!r->ends) {
        r->ends = true;
        r->reason = xstrndup(reason.p ? reason.p : "", reason.n);
    }
    resubscribe_barred(sub);
}

void resubscribe_bar_stale(struct broker *b)
{
    if (b->resubscribes->stale == 0) {
        return;
    }
    list_for_each (it, &b->subscribers) {
        struct subscriber *sub = subscriber_of_node(it);
        struct subscriber_part *part = subscriber_part_of(sub, resubscribe_on_gone);
        if (part && container_of(part, struct resubscribe, part)->stale) {
            resubscribe_barred(sub);
        }
    }
}

struct resubscribe_moment resubscribe_moment(const struct broker *b)
{
    return (struct resubscribe_moment){b->policy_epoch, tag_index_now(b->tags)};
}

void resubscribe_if_overtaken(struct subscriber *sub, const struct resubscribe_moment *asked,
                              const struct subscription *s)
{
    struct broker *b = sub->b;
    bool replaced = asked->policy_epoch != b->policy_epoch;
    bool acted = asked->touched != tag_index_now(b->tags);
    if ((replaced && acted) ||
        tag_index_touched_since(b->tags, asked->touched, s->tags, s->tag_count)) {
        resubscribe_barred(sub);
    } else if (replaced) {
        struct resubscribe *r = resubscribe_of(sub);
        r->stale = true;
        b->resubscribes->stale++;
        resubscribe_now(sub);
    }
}
