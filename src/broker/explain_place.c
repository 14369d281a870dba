/* Where an event is, seen from a stream: see explain.h. */
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

void explain_locate(const struct subscriber *sub, uint64_t id, struct explanation *x)
{
    uint64_t at = subscriber_position(sub);
    const struct subscriber_gap *gap = explain_gap_over(sub->gaps, id);
    x->reason = EXPLAIN_NONE;
    if (id == 0) {
        x->place = EXPLAIN_NOT_STORED;
        SAY(x, "it is not stored: it was judged as it was given, without the publish hook");
    } else if (sub->state == SUB_STARTING) {
        x->place = EXPLAIN_AHEAD;
        SAY(x, "the stream has not begun: %s", explain_delay(sub));
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
