/* Where an event is, seen from a stream: see explain.h. */
#include "audience/audience_set.h"
#include "broker/explain.h"
#include "broker/subscriber_state.h"

#include <inttypes.h>
#include <stdio.h>

#define SAY(x, ...) snprintf((x)->text, sizeof(x)->text, __VA_ARGS__)

/* Why one that is not at the head has not come further. */
static const char *explain_delay(const struct subscriber *sub)
{
    switch (sub->state) {
    case SUB_STARTING:
        return "it waits for the store to say where it begins";
    case SUB_BLOCKED:
        return "its client does not read fast enough";
    case SUB_PAGING:
        return "it waits for a page of history from the store";
    case SUB_PACED:
        return "it may have no more events_per_s for now";
    case SUB_HELD:
        return "it gets nothing until the policy was asked about it again";
    case SUB_LIVE:
    case SUB_PARKED:
        if (sub->audience->every_ms) {
            return "it is sent at the end of the interval (limits.every_s)";
        }
        break;
    case SUB_RUNNABLE:
        break;
    }
    return "it is about to go on";
}

static void explain_before_start(const struct subscriber *sub, uint64_t id, struct explanation *x)
{
    x->place = EXPLAIN_BEFORE_START;
    if (id <= sub->asked_after) {
        x->reason = EXPLAIN_BEFORE_CONNECT;
        SAY(x,
            "the stream began at %" PRIu64 ": its client asked for nothing older, or not by an "
            "id that this store knows",
            sub->start);
    } else if (sub->no_replay) {
        x->reason = EXPLAIN_NO_REPLAY;
        SAY(x,
            "the stream began at %" PRIu64 ": the client asked for older ones, and the policy "
            "grants it no replay",
            sub->start);
    } else {
        x->reason = EXPLAIN_EXPIRED;
        SAY(x,
            "the stream began at %" PRIu64 ": the client asked for older ones, beyond retention "
            "or the replay that the policy grants it",
            sub->start);
    }
}

static void explain_skipped(const struct subscriber_gap *g, struct explanation *x)
{
    x->place = EXPLAIN_SKIPPED;
    x->reason = g->lagged ? EXPLAIN_LAG_SKIPPED : EXPLAIN_EXPIRED;
    if (g->lagged) {
        SAY(x,
            "the stream was too far behind and went on from %" PRIu64 " at %" PRIu64
            "; its client was told of the gap",
            g->after, g->upto);
    } else {
        SAY(x,
            "retention had removed what came behind %" PRIu64 ", so the stream went on at %" PRIu64
            "; its client was told of the gap",
            g->after, g->upto);
    }
}

static const struct subscriber_gap *explain_gap_over(const struct subscriber_gaps *gaps,
                                                     uint64_t id)
{
    for (unsigned i = 0; gaps && i < gaps->n; i++) {
        if (gaps->v[i].after < id && id <= gaps->v[i].upto) {
            return &gaps->v[i];
        }
    }
    return NULL;
}

uint64_t explain_snapshot(const struct subscriber *sub, uint64_t id)
{
    const struct subscriber_gap *gap = explain_gap_over(sub->gaps, id);
    if (gap) {
        return gap->compacted ? gap->upto : 0;
    }
    uint64_t first = sub->latest ? subscriber_snapshot_first(sub) : 0;
    return id <= first ? first : 0;
}

/* The event of the same topic that follows `ev`, up to `upto`, as far as memory has them; 0: there is none.
 * `known`: memory has all of them. */
static uint64_t explain_next_of_topic(const struct eventlog *log, const struct event *ev,
                                      uint64_t upto, bool *known)
{
    uint64_t end = eventlog_index_after(log, upto);
    *known = ev->id >= eventlog_floor(log);
    for (uint64_t at = eventlog_index_after(log, ev->id); at < end; at++) {
        const struct event *next = eventlog_at(log, at);
        if (next && slice_eq(event_topic(next), event_topic(ev))) {
            return next->id;
        }
    }
    return 0;
}

static void explain_superseded(struct explanation *x)
{
    x->place = EXPLAIN_SKIPPED;
    x->reason = EXPLAIN_SUPERSEDED;
}

/* It was sent the newest event of each topic up to `upto`, and this one is not the newest (any more). */
static void explain_not_newest(const struct subscriber *sub, uint64_t upto, struct explanation *x)
{
    bool known = false;
    const struct event *ev = x->event;
    uint64_t next = ev ? explain_next_of_topic(sub->b->log, ev, upto, &known) : 0;
    if (next) {
        explain_superseded(x);
        SAY(x,
            "the stream was sent the newest events up to %" PRIu64 ", and %" PRIu64
            " is a newer one of this topic",
            upto, next);
    } else if (ev && event_data(ev).n == 0) {
        explain_superseded(x);
        SAY(x,
            "the stream was sent the newest events up to %" PRIu64
            ", and this one, whose data is empty, had removed its topic",
            upto);
    } else if (x->event_id > subscriber_position(sub)) {
        explain_superseded(x);
        SAY(x,
            "the stream is being sent the newest events up to %" PRIu64
            ", and a newer one of this topic is there by now, or store.latest does not name it",
            upto);
    } else {
        x->place = EXPLAIN_PASSED_BEFORE;
        SAY(x,
            "the stream was sent the newest events up to %" PRIu64
            "; this one is not the newest of its topic any more, and %s",
            upto,
            known ? "may have been replaced while they were sent; or store.latest does not name it"
                  : "whether it was the newest then is not known");
    }
}

static void explain_in_snapshot(const struct subscriber *sub, uint64_t upto, bool newest,
                                struct explanation *x)
{
    uint64_t at = subscriber_position(sub);
    if (!newest) {
        explain_not_newest(sub, upto, x);
    } else if (x->event_id > at) {
        x->place = EXPLAIN_AHEAD;
        SAY(x, "the stream is at %" PRIu64 " of the newest events up to %" PRIu64 ": %s", at, upto,
            explain_delay(sub));
    } else {
        x->place = x->event_id <= sub->ruled_from ? EXPLAIN_PASSED_BEFORE : EXPLAIN_PASSED;
        SAY(x,
            "the stream was sent the newest events up to %" PRIu64
            ", and this is that of its topic%s",
            upto,
            x->place == EXPLAIN_PASSED
                ? ""
                : "; that was under an earlier policy or grant: this is what those in force say");
    }
}

void explain_locate(const struct subscriber *sub, bool newest, struct explanation *x)
{
    uint64_t id = x->event_id, upto = explain_snapshot(sub, id);
    uint64_t at = subscriber_position(sub);
    const struct subscriber_gap *gap = explain_gap_over(sub->gaps, id);
    x->reason = EXPLAIN_NONE;
    if (id == 0) {
        x->place = EXPLAIN_NOT_STORED;
        SAY(x, "it is not stored: it was judged as it was given, without the publish hook");
    } else if (sub->state == SUB_STARTING) {
        x->place = EXPLAIN_AHEAD;
        SAY(x, "the stream has not begun: %s", explain_delay(sub));
    } else if (upto) {
        explain_in_snapshot(sub, upto, newest, x);
    } else if (gap) {
        explain_skipped(gap, x);
    } else if (id <= sub->start) {
        explain_before_start(sub, id, x);
    } else if (id > at) {
        x->place = EXPLAIN_AHEAD;
        SAY(x, "the stream is at %" PRIu64 " and has not come to it: %s", at, explain_delay(sub));
    } else if (sub->gaps && id <= sub->gaps->forgotten) {
        x->place = EXPLAIN_PASSED_BEFORE;
        SAY(x, "the stream is at %" PRIu64 "; it had so many gaps that the oldest are forgotten",
            at);
    } else if (id <= sub->ruled_from) {
        x->place = EXPLAIN_PASSED_BEFORE;
        SAY(x,
            "the stream is at %" PRIu64 " and passed it under an earlier policy or grant; this "
            "is what those in force say",
            at);
    } else {
        x->place = EXPLAIN_PASSED;
        SAY(x, "the stream has passed it and is at %" PRIu64, at);
    }
}

/* ---------------------------------------------------------------- limits.every_s */

enum { REPLACED_LOOK_MAX = 100000 }; /* events of the log */

/* Is the audience given that event? Without any effect. */
static bool explain_is_given(const struct subscriber *sub, struct event *ev)
{
    struct rendering what;
    const struct render_order order = {
        .mode = RENDER_DRY_RUN, .binding = &sub->audience->binding, .event = ev};
    return render(sub->b->renderer, &order, &what) == RENDER_EVENT;
}

/* The one of the same interval that it was sent instead; NULL: none, as far as is known. */
static const struct event *explain_successor(const struct subscriber *sub, const struct event *ev)
{
    const struct conflation *c = conflation_of(sub->audience);
    const struct eventlog *log = sub->b->log;
    int64_t every = sub->audience->every_ms;
    bool ahead = ev->id > subscriber_position(sub); /* being collected: all of it is in the log */
    uint64_t edge = ahead ? eventlog_head(log) : conflation_edge_of(c, ev->id);
    uint64_t upto = edge ? edge : subscriber_position(sub);
    uint64_t at = eventlog_index_after(log, upto);
    uint64_t from = eventlog_index_after(log, ev->id);
    for (unsigned n = 0; at-- > from && n < REPLACED_LOOK_MAX; n++) {
        struct event *newer = eventlog_at(log, at);
        bool same = newer && slice_eq(event_topic(newer), event_topic(ev)) &&
                    conflation_lasts(newer, ev) &&
                    (edge || newer->time_ms / every == ev->time_ms / every);
        if (same && explain_is_given(sub, newer)) {
            return newer;
        }
    }
    return NULL;
}

void explain_replace(const struct subscriber *sub, struct explanation *x)
{
    bool asks = x->place == EXPLAIN_PASSED || x->place == EXPLAIN_PASSED_BEFORE ||
                (x->place == EXPLAIN_AHEAD && !subscriber_is_behind(sub->state));
    const struct event *by = asks && sub->audience->every_ms && sub->state != SUB_STARTING
                                 ? explain_successor(sub, x->event)
                                 : NULL;
    if (!by) {
        return;
    }
    x->place = EXPLAIN_SKIPPED;
    x->reason = EXPLAIN_SUPERSEDED;
    SAY(x,
        "event %" PRIu64
        " of the same topic took its place: of each interval the stream is sent the "
        "newest event of a topic (limits.every_s)",
        by->id);
}
