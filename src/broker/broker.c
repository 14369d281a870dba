#include "broker/broker.h"

#include "audience/audience_set.h"
#include "audience/render.h"
#include "audience/tag_index.h"
#include "audience/write_batch.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "broker/broker_parts.h"
#include "broker/delivery.h"
#include "broker/dry_run.h"
#include "broker/explain.h"
#include "broker/reach.h"
#include "broker/refusal.h"
#include "broker/resubscribe.h"
#include "broker/stream_quotas.h"
#include "broker/subscriber.h"
#include "erase/erase.h"
#include "event/sse_frame.h"
#include "history/history.h"
#include "policy/saved_request.h"

#include <stdlib.h>

enum { SWEEP_MS = 1000 };

static bool broker_on_flush(void *ctx)
{
    struct broker *b = ctx;
    return delivery_flush(b);
}

static void broker_on_sweep(struct deadline *d)
{
    struct broker *b = container_of(d, struct broker, sweep);
    subscriber_lag_sweep(b);
    stream_quotas_sweep(b->quotas);
    frame_cache_sweep(&b->firsts);
    deadline_arm(loop_deadline_class(b->loop, SWEEP_MS, broker_on_sweep), &b->sweep);
}

/* One that waits for the store has no head yet, so nothing can be said on it: it ends when it has begun. One that is
 * displaced from two quotas is named twice, and gone the second time. */
static bool broker_displace(struct broker *b, uint64_t stream, unsigned max)
{
    struct subscriber *sub = subscriber_of_stream(b, stream);
    return sub && subscriber_displace(sub, max);
}

struct broker *broker_new(struct loop *loop, const struct broker_options *opt,
                          struct broker_metrics *metrics)
{
    struct sse_fields beat = {.comment = slice_str("heartbeat")};
    struct broker *b = xcalloc(1, sizeof *b);
    b->loop = loop;
    b->opt = *opt;
    b->metrics = metrics;
    b->heartbeat = sse_frame(&beat);
    REQUIRE(b->heartbeat);
    jitter_init(&b->jitter);
    frame_cache_init(&b->firsts);
    list_init(&b->runnable);
    list_init(&b->subscribers);
    list_init(&b->waits);
    b->renderer = xmalloc(sizeof *b->renderer);
    renderer_init(b->renderer, NULL, &metrics->audience, opt->publish.event_bytes);
    b->renderer->topic = opt->topic;
    b->renderer->loop = loop;
    b->renderer->source = slice_str(opt->cloudevents_source);
    b->audiences = audience_set_new(loop, b->renderer);
    b->tags = tag_index_new();
    b->batch = write_batch_new(b->renderer, opt->turn_bytes);
    b->gzip = opt->gzip ? gzip_pool_new(opt->gzip_bytes, &metrics->audience) : NULL;
    b->refusals = refusals_new(loop, &b->opt, metrics, &b->jitter);
    b->resubscribes = resubscribes_new(b);
    b->quotas = stream_quotas_new(b, broker_displace);
    b->presence = presence_new(loop, &b->opt.presence, &metrics->presence);
    b->explains = explains_new();
    b->recents = dry_run_recents_new();
    deadline_init(&b->hold_end);
    deadline_init(&b->sweep);
    deadline_arm(loop_deadline_class(loop, SWEEP_MS, broker_on_sweep), &b->sweep);
    loop_on_flush(loop, broker_on_flush, b);
    return b;
}

void broker_free(struct broker *b)
{
    REQUIRE(list_empty(&b->subscribers));
    deadline_disarm(&b->hold_end);
    deadline_disarm(&b->sweep);
    refusals_free(b->refusals);
    resubscribes_free(b->resubscribes);
    stream_quotas_free(b->quotas);
    presence_free(b->presence);
    explains_free(b->explains);
    dry_run_recents_free(b->recents);
    write_batch_free(b->batch);
    audience_set_free(b->audiences);
    tag_index_free(b->tags);
    gzip_pool_free(b->gzip);
    renderer_clear(b->renderer);
    free(b->renderer);
    history_free(b->history);
    eventlog_free(b->log);
    eraser_free(b->eraser);
    id_set_clear(&b->erased_ahead);
    frame_unref(b->heartbeat);
    position_frames_clear(&b->positions);
    frame_cache_clear(&b->firsts);
    free(b);
}

/* What is to be forgotten may be on its way: an append of ours that another broker knows already. */
static void broker_erased(void *ctx, const uint64_t *ids, size_t n, uint64_t trimmed)
{
    struct broker *b = ctx;
    uint64_t head = eventlog_head(b->log);
    size_t forgotten = 0;
    for (size_t i = 0; i < n; i++) {
        (void)eventlog_erase(b->log, ids[i]);
        forgotten += ids[i] > head && !id_set_add(&b->erased_ahead, ids[i]);
    }
    b->metrics->erased_forgotten += forgotten;
    if (forgotten && log_pace_take(&b->erased_pace, loop_now(b->loop))) {
        log_warn(
            "broker",
            "so many events were erased that have yet to come that some are not remembered: what is "
            "on its way now may be delivered once more",
            LOG_F(log_uint("events", forgotten), log_uint("head", head)));
    }
    eventlog_trim(b->log, trimmed);
    history_erase(b->history, ids, n, trimmed);
    delivery_erase(b, ids, n);
    b->metrics->log_bytes = eventlog_bytes(b->log);
}

void broker_set_store(struct broker *b, struct store *store)
{
    const struct history_options history = {b->opt.page_events, b->opt.page_bytes,
                                            b->opt.page_cache_bytes, b->opt.snapshot_ms};
    struct store_bounds bounds = store->ops->bounds(store);
    b->store = store;
    b->log = eventlog_new(b->opt.log_events, b->opt.log_bytes, bounds.head);
    b->history =
        history_new(b->loop, store, b->log, &history,
                    (struct history_counts){&b->metrics->pages_read, &b->metrics->pages_shared},
                    delivery_page_ready);
    b->metrics->head_id = bounds.head;
    b->eraser = eraser_new(store);
    store->erased = broker_erased;
    store->erased_ctx = b;
    presence_set_store(b->presence, store);
}

void broker_leave_store(struct broker *b)
{
    presence_stop(b->presence);
}

struct eraser *broker_eraser(struct broker *b)
{
    return b->eraser;
}

void broker_set_policy(struct broker *b, struct policy *policy)
{
    b->policy = policy;
    renderer_set_policy(b->renderer, policy);
    policy->life->set_stage(policy, POLICY_LIVE);
}

/* Members of audiences that the policy has no filter or format for get nothing for now. */
static void broker_hold_unbound(struct broker *b)
{
    for (struct audience *a = audience_set_first(b->audiences); a; a = audience_set_next(a)) {
        if (a->unbound) {
            subscriber_unlive_all(a);
        }
        struct conflation *c = a->unbound ? conflation_of(a) : NULL;
        if (c) {
            conflation_drop(c); /* what comes now is not filed with it */
        }
    }
    subscriber_resume_held(b);
}

static void broker_end_waits(struct broker *b)
{
    while (!list_empty(&b->waits)) {
        struct broker_wait *w = list_first(&b->waits, struct broker_wait, node);
        w->end(w);
    }
}

void broker_swap_policy(struct broker *b, struct policy *policy, enum reload_mode mode)
{
    struct policy *old = b->policy;
    write_batch_reset(b->batch);
    renderer_set_policy(b->renderer, policy);
    b->policy = policy;
    b->policy_epoch++;
    old->life->set_stage(old, POLICY_RETIRED);
    policy->life->set_stage(policy, POLICY_LIVE);
    subscriber_rules_change(b);
    audience_set_rebind(b->audiences, old);
    broker_hold_unbound(b);
    resubscribe_all(b, mode, true);
    broker_end_waits(b);
}

bool broker_resubscribe(struct broker *b, uint64_t id)
{
    struct subscriber *sub = subscriber_of_stream(b, id);
    if (sub) {
        resubscribe_now(sub);
    }
    return sub != NULL;
}

void broker_ask_again(struct broker *b, struct slice tag, const uint64_t *ids, size_t n)
{
    reach_ask_again(b, tag, ids, n);
}

void broker_end_streams(struct broker *b, struct slice tag, const uint64_t *ids, size_t n,
                        struct slice reason)
{
    reach_end_streams(b, tag, ids, n, reason);
}

void broker_resubscribe_all(struct broker *b)
{
    resubscribe_all(b, RELOAD_RESUBSCRIBE, false);
}

void broker_set_server(struct broker *b, struct http_server *server)
{
    b->server = server;
    refusals_set_server(b->refusals, server);
}

void broker_set_quotas(struct broker *b, struct quota_user *user, struct quota_metrics *metrics,
                       void (*tell)(void *ctx, uint64_t workers), void *ctx)
{
    stream_quotas_set(b->quotas, user, metrics, tell, ctx);
}

void broker_end_displaced(struct broker *b)
{
    stream_quotas_end_displaced(b->quotas);
}

void broker_tail(void *ctx, struct event *const *events, size_t n)
{
    struct broker *b = ctx;
    deadline_disarm(&b->hold_end); /* a commit is what a held delivery waits for */
    struct reach_batch batch = {0};
    if (n == 0) {
        reach_lost_events(b);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t ordinal = eventlog_end(b->log);
        eventlog_append(b->log, events[i]);
        if (b->erased_ahead.n && id_set_has(&b->erased_ahead, events[i]->id)) {
            (void)eventlog_erase(b->log, events[i]->id);
            continue;
        }
        audience_set_route(b->audiences, events[i], ordinal);
        reach_observe(b, events[i], &batch);
    }
    id_set_pass(&b->erased_ahead, eventlog_head(b->log));
    b->metrics->tailed += n;
    b->metrics->head_id = eventlog_head(b->log);
    b->metrics->log_events = eventlog_count(b->log);
    b->metrics->log_bytes = eventlog_bytes(b->log);
}

/* What was visible above leap->after is no longer true. Streams that have seen it get a gap. All
 * others only read on: what they still miss is in the store. */
void broker_leap(void *ctx, const struct store_leap *leap)
{
    struct broker *b = ctx;
    deadline_disarm(&b->hold_end);
    delivery_leap(b, leap); /* before the head moves: a live position is read from it */
    audience_set_forget_pending(b->audiences);
    write_batch_reset(b->batch);
    history_forget(b->history, leap->after);
    presence_renew(b->presence);
    eventlog_restart(b->log, leap->upto);
    b->metrics->head_id = leap->upto;
    b->metrics->log_events = eventlog_count(b->log);
    b->metrics->log_bytes = eventlog_bytes(b->log);
    reach_lost_events(b);
}

void broker_drain(struct broker *b)
{
    b->draining = true;
    subscriber_drain_all(b);
    refusals_end_held(b->refusals);
    broker_end_waits(b);
    presence_drain(b->presence);
}

unsigned broker_stream_count(const struct broker *b)
{
    return (unsigned)b->metrics->subscribers;
}

void broker_each_connection(const struct broker *b,
                            void (*each)(void *ctx, const struct broker_connection *c), void *ctx)
{
    list_for_each (it, &b->subscribers) {
        struct broker_connection c;
        subscriber_describe(subscriber_of_node(it), &c);
        c.asked_again = resubscribe_waits(subscriber_of_node(it));
        each(ctx, &c);
    }
}

void broker_clock_moved(struct broker *b)
{
    list_for_each_safe (it, next, &b->subscribers) {
        subscriber_clock_moved(subscriber_of_node(it));
    }
    for (struct audience *a = audience_set_first(b->audiences); a; a = audience_set_next(a)) {
        struct conflation *c = conflation_of(a);
        if (c) {
            conflation_clock_moved(c);
        }
    }
}

bool broker_resubscribing(const struct broker *b)
{
    return resubscribes_pending(b->resubscribes);
}

bool broker_disconnect(struct broker *b, uint64_t id)
{
    struct subscriber *sub = subscriber_of_stream(b, id);
    if (sub) {
        subscriber_end(sub, CLOSE_ADMIN, 0);
    }
    return sub != NULL;
}

struct slice broker_saved_path(const struct broker_options *opt, const struct saved_request *k,
                               struct http_query *params)
{
    struct slice path = saved_request_path(k);
    int rc = 0;
    if (!path.p) {
        *params = (struct http_query){.params = NULL};
        return slice_str(opt->events_path);
    }
    if (public_route_find(&opt->routes, path, params, &rc) && rc) {
        log_warn("broker", "memory is short: subscribe does not see what the path says", NULL);
    }
    return path;
}
