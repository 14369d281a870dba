/* Private to sequencer.c (outbox to events) and sequencer_upkeep.c (the tables). */
#ifndef STORE_POSTGRES_SEQUENCER_STATE_H
#define STORE_POSTGRES_SEQUENCER_STATE_H

#include "base/strbuf.h"
#include "store/postgres/sequencer.h"

enum upkeep_step {
    UPKEEP_FIGURES,
    UPKEEP_SESSIONS,
    UPKEEP_PARTITIONS,
    UPKEEP_EVENTS,
    UPKEEP_KEYS,
    UPKEEP_REJECTED,
    UPKEEP_WRITERS,
    UPKEEP_VACUUM,
    UPKEEP_STEPS
};

/* Times are of the loop; 0: never. */
struct upkeep_state {
    uint64_t failing_since; /* the first failure since the last success */
    uint64_t not_before, log_at;
    bool logged;
    char error[400]; /* the server's words */
};

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
    int64_t lowest; /* the other's backlog as this idle one saw it last; 0: none */
    uint64_t bad_unlogged, bad_log_at;

    /* how much is moved at once: less where a batch takes too long, one row where it fails */
    unsigned rows;     /* most rows of the next batch */
    unsigned asked;    /* of the batch under way */
    uint64_t bytes;    /* most data of the next one, but for its first row */
    unsigned careful;  /* batches left of a single row, after one was refused for what is in it */
    int64_t stuck;     /* the row that took too much time or memory, alone; 0: none */
    unsigned tries;    /* of it */
    bool set_aside;    /* it will be, by the next statement */
    unsigned time_ms;  /* statement_timeout of the session */
    unsigned error_ms; /* before the next try, after a failure */
    uint64_t failing_since, failed_log_at; /* loop times; 0: the last batch was well */
    char failed_state[6], failed_text[400];

    enum upkeep_step step; /* under way, or next */
    uint64_t step_began;
    struct upkeep_state steps[UPKEEP_STEPS];
    bool more_upkeep;
    unsigned retain_rows;
    uint64_t rows_since_vacuum, vacuumed_at;
    int64_t still_first; /* the first row of the outbox, and since when; 0: none */
    uint64_t still_since;
    bool many_partitions; /* was said */
    struct strbuf complaint;

    bool closing;
    unsigned parts;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* sequencer_upkeep.c: of the client `upkeep`; ctx is the sequencer */
/* pg_client_events.refuse of both connections */
const char *sequencer_refuse(void *ctx, const PGresult *setup);
extern const struct pg_client_events sequencer_upkeep_events;
/* Appends what has been wrong for long, each ending in "; ". */
int sequencer_upkeep_complain(const struct sequencer *q, struct strbuf *out);

#endif
