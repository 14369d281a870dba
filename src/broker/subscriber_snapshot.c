/* Streams that are sent a snapshot: the newest event of each of their topics, by id, up to an id that
 * was the head when they began; then `live`; then the log from there on.
 *
 * Nothing lies between the two. A page of the snapshot is what the store keeps when it is read. An
 * event that is not in it any more has made room for one above that id, which comes from the log. Ids
 * rise, so a client that is cut off resumes behind the last one it saw, like any other: each topic
 * whose newest event it has not seen has it behind that. */
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/require.h"
#include "broker/subscriber_state.h"
#include "event/sse_frame.h"
#include "history/history.h"

#include <inttypes.h>
#include <stdlib.h>

struct subscriber_snapshot {
    struct subscriber_part part;
    uint64_t upto;    /* of the one it is being sent; 0: none */
    uint64_t ordinal; /* in the log, of the place behind `upto` */
    uint64_t first;   /* of the one it began with; 0: none */
    uint64_t excused; /* up to there being behind is no lag; 0: not known yet */
    bool compacts;    /* also where retention took what it has yet to see */
    bool on_lag;      /* also where it is too far behind */
};

static void subscriber_snapshot_gone(struct subscriber *sub, struct subscriber_part *part)
{
    subscriber_part_remove(sub, part);
    sub->latest = false;
    free(container_of(part, struct subscriber_snapshot, part));
}

static struct subscriber_snapshot *subscriber_snapshot_of(const struct subscriber *sub)
{
    struct subscriber_part *part =
        sub->latest ? subscriber_part_of(sub, subscriber_snapshot_gone) : NULL;
    return part ? container_of(part, struct subscriber_snapshot, part) : NULL;
}

void subscriber_set_latest(struct subscriber *sub, const struct subscription *s)
{
    struct subscriber_snapshot *t = subscriber_snapshot_of(sub);
    bool compacts = s->start == GRANT_LATEST, on_lag = s->on_lag == ON_LAG_LATEST;
    if (!t && (compacts || on_lag)) {
        t = xcalloc(1, sizeof *t);
        t->part.gone = subscriber_snapshot_gone;
        subscriber_part_add(sub, &t->part);
        sub->latest = true;
    }
    if (t) {
        t->compacts = compacts;
        t->on_lag = on_lag;
    }
}

uint64_t subscriber_snapshot(const struct subscriber *sub)
{
    const struct subscriber_snapshot *t = subscriber_snapshot_of(sub);
    return t ? t->upto : 0;
}

uint64_t subscriber_snapshot_first(const struct subscriber *sub)
{
    const struct subscriber_snapshot *t = subscriber_snapshot_of(sub);
    return t ? t->first : 0;
}

void subscriber_snapshot_begin(struct subscriber *sub)
{
    struct subscriber_snapshot *t = subscriber_snapshot_of(sub);
    REQUIRE(t != NULL);
    t->upto = history_snapshot(sub->b->history, sub->cursor);
    t->ordinal = eventlog_index_after(sub->b->log, t->upto);
    t->first = sub->state == SUB_STARTING ? t->upto : t->first;
    sub->ordinal = t->ordinal; /* what it is behind: the snapshot itself does not count */
    sub->b->metrics->snapshots++;
}

void subscriber_snapshot_drop(struct subscriber *sub)
{
    struct subscriber_snapshot *t = subscriber_snapshot_of(sub);
    if (t) {
        t->upto = 0;
    }
}

bool subscriber_snapshot_end(struct subscriber *sub)
{
    struct subscriber_snapshot *t = subscriber_snapshot_of(sub);
    struct position_text text;
    struct sse_fields f = {.mark = sub->audience->mark};
    REQUIRE(t != NULL);
    position_fields(sub->b->opt.live_event, PRIME_EVENT, t->upto, &text, &f);
    struct frame *live = sse_frame(&f);
    if (!live) {
        subscriber_end(sub, CLOSE_NO_MEMORY, 0);
        return false;
    }
    sub->cursor = sub->told = t->upto;
    sub->ordinal = t->ordinal;
    t->upto = 0;
    bool alive = subscriber_send_frame(sub, live);
    frame_unref(live);
    return alive;
}

void subscriber_excuse(struct subscriber *sub)
{
    struct subscriber_snapshot *t = subscriber_snapshot_of(sub);
    if (t) {
        t->excused = 0;
    }
}

bool subscriber_is_excused(struct subscriber *sub)
{
    struct subscriber_snapshot *t = subscriber_snapshot_of(sub);
    if (!t || !t->on_lag) {
        return !sub->caught_up;
    }
    if (!sub->caught_up && t->excused == 0) {
        t->excused = eventlog_head(sub->b->log);
    }
    sub->caught_up = sub->caught_up || sub->cursor >= t->excused;
    return !sub->caught_up;
}

bool subscriber_compact(struct subscriber *sub, bool lagged)
{
    const struct subscriber_snapshot *t = subscriber_snapshot_of(sub);
    if (!t || t->upto || sub->finite || !(lagged ? t->on_lag : t->compacts) ||
        !sub->b->opt.latest) {
        return false;
    }
    sub->b->metrics->lag_skips += lagged;
    subscriber_note_gap(sub, sub->cursor, lagged, true);
    subscriber_snapshot_begin(sub);
    sub->gaps->v[sub->gaps->n - 1].upto = t->upto;
    subscriber_send_gap(sub, "compacted", sub->cursor);
    return true;
}
