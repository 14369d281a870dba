/* Private to sequencer.c (outbox to events) and sequencer_upkeep.c (the tables). */
#ifndef STORE_POSTGRES_SEQUENCER_STATE_H
#define STORE_POSTGRES_SEQUENCER_STATE_H

#include "base/strbuf.h"
#include "store/postgres/sequencer.h"

struct sequencer {
    uv_loop_t *loop;
    struct sequencer_options opt;
    struct broker_metrics *metrics;
    struct sequencer_events events;
    void *ctx;

    struct pg_client *drain, *upkeep;
    uv_timer_t drain_timer, upkeep_timer;
    bool leading;
    bool draining;         /* a batch is under way */
    bool sweeping;         /* the drain under way starts at 0 */
    int64_t hint;          /* nothing is at or below, and nothing will be */
    int64_t file;          /* of the outbox whose ids these are; 0: none yet */
    int64_t next_hint;     /* the same once `holders` have ended */
    int64_t drawn;         /* newest id of the outbox when that was last asked */
    bool ended;            /* they have: the next full drain makes next_hint the hint */
    struct strbuf holders; /* transactions, as an array's text */
    uint64_t holders_at, sweep_at, began_ns;
    unsigned idle_ms;
    bool busy;      /* the last batch moved rows: the next look is a batch, without asking before */
    unsigned asked; /* most rows of the batch under way: fewer were all there were */
    unsigned careful; /* batches left of a single row, after one was refused */
    int64_t lowest;   /* the other's backlog as this idle one saw it last; 0: none */
    uint64_t rows_since_vacuum;
    uint64_t bad_unlogged, bad_log_at;
    unsigned ticks, ticks_since_vacuum;

    bool closing;
    unsigned parts;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* sequencer_upkeep.c: of the client `upkeep`; ctx is the sequencer */
/* pg_client_events.refuse of both connections */
const char *sequencer_refuse(void *ctx, const PGresult *setup);
extern const struct pg_client_events sequencer_upkeep_events;

#endif
