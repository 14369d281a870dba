/* Moves what applications have committed from tidegate.outbox to tidegate.events, where it gets its
 * ids. Every broker has one; a lease in the database keeps all but one idle. Two at work at once
 * are harmless: batches are serialised by the row lock of tidegate.head, the lease saves work.
 *
 * Also looks after the tables: partitions ahead, retention, old keys, dead rows of the outbox. */
#ifndef STORE_POSTGRES_SEQUENCER_H
#define STORE_POSTGRES_SEQUENCER_H

#include "broker/metrics.h"
#include "pg/pg_client.h"

struct sequencer_options {
    const struct pg_conninfo *conninfo; /* borrowed */
    unsigned poll_ms;                   /* between looks at an idle outbox, at most */
    unsigned batch_rows;
    uint64_t partition_ids;
    uint64_t event_bytes;
    uint64_t retain_age_s, retain_events, retain_bytes, key_window_s;
    unsigned upkeep_alarm_s; /* upkeep that has failed for so long is complained of */
};

struct sequencer_events {
    /* There are new events, up to `last`. `rows`: these events, as pg_row_event() takes them from
     * `column` on; NULL: too large to come along. Borrowed for the call. */
    void (*drained)(void *ctx, uint64_t last, const PGresult *rows, int column);
    void (*measured)(void *ctx, uint64_t events, uint64_t bytes);
    const char *(*refuse)(void *ctx, const PGresult *setup); /* as of pg_client_events */
    void (*lost)(void *ctx, const struct err *e);            /* the same */
};

struct sequencer;

struct sequencer *sequencer_new(uv_loop_t *loop, const struct sequencer_options *opt,
                                struct broker_metrics *metrics,
                                const struct sequencer_events *events, void *ctx);
bool sequencer_is_draining(const struct sequencer *q); /* drained() may be about to be called */
/* What does not work and does not keep events from being published over HTTP and delivered; NULL:
 * all is well. Borrowed until the next call. */
const char *sequencer_complaint(struct sequencer *q);
void sequencer_nudge(struct sequencer *q); /* see pg_client_nudge() */
/* pg_client_drop() or pg_client_leave() of its connections. */
void sequencer_give_up(struct sequencer *q, void (*give_up)(struct pg_client *c, const char *why),
                       const char *why);
void sequencer_close(struct sequencer *q, void (*closed)(void *ctx), void *ctx);

#endif
