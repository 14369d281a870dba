/* Moves the rows that applications have committed from tidegate.outbox to tidegate.events, where
 * they get their ids. Every broker has a sequencer; a lease in the database keeps all but one idle.
 * Two at work at once do no harm: the row lock of tidegate.head serialises batches. The lease only
 * saves work.
 */
#ifndef STORE_POSTGRES_SEQUENCER_H
#define STORE_POSTGRES_SEQUENCER_H

#include "pg/pg_client.h"
#include "store/metrics.h"

struct sequencer_options {
    const struct pg_conninfo *conninfo; /* borrowed */
    unsigned poll_ms;                   /* longest time between two looks at an idle outbox */
    unsigned batch_rows;
    uint64_t partition_ids;
    uint64_t event_bytes;
    bool dedup; /* a row whose key is remembered is dropped */
};

struct sequencer_events {
    /* There are new events up to the id `last`. `rows` are these events, for pg_row_event() from
     * `column` on, borrowed for the call; NULL: too large to be sent with the answer. Moving them took
     * `took_us`. */
    void (*drained)(void *ctx, uint64_t last, const PGresult *rows, int column, uint64_t took_us);
    uint64_t (*newest)(void *ctx); /* the newest id that this broker has seen */
    const char *(*refuse)(void *ctx, const PGresult *setup); /* as of pg_client_events */
    void (*lost)(void *ctx, const struct err *e);            /* the same */
};

struct sequencer;

struct sequencer *sequencer_new(uv_loop_t *loop, const struct sequencer_options *opt,
                                struct store_metrics *metrics,
                                const struct sequencer_events *events, void *ctx);
bool sequencer_is_draining(const struct sequencer *q);    /* drained() may be about to be called */
bool sequencer_is_leader(const struct sequencer *q);      /* it holds the lease */
uint64_t sequencer_moved_rows(const struct sequencer *q); /* since it was made */
/* Appends what does not work, ending in "; ". 0, or UV_E* of strbuf.h. */
int sequencer_complain(const struct sequencer *q, struct strbuf *out);
void sequencer_wake(struct sequencer *q); /* see pg_client_wake() */
/* pg_client_drop() or pg_client_leave() of its connection. */
void sequencer_give_up(struct sequencer *q, void (*give_up)(struct pg_client *c, const char *why),
                       const char *why);
void sequencer_close(struct sequencer *q, void (*closed)(void *ctx), void *ctx);

#endif
