/* The flush step: what became visible this turn goes to the live members of every audience it is
 * for, one system call each; then those behind get a turn, a bounded number of bytes each, from the
 * event log or from pages of the store. Replay, live delivery and a slow client meet here. */
#include "broker/delivery.h"

#include "audience/audience_set.h"
#include "audience/write_batch.h"
#include "base/container_of.h"
#include "base/prefetch.h"
#include "broker/subscriber_state.h"
#include "history/history.h"

enum {
    CATCH_UP_EVENTS = 8192,        /* examined for one subscriber per turn */
    CATCH_UP_TURN_BYTES = 8 << 20, /* for all who are behind, per turn: live events come first */
    CATCH_UP_US = 2000,            /* the same */
    HOLD_ABOVE_US = 2000,          /* a commit on an ordinary disk */
    HOLD_MOST_MS = 5,
};

/* The first `given` events of the batch are its client's, but for what the socket left of the last. False:
 * that was the end of the stream. */
static bool delivery_goes_on(struct subscriber *sub, const struct write_batch *g, unsigned given)
{
    if (!g->last || given < g->count) {
        return true;
    }
    bool later = sub->state == SUB_BLOCKED;
    sub->b->metrics->ended++;
    if (g->expired_end && !later) {
        subscriber_end_at(sub, CLOSE_ENDED, g->expired_end);
    } else {
        subscriber_finish(sub, CLOSE_ENDED);
    }
    return later;
}

/* What the socket does not take of a compressed batch is kept in full: it is one form for many. */
static bool delivery_send_gzip(struct subscriber *sub, struct write_batch *g)
{
    struct frame *f = subscriber_gzip_batch(sub, g);
    if (!f) {
        subscriber_end(sub, CLOSE_NO_MEMORY, 0);
        return false;
    }
    if (sub->state == SUB_LIVE) { /* its place was implied */
        sub->ordinal = sub->audience->pending_from;
    }
    if (!subscriber_write(sub, f)) {
        return false;
    }
    if (sub->state != SUB_LIVE) {
        subscriber_advance(sub, g->upto, g->passed);
    }
    sub->delivered += g->count;
    sub->told = g->told ? g->told : sub->told;
    sub->b->metrics->delivered += g->count;
    return delivery_goes_on(sub, g, g->count);
}

/* Hands the write batch to one subscriber and moves its cursor over what has left. False: it is gone.
 */
static bool delivery_send_batch(struct subscriber *sub, struct write_batch *g)
{
    struct broker *b = sub->b;
    if (g->failed) {
        subscriber_end(sub, CLOSE_NO_MEMORY, 0);
        return false;
    }
    if (g->bytes == 0) {
        subscriber_advance(sub, g->upto, g->passed);
        return delivery_goes_on(sub, g, 0);
    }
    if (sub->gzip) {
        return delivery_send_gzip(sub, g);
    }
    ssize_t n = stream_write(sub->stream, &g->sealed);
    if (n < 0) {
        subscriber_end(sub, close_reason_of(n), 0);
        return false;
    }
    if ((size_t)n == g->bytes) {
        if (sub->state != SUB_LIVE) { /* live: implied, see subscriber_position() */
            subscriber_advance(sub, g->upto, g->passed);
        }
        sub->delivered += g->count;
        sub->told = g->told ? g->told : sub->told;
        b->metrics->delivered += g->count;
        subscriber_sent(sub);
        return delivery_goes_on(sub, g, g->count);
    }
    if (sub->state == SUB_LIVE) { /* its place was implied, too */
        sub->ordinal = sub->audience->pending_from;
    }
    /* The rest of the event that was cut short is all that is kept; the others stay in the log. */
    size_t offset;
    unsigned index;
    struct frame *f = write_batch_frame_at(g, (size_t)n, &offset, &index);
    int rc = f ? stream_queue(sub->stream, f, offset) : UV_ENOMEM;
    frame_unref(f);
    if (rc) {
        subscriber_end(sub, CLOSE_NO_MEMORY, 0);
        return false;
    }
    subscriber_advance(sub, g->ends[index].id, g->ends[index].passed);
    sub->told = g->ends[index].told ? g->ends[index].told : sub->told;
    sub->delivered += index + 1;
    b->metrics->delivered += index + 1;
    subscriber_set_state(sub, SUB_BLOCKED);
    return delivery_goes_on(sub, g, index + 1);
}

static struct subscriber *delivery_at_place(struct list *place)
{
    return container_of(place, struct subscriber, place);
}

/* Each pointer on the way to a connection is one member earlier than what it leads to. */
static void delivery_prefetch_members(struct list *end, struct list *first)
{
    if (first == end) {
        return;
    }
    stream_prefetch(delivery_at_place(first)->stream);
    struct list *second = first->next;
    if (second == end) {
        return;
    }
    prefetch(delivery_at_place(second)->stream,
             2 * sizeof(struct stream)); /* and what it is part of */
    if (second->next != end) {
        prefetch(delivery_at_place(second->next), sizeof(struct subscriber));
    }
}

/* The batch was handed to the sockets of all live members: once for each of its events. */
static void delivery_time_batch(struct latency *l, const struct write_batch *g)
{
    uint64_t now = uv_hrtime();
    for (unsigned i = 0; i < g->count; i++) {
        if (g->ends[i].since_us) {
            latency_add(l, event_age_us(g->ends[i].since_us, now));
        }
    }
}

static void delivery_live(struct broker *b, struct audience *a)
{
    struct write_batch *g = b->batch;
    struct conflation *c = conflation_of(a);
    if (c && !conflation_due(c)) {
        list_del(&a->dirty);
        return;
    }
    struct event_list events = a->pending;
    uint64_t ordinal = a->pending_from;
    bool judged = a->judged, sent = list_empty(&a->live);
    a->pending = (struct event_list){0};
    list_del(&a->dirty);
    for (size_t i = 0; i < events.n && !list_empty(&a->live);) {
        write_batch_begin(g, a->id, &a->binding, events.v[i]->id - 1);
        a->pending_from = ordinal + i; /* or later: not all events are for this audience */
        while (i < events.n && !write_batch_full(g)) {
            write_batch_add(g, events.v[i++], judged);
        }
        write_batch_seal(g);
        if (g->bytes || g->failed || g->last) {
            sent = true;
            list_for_each_safe (it, next, &a->live) {
                delivery_prefetch_members(&a->live, next);
                delivery_send_batch(delivery_at_place(it), g);
            }
            delivery_time_batch(&b->metrics->publish_to_socket, g);
        }
    }
    list_for_each_safe (it, next, &a->parked) {
        struct subscriber *sub = delivery_at_place(it);
        uint64_t at = events.n ? events.v[0]->id - 1 : eventlog_head(b->log);
        sub->ordinal = ordinal;
        subscriber_advance(sub, c && sub->cursor > at ? sub->cursor : at, 0);
        subscriber_set_state(sub, SUB_RUNNABLE);
    }
    event_list_clear(&events);
    if (c) {
        conflation_sent(c, sent, eventlog_head(b->log), eventlog_end(b->log));
    }
}

/* ---------------------------------------------------------------- those behind */

static bool delivery_is_behind_end(const struct subscriber_end_place *end, uint64_t id,
                                   int64_t time_ms)
{
    return end && (id > end->until || time_ms > end->until_ms);
}

/* Is the event behind the end of the stream? Then the batch covers what is before it. */
static bool delivery_is_over(struct subscriber_end_place *end, uint64_t id, int64_t time_ms,
                             struct write_batch *g)
{
    if (!delivery_is_behind_end(end, id, time_ms)) {
        return false;
    }
    end->until = end->until < id ? end->until : id - 1;
    g->upto = end->until;
    return true;
}

/* Everything up to `upto` has been considered, but of a stream that has an end only what is before it. */
static void delivery_all_considered(const struct subscriber_end_place *end, uint64_t upto,
                                    struct write_batch *g)
{
    g->upto = end && end->until < upto ? end->until : upto;
}

/* The id up to which it is to read now. Where it has an end it does not wait for intervals. */
static uint64_t delivery_head(const struct subscriber *sub)
{
    uint64_t head = eventlog_head(sub->b->log);
    return sub->finite ? head : conflation_head(sub->audience, head);
}

/* Of an audience with intervals: which of the events of the log from `at` on are replaced by others of them.
 * conflater_skips() says so by their place. */
static void delivery_conflate_log(const struct subscriber *sub, uint64_t at, uint64_t end)
{
    const struct eventlog *log = sub->b->log;
    const struct subscriber_end_place *stop = subscriber_end_place_of(sub);
    struct conflater *c = sub->b->audiences->conflater;
    conflater_begin(c);
    for (unsigned n = 0; at < end && n < CATCH_UP_EVENTS; n++, at++) {
        struct event *ev = eventlog_at(log, at);
        if (delivery_is_behind_end(stop, eventlog_id_at(log, at), ev ? ev->time_ms : 0)) {
            break;
        }
        conflater_add(c, ev && audience_wants(sub->audience, event_topic(ev)) ? ev : NULL);
    }
    conflater_decide(c, sub->audience);
}

/* Fills the write batch from the event log. */
static void delivery_take_from_log(struct subscriber *sub, struct write_batch *g, unsigned most)
{
    struct broker *b = sub->b;
    struct subscriber_end_place *stop = subscriber_end_place_of(sub);
    struct conflater *conflater = sub->audience->every_ms ? b->audiences->conflater : NULL;
    uint64_t upto = delivery_head(sub);
    uint64_t at = eventlog_index_after(b->log, sub->cursor);
    uint64_t end = conflater ? eventlog_index_after(b->log, upto) : eventlog_end(b->log);
    if (conflater) {
        delivery_conflate_log(sub, at, end);
    }
    for (unsigned n = 0; at < end && n < CATCH_UP_EVENTS && g->count < most; n++, at++) {
        struct event *ev = eventlog_at(b->log, at);
        uint64_t id = eventlog_id_at(b->log, at);
        if (write_batch_full(g) || delivery_is_over(stop, id, ev ? ev->time_ms : 0, g)) {
            return;
        }
        bool replaced = conflater && conflater_skips(conflater, n);
        if (ev && !replaced && audience_wants(sub->audience, event_topic(ev))) {
            write_batch_add(g, ev, false);
        } else { /* of others, or erased */
            write_batch_pass(g, id);
        }
    }
    if (at == end) {
        delivery_all_considered(stop, upto, g);
    }
}

/* The first event of the page behind that id. */
static size_t delivery_place_in_page(const struct page *p, uint64_t id)
{
    size_t lo = 0;
    size_t hi = p->events.n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->events.v[mid]->id <= id) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* As delivery_conflate_log(). */
static void delivery_conflate_page(const struct subscriber *sub, const struct page *p, size_t at,
                                   size_t end)
{
    const struct subscriber_end_place *stop = subscriber_end_place_of(sub);
    struct conflater *c = sub->b->audiences->conflater;
    conflater_begin(c);
    for (; at < end; at++) {
        struct event *ev = p->events.v[at];
        if (delivery_is_behind_end(stop, ev->id, ev->time_ms)) {
            break;
        }
        conflater_add(c, audience_wants(sub->audience, event_topic(ev)) ? ev : NULL);
    }
    conflater_decide(c, sub->audience);
}

static void delivery_take_from_page(struct subscriber *sub, struct write_batch *g,
                                    const struct page *p, unsigned most)
{
    struct subscriber_end_place *stop = subscriber_end_place_of(sub);
    struct conflater *conflater =
        sub->audience->every_ms && !p->snapshot ? sub->b->audiences->conflater : NULL;
    size_t lo = delivery_place_in_page(p, sub->cursor), from = lo, end = p->events.n;
    uint64_t upto = p->upto;
    if (conflater) {
        uint64_t head = delivery_head(sub);
        end = delivery_place_in_page(p, head);
        upto = upto < head ? upto : head;
        delivery_conflate_page(sub, p, lo, end);
    }
    for (; lo < end && g->count < most && !write_batch_full(g); lo++) {
        struct event *ev = p->events.v[lo];
        if (delivery_is_over(stop, ev->id, ev->time_ms, g)) {
            return;
        }
        bool replaced = conflater && conflater_skips(conflater, lo - from);
        if (!replaced && audience_wants(sub->audience, event_topic(ev))) {
            write_batch_add(g, ev, false);
        } else {
            write_batch_pass(g, ev->id);
        }
    }
    if (lo == end) {
        delivery_all_considered(stop, upto, g);
    }
}

/* The same of its snapshot, the newest of its topics. */
static bool delivery_next_of_snapshot(struct subscriber *sub, struct write_batch *g,
                                      uint64_t snapshot, unsigned most)
{
    struct broker *b = sub->b;
    struct slice topics = sub->audience->run;
    const struct page *p = history_page(b->history, snapshot, sub->cursor, topics);
    if (!p) {
        subscriber_set_state(sub, SUB_PAGING);
        history_request(b->history, snapshot, sub->cursor, topics, &sub->place);
        return false;
    }
    write_batch_begin(g, sub->audience->id, &sub->audience->binding, sub->cursor);
    g->snapshot = snapshot;
    delivery_take_from_page(sub, g, p, most);
    write_batch_seal(g);
    return true;
}

/* Makes the write batch that comes next for `sub`; false when there is none to send now. */
static bool delivery_next_batch(struct subscriber *sub, struct write_batch *g, uint64_t snapshot)
{
    struct broker *b = sub->b;
    unsigned most = subscriber_allowance(sub);
    if (most == 0) {
        subscriber_wait_for_pace(sub);
        return false;
    }
    const struct subscriber_end_place *stop = subscriber_end_place_of(sub);
    bool same = g->audience == sub->audience->id && g->from == sub->cursor && g->upto > g->from &&
                g->snapshot == snapshot;
    if (stop) {
        most = stop->left < most ? (unsigned)stop->left : most;
        same = same && g->upto <= stop->until && stop->until_ms == INT64_MAX;
    }
    if (same && g->count <= most && !g->failed) {
        return true; /* made for another member that stands at the same place */
    }
    if (snapshot) {
        return delivery_next_of_snapshot(sub, g, snapshot, most);
    }
    if (sub->cursor >= eventlog_floor(b->log)) {
        write_batch_begin(g, sub->audience->id, &sub->audience->binding, sub->cursor);
        delivery_take_from_log(sub, g, most);
    } else {
        /* a lag rule counts events, so its streams read all of them */
        struct slice names = sub->max_lag ? slice_of(NULL, 0)
                                          : history_names(b->history, sub->audience, sub->cursor);
        const struct page *p = history_page(b->history, 0, sub->cursor, names);
        if (!p) {
            subscriber_set_state(sub, SUB_PAGING);
            history_request(b->history, 0, sub->cursor, names, &sub->place);
            return false;
        }
        if (sub->cursor < p->trimmed) {
            if (sub->earliest || sub->no_gap) {
                sub->cursor = p->trimmed;
            } else if (!subscriber_compact(sub, false)) {
                subscriber_note_gap(sub, p->trimmed, false, false);
                subscriber_send_gap(sub, "expired", p->trimmed);
            }
            return false;
        }
        write_batch_begin(g, sub->audience->id, &sub->audience->binding, sub->cursor);
        delivery_take_from_page(sub, g, p, most);
    }
    write_batch_seal(g);
    return true;
}

/* True: it had come to its end, and is gone. */
static bool delivery_finish_part(struct subscriber *sub)
{
    const char *why = sub->finite ? subscriber_at_end(sub) : NULL;
    if (why) {
        subscriber_finish_part(sub, why);
    }
    return why != NULL;
}

static void delivery_catch_up(struct subscriber *sub)
{
    struct broker *b = sub->b;
    struct write_batch *g = b->batch;
    if (sub->finish) {
        subscriber_end(sub, sub->finish, 0);
        return;
    }
    subscriber_set_state(sub,
                         SUB_RUNNABLE); /* to the end of the queue, unless it turns out otherwise */
    if (sub->reset_to) {
        uint64_t to = sub->reset_to;
        sub->reset_to = 0;
        subscriber_send_gap(sub, "reset", to);
        return;
    }
    if (subscriber_apply_lag_rule(sub)) {
        return;
    }
    if (delivery_finish_part(sub)) {
        return;
    }
    if (sub->audience->unbound || sub->barred) {
        subscriber_set_state(sub, SUB_HELD);
        return;
    }
    uint64_t snapshot = sub->latest ? subscriber_snapshot(sub) : 0;
    if (snapshot && sub->cursor >= snapshot) {
        subscriber_snapshot_end(sub);
        return;
    }
    uint64_t head = snapshot ? eventlog_head(b->log) : delivery_head(sub);
    if (sub->cursor < head) {
        if (!delivery_next_batch(sub, g, snapshot)) {
            return;
        }
        uint64_t before = sub->delivered;
        sub->earliest = false;
        if (!delivery_send_batch(sub, g)) {
            return;
        }
        subscriber_spend(sub, (unsigned)(sub->delivered - before)); /* not what the socket left */
        if (sub->finite) {
            struct subscriber_end_place *end = subscriber_end_place_of(sub);
            end->left -= end->left == UINT64_MAX ? 0 : sub->delivered - before;
        }
        if (sub->state != SUB_RUNNABLE || delivery_finish_part(sub)) {
            return;
        }
    }
    if (!snapshot && sub->cursor >= head) { /* beyond: it waits for the end of the interval */
        bool parked = sub->pace || sub->finite || (sub->audience->every_ms && sub->cursor > head);
        subscriber_set_state(sub, parked ? SUB_PARKED : SUB_LIVE);
    }
}

static void delivery_on_hold_end(struct deadline *d)
{
    (void)d; /* disarmed: the flush step that follows delivers */
}

/* When handing an event to everybody costs more than the next commit will, the events of that
 * commit can leave in the same system calls: under load that halves the work. A delivery is held
 * back once, until the commit under way is heard of, and no longer than the deadline (with the
 * slack of deadlines, some 30 ms where a disk stalls); at light load nothing is ever held. */
static bool delivery_hold(struct broker *b)
{
    if (b->holding || b->appends == 0 || b->live_cost_us < HOLD_ABOVE_US) {
        bool still = b->holding && list_linked(&b->hold_end.node);
        b->holding = still;
        return still;
    }
    b->holding = true;
    deadline_arm(loop_deadline_class(b->loop, HOLD_MOST_MS, delivery_on_hold_end), &b->hold_end);
    return true;
}

static void delivery_all_live(struct broker *b)
{
    uint64_t from = uv_hrtime();
    while (!list_empty(&b->audiences->dirty)) {
        struct audience *a = audience_ref(list_first(&b->audiences->dirty, struct audience, dirty));
        delivery_live(b, a);
        audience_set_unref(b->audiences, a);
    }
    b->live_cost_us = (uv_hrtime() - from) / 1000;
}

bool delivery_flush(struct broker *b)
{
    if (b->gzip) {
        gzip_pool_turn(b->gzip);
    }
    if (conflater_first(b->audiences->conflater)) {
        conflater_log_trimmed(b->audiences->conflater, eventlog_floor(b->log));
    }
    if (!list_empty(&b->audiences->dirty)) {
        if (delivery_hold(b)) {
            return false; /* the commit, or the deadline, wakes the loop */
        }
        delivery_all_live(b);
    } else if (list_empty(&b->runnable)) {
        return false;
    }
    struct list turn;
    size_t bytes = 0;
    uint64_t from = uv_hrtime();
    list_init(&turn);
    list_splice_tail(&turn, &b->runnable);
    while (!list_empty(&turn) && bytes < CATCH_UP_TURN_BYTES &&
           uv_hrtime() - from < CATCH_UP_US * UINT64_C(1000)) {
        delivery_catch_up(list_first(&turn, struct subscriber, place));
        bytes += b->batch->bytes;
    }
    /* who had no turn comes first in the next */
    list_splice_tail(&turn, &b->runnable);
    list_splice_tail(&b->runnable, &turn);
    write_batch_reset(b->batch);
    render_forget(b->renderer);
    return !list_empty(&b->runnable);
}

void delivery_leap(struct broker *b, const struct store_leap *leap)
{
    struct store_bounds bounds = b->store->ops->bounds(b->store);
    const struct store_leap *last = bounds.leap_count ? &bounds.leaps[bounds.leap_count - 1] : NULL;
    /* no event has such an id; else rows were removed, or belong to another state of the store */
    bool empty = last && last->upto == leap->upto && last->after <= leap->after &&
                 bounds.trimmed <= leap->after && !bounds.leap_has_rows;
    list_for_each (it, &b->subscribers) {
        struct subscriber *sub = subscriber_of_node(it);
        uint64_t at = subscriber_position(sub);
        if (sub->state == SUB_STARTING) {
            continue; /* begin() looks at the leaps */
        }
        if (empty && at == leap->after && sub->state == SUB_LIVE) {
            continue; /* has missed nothing, and is where the head will be: no need to read */
        }
        bool lost = at > leap->after && at < leap->upto; /* the event at its place */
        if (sub->latest && subscriber_snapshot(sub) > leap->after) {
            subscriber_snapshot_drop(sub); /* some of it may be of events that are lost */
            sub->reset_to = leap->upto;
        } else if (lost && sub->told > leap->after) {
            sub->reset_to = leap->upto;
        } else if (lost) { /* nothing of that was for it */
            sub->cursor = at = empty ? leap->upto : leap->after;
        }
        if (sub->state == SUB_LIVE || sub->state == SUB_PARKED) {
            sub->cursor = at;
            sub->ordinal = eventlog_end(b->log);
            subscriber_set_state(sub, SUB_RUNNABLE);
        }
    }
}

void delivery_erase(struct broker *b, const uint64_t *ids, size_t n)
{
    struct conflation *c = conflater_first(b->audiences->conflater);
    while (c) {
        struct conflation *next = conflater_next(c);
        bool has = c->first_id <= eventlog_floor(b->log);
        for (size_t i = 0; i < n && !has; i++) {
            has = conflation_has(c, ids[i]);
        }
        if (has) { /* what it had taken the place of is in the log */
            subscriber_unlive_all(&c->audience);
            conflation_drop(c);
        }
        c = next;
    }
}

bool delivery_ended(const struct subscriber *sub, struct event *ev)
{
    const struct audience *a = sub->audience;
    const struct render_order order = {
        .mode = RENDER_DRY_RUN, .binding = &a->binding, .event = ev, .expired_too = true};
    struct rendering what;
    return !a->unbound && a->binding.ends >= 0 && audience_wants(a, event_topic(ev)) &&
           render(sub->b->renderer, &order, &what) == RENDER_EVENT && what.ends;
}

void delivery_page_ready(struct list *waiter)
{
    struct subscriber *sub = delivery_at_place(waiter);
    subscriber_set_state(sub, SUB_RUNNABLE);
}
