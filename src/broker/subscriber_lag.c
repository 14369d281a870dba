/* How far one stream is behind, and what it misses: its lag, the lag rule (max_lag, on_lag), and gaps. */
#include "base/alloc.h"
#include "base/text/json_text.h"
#include "broker/subscriber_state.h"
#include "event/sse_frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { GAP_MAX_BYTES = 8192 };

uint64_t subscriber_lag(const struct subscriber *sub)
{
    const struct eventlog *log = sub->b->log;
    const struct conflation *c = conflation_of(sub->audience);
    uint64_t end = c && c->open ? c->edge_ordinal : eventlog_end(log); /* what it may have now */
    bool snapshot = sub->latest && subscriber_snapshot(sub);
    if (!snapshot && (!subscriber_is_behind(sub->state) || sub->cursor >= eventlog_floor(log))) {
        uint64_t at = eventlog_index_after(log, subscriber_position(sub));
        return at < end ? end - at : 0;
    }
    return sub->ordinal < end ? end - sub->ordinal : 0;
}

struct frame *subscriber_gap_frame(const struct subscriber *sub, const char *reason,
                                   struct slice requested, uint64_t resumed_from)
{
    struct broker *b = sub->b;
    struct strbuf data;
    strbuf_init(&data, GAP_MAX_BYTES);
    int rc = strbuf_printf(&data, "{\"reason\":\"%s\",\"requested\":", reason);
    rc = rc ? rc : json_text_quote(&data, requested);
    rc = rc ? rc : strbuf_printf(&data, ",\"resumed_from\":\"%" PRIu64 "\"}", resumed_from);
    struct frame *frame = NULL;
    if (rc == 0) {
        struct sse_fields f = {.id = resumed_from,
                               .mark = sub->audience->mark,
                               .event = slice_str(b->opt.gap_event),
                               .data = strbuf_slice(&data)};
        frame = sse_frame(&f);
        b->metrics->gaps++;
    }
    strbuf_clear(&data);
    return frame;
}

void subscriber_note_gap(struct subscriber *sub, uint64_t upto, bool lagged, bool compacted)
{
    struct subscriber_gaps *g = sub->gaps;
    if (!g) {
        g = sub->gaps = xcalloc(1, sizeof *g);
    } else if (g->n == SUBSCRIBER_GAPS_MAX) {
        g->forgotten = g->v[0].upto;
        g->n--;
        memmove(g->v, g->v + 1, g->n * sizeof *g->v);
    }
    g->v[g->n++] = (struct subscriber_gap){sub->cursor, upto, lagged, compacted};
}

/* Moves the cursor over `passed` events to `id`. Its place in the log is kept too: once the log has
 * gone on, that is all that says how far behind it is. */
void subscriber_advance(struct subscriber *sub, uint64_t id, unsigned passed)
{
    const struct eventlog *log = sub->b->log;
    sub->cursor = id;
    if (sub->latest && subscriber_snapshot(sub)) {
        return; /* its place in the log is where the snapshot ends */
    }
    sub->ordinal =
        id >= eventlog_floor(log) ? eventlog_index_after(log, id) : sub->ordinal + passed;
}

bool subscriber_send_gap(struct subscriber *sub, const char *reason, uint64_t resumed_from)
{
    char requested[EVENT_ID_TEXT_MAX];
    int n = snprintf(requested, sizeof requested, "%" PRIu64, sub->cursor);
    struct frame *f =
        subscriber_gap_frame(sub, reason, slice_of(requested, (size_t)n), resumed_from);
    if (!f) {
        subscriber_end(sub, CLOSE_NO_MEMORY, 0);
        return false;
    }
    subscriber_advance(sub, resumed_from, 0);
    sub->told = resumed_from;
    bool alive = subscriber_send_frame(sub, f);
    frame_unref(f);
    return alive;
}

bool subscriber_apply_lag_rule(struct subscriber *sub)
{
    struct broker *b = sub->b;
    if (!sub->max_lag || subscriber_is_excused(sub) || (sub->latest && subscriber_snapshot(sub)) ||
        subscriber_lag(sub) <= sub->max_lag) {
        return false;
    }
    if (subscriber_compact(sub, true)) {
        return true;
    }
    if (sub->close_on_lag) {
        subscriber_end(sub, CLOSE_LAGGED, sub->retry_ms);
        return true;
    }
    b->metrics->lag_skips++;
    subscriber_note_gap(sub, eventlog_head(b->log), true, false);
    subscriber_send_gap(sub, "lagged", eventlog_head(b->log));
    return true;
}

void subscriber_lag_sweep(struct broker *b)
{
    if (b->lag_rules == 0) {
        return;
    }
    list_for_each_safe (it, next, &b->subscribers) {
        struct subscriber *sub = subscriber_of_node(it);
        if (sub->state == SUB_BLOCKED && sub->close_on_lag) {
            subscriber_apply_lag_rule(sub);
        }
    }
}
