#include "broker/reach.h"

#include "audience/tag_index.h"
#include "base/logging.h"
#include "broker/resubscribe.h"
#include "broker/subscriber_state.h"

#include <stdlib.h>

/* Streams are found again by id: one that ends may take others with it. */
static void reach_each(struct broker *b, struct slice tag, const uint64_t *ids, size_t n,
                       void (*act)(struct subscriber *sub, struct slice reason),
                       struct slice reason)
{
    if (tag.p) {
        tag_index_touch(b->tags, tag);
    }
    for (size_t i = 0; i < n; i++) {
        struct subscriber *sub = subscriber_of_stream(b, ids[i]);
        if (sub) {
            act(sub, reason);
        }
    }
    resubscribe_bar_stale(b);
}

static void reach_ask(struct subscriber *sub, struct slice reason)
{
    (void)reason;
    resubscribe_barred(sub);
}

/* One without a head yet is asked about: it cannot be told anything. */
static void reach_end(struct subscriber *sub, struct slice reason)
{
    if (sub->state == SUB_STARTING) {
        resubscribe_barred(sub);
    } else {
        resubscribe_end(sub, reason);
    }
}

void reach_ask_again(struct broker *b, struct slice tag, const uint64_t *ids, size_t n)
{
    reach_each(b, tag, ids, n, reach_ask, slice_of(NULL, 0));
    b->metrics->observe_ask_again++;
    b->metrics->reached_asked += n;
}

void reach_end_streams(struct broker *b, struct slice tag, const uint64_t *ids, size_t n,
                       struct slice reason)
{
    reach_each(b, tag, ids, n, reach_end, reason);
    b->metrics->observe_end_streams++;
    b->metrics->reached_ended += n;
}

/* Whose grants have changed is not known. */
static void reach_ask_all(struct broker *b, struct reach_batch *batch)
{
    size_t n = 0;
    tag_index_touch_all(b->tags);
    b->metrics->observe_ask_all++;
    if (batch->asked_all) {
        return;
    }
    list_for_each (it, &b->subscribers) {
        struct subscriber *sub = subscriber_of_node(it);
        if (subscriber_has_tags(sub)) {
            resubscribe_barred(sub);
            n++;
        }
    }
    resubscribe_bar_stale(b);
    b->metrics->reached_asked += n;
    *batch = (struct reach_batch){.asked_all = true, .streams = n};
}

static void reach_apply(struct broker *b, const struct policy_effect *x, uint64_t event)
{
    struct slice tag = slice_of(x->tag, x->tag_n);
    bool ends = x->kind == POLICY_END_STREAMS;
    uint64_t *ids;
    size_t n = tag_index_streams(b->tags, tag, &ids);
    if (ends) {
        reach_end_streams(b, tag, ids, n, slice_of(x->reason, x->reason_n));
    } else {
        reach_ask_again(b, tag, ids, n);
    }
    free(ids);
    /* each stream that ends leaves a line; observe may order much, about few */
    log_debug("broker", ends ? "streams ended by tag" : "streams asked about again by tag",
              LOG_F(log_uint("event", event), log_slice("tag", tag), log_uint("streams", n)));
}

void reach_observe(struct broker *b, struct event *ev, struct reach_batch *batch)
{
    const struct policy_reach *reach = b->policy->reach;
    if (!reach || render_is_expired(b->renderer, ev) ||
        !reach->observes(b->policy, event_topic(ev))) {
        return;
    }
    struct policy_effects effects;
    policy_effects_init(&effects);
    int rc = reach->observe(b->policy, ev, &effects);
    for (size_t i = 0; i < effects.n; i++) {
        reach_apply(b, &effects.v[i], ev->id);
    }
    policy_effects_clear(&effects);
    if (rc) {
        b->observe_failed.ids[b->observe_failed.next++ % REACH_FAILURES] = ev->id;
        reach_ask_all(b, batch);
        if (log_pace_take(&b->observe_pace, loop_now(b->loop))) {
            log_warn("broker", "observe failed: all streams with tags are asked about again",
                     LOG_F(log_uint("event", ev->id), log_uint("streams", batch->streams)));
        }
    }
    int64_t passed = loop_unix_ms(b->loop) - ev->time_ms;
    b->metrics->observed++;
    latency_add(&b->metrics->observe, passed > 0 ? (uint64_t)passed * 1000 : 0);
}

bool reach_failed_on(const struct broker *b, uint64_t event)
{
    bool failed = false;
    for (unsigned i = 0; i < REACH_FAILURES; i++) {
        failed = failed || b->observe_failed.ids[i] == event;
    }
    return failed;
}

void reach_lost_events(struct broker *b)
{
    if (b->policy && b->policy->reach) {
        struct reach_batch batch = {0};
        reach_ask_all(b, &batch);
        log_warn("broker",
                 "events may be lost that the policy observes: all streams with tags are "
                 "asked about again",
                 LOG_F(log_uint("streams", batch.streams)));
    }
}
