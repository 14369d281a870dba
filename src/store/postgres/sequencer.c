/* See sequencer.h.
 *
 * States, and the functions that change them:
 *
 *   AWAY     not connected: no timer runs
 *   JOINING  lead() is under way
 *   FOLLOWER another broker has the lease (`leading` is false)
 *   LEADER   this connection has the lease (`leading`)
 *
 *   AWAY     -> JOINING   on_ready()
 *   JOINING  -> FOLLOWER  on_lead(); an error drops the connection
 *   FOLLOWER -> LEADER    on_leased(): then a drain from 0
 *   FOLLOWER -> FOLLOWER  on_leased(): not free: probe() from 0. on_probed(): the same first row as
 *                         a look before: the leader does not work: one drain without the lease
 *   any      -> AWAY      on_lost(): the server has given the lease back with the session
 *
 * What the LEADER does, by step(), first that is due:
 *
 *   sweep    ask_drain(0)                     each second, and at most 1/20 of the time
 *   holders  ask_holders() -> on_holders()    moves the hint forward, then probes
 *   batch    ask_drain(hint) -> on_drained()  while the last batch moved rows
 *   look     probe(hint) -> on_probed()       else: no lock, no WAL; a row: a batch
 *
 * A batch that is full is followed by the next one at once; after others there is a pause.
 *
 * Invariants:
 *
 *   1. Connected, either a statement is under way or the timer runs, never neither: each answer
 *      ends in step_in(), in another statement, or in the end of the connection.
 *   2. A row becomes an event once, with or without the lease: a batch deletes it and stores it in
 *      one transaction, under the lock of tidegate.head. The lease only saves work.
 *   3. No row at or below `hint` can be committed any more, but for rows whose ids were not drawn
 *      from the sequence since; the sweep finds those.
 *   4. `hint` holds for the file `file` of the outbox only. Where rows of before were put back
 *      (restored, or truncated and filled) it counts as 0.
 *   5. A row is set aside only after several batches of that row alone.
 *
 * How much a batch takes: it costs about as much as moving fifty rows, even if it is empty. So the
 * pause grows with the rows that came in the last one, up to a multiple of what that took: rows
 * gather while much is published, and batches take a small part of the server's time.
 *
 * A batch locks the head, and all publishing waits for that. So it is bounded by rows, by bytes and
 * by time (statement_timeout). One that takes long makes the next ones smaller: adapt(). One that
 * fails for time or memory is tried again with an eighth of its rows, in the end with one:
 * drain_refused(). A single row gets more time at each try, with twice as long a pause before the
 * next, and after some tries it is set aside: row_stuck().
 *
 * The hint: a snapshot held anywhere in the database keeps deleted rows of the outbox where they
 * are, and every probe would walk over them. So probes and drains start behind `hint`, an id that
 * no open transaction can be below: all transactions that had locked the outbox after that id was
 * drawn have ended (`holders`), and what they left was drained. With less care the event of a later
 * transaction would overtake that of a long one that committed before it began. */
#include "store/postgres/sequencer.h"

#include "base/alloc.h"
#include "base/logging.h"
#include "base/require.h"
#include "store/postgres/pg_lineage.h"
#include "store/postgres/pg_row.h"
#include "store/postgres/pg_session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    IDLE_MIN_MS = 1,
    PAUSE_MIN_MS = 2,
    PAUSE_ROWS = 4,  /* that many more are worth a millisecond more */
    PAUSE_SHARE = 4, /* a batch that is not full need not take less than 1/5 of the time */
    SWEEP_MS = 1000,
    SWEEP_SHARE = 20, /* a sweep takes at most 1/20 of the time */
    HOLDERS_MS = 500,
    HOLDERS_MAX_BYTES = 256 * 1024,
    /* Most that the answer of a batch is. It is sent under the lock of the head, so it fits into
     * the smallest buffer of a socket: a broker that does not read must not keep that lock. */
    GIVE_BYTES = 48 << 10,
    BATCH_BYTES = 4 << 20,
    BATCH_BYTES_MIN = 256 << 10,
    BATCH_ROWS_MIN = 16, /* of batches that are slow, and do not fail */
    HELD_SLOW_US = 400000,
    HELD_FAST_US = 100000,
    CUT = 8, /* a batch that took too much is tried again with 1/8 of its rows */
    TIME_MS = 2000,
    TIME_MAX_MS = 8000, /* less than PG_ANSWER_MS: the single row's last tries */
    LARGE_BYTES = 1 << 20,
    TRIES_LARGE = 3,
    TRIES_SMALL = 6,   /* it may be the server that is slow, and not the row */
    OTHERS_MS = 15000, /* the one that does not lead leaves what takes much to the one that does */
    LEASE_MS = 1000,   /* between tries to become the one */
    ERROR_MS = 100,
    ERROR_MAX_MS = 1000,
    COMPLAIN_MS = 3000,
    NOISE_MS = 10000,
    BAD_LOG_MS = 10000,
};

/* The plans of tidegate.drain_events(): along the primary key, however many rows are dead, and made once. */
#define DRAIN_SETUP                                                                                      \
    PG_SETUP                                                                                             \
    ";SET statement_timeout = 2000; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;" \
    "SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"

static const struct pg_statement lead_statement = {"lead", PG_LEAD_SQL};
static const struct pg_statement lease_statement = {"lease",
                                                    "SELECT pg_try_advisory_lock(1952736100, 1)"};
/* $1 if the outbox still lies in the file $2; a sweep's 0 is right for any. */
#define LO_SQL                                                                                     \
    "CASE WHEN pg_relation_filenode('tidegate.outbox'::regclass)::bigint = $2::bigint"             \
    " THEN $1::bigint ELSE 0 END"
static const struct pg_statement probe_statement = {
    "probe", "SELECT id FROM tidegate.outbox WHERE id > " LO_SQL " ORDER BY id LIMIT 1"};
/* Inserting locks the table before an id is drawn, and until the end of the transaction. A sequence
 * that was never used (or restarted) shows the id it will give, not the last it gave. */
static const struct pg_statement holders_statement = {
    "holders",
    "SELECT (SELECT last_value - (NOT is_called)::int FROM tidegate.outbox_id_seq), "
    "coalesce(array_agg(virtualtransaction)"
    "::text, '{}'), count(*) FILTER (WHERE virtualtransaction = ANY ($1::text::text[])),"
    " (SELECT pg_relation_filenode('tidegate.outbox'::regclass)::bigint)"
    " FROM pg_locks WHERE locktype = 'relation' AND relation = 'tidegate.outbox'::regclass"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND mode = 'RowExclusiveLock' AND granted"};
#define DRAIN_COLUMNS                                                                              \
    "SELECT n, dup, bad, last, last_outbox, more, held_us, stuck, why, stuck_bytes, "
enum {
    DRAIN_N,
    DRAIN_DUP,
    DRAIN_BAD,
    DRAIN_LAST,
    DRAIN_LAST_OUTBOX,
    DRAIN_MORE,
    DRAIN_HELD_US,
    DRAIN_STUCK,
    DRAIN_WHY,
    DRAIN_STUCK_BYTES,
    DRAIN_ROW
};
static const struct pg_statement drain_statement = {
    "drain", DRAIN_COLUMNS PG_ROW_NAMES " FROM tidegate.drain_events(" LO_SQL
                                        ", $3::int, $4::bigint, $5::bigint,"
                                        " $6::bigint, $7::boolean, $8::bigint, $9::bigint)"};
/* The same of a single row, which is set aside if it cannot be an event. It is not given with the answer. */
static const struct pg_statement drain_one_statement = {
    "drain_one",
    DRAIN_COLUMNS "NULL::bigint FROM tidegate.drain_one(" LO_SQL ", $3::bigint, $4::bigint,"
                  " $5::boolean, $6::bigint, $7::bigint, $8::bigint, $9::text)"};
static const struct pg_statement time_statement = {
    "time", "SELECT set_config('statement_timeout', $1::int::text, false)"};

struct sequencer {
    uv_loop_t *loop;
    struct sequencer_options opt;
    struct store_metrics *metrics;
    struct sequencer_events events;
    void *ctx;

    struct pg_client *client;
    uv_timer_t timer; /* the next step */
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
    uint64_t moved_rows;
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

    bool closing;
    unsigned parts;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void sequencer_step(struct sequencer *q);
static void sequencer_on_drained(void *ctx, uint64_t token, const PGresult *res,
                                 const struct pg_fault *f);

static void sequencer_on_time_set(void *ctx, uint64_t token, const PGresult *res,
                                  const struct pg_fault *f)
{
    (void)ctx;
    (void)token;
    (void)res;
    (void)f; /* the connection: the next one begins with TIME_MS */
}

static void sequencer_on_timer(uv_timer_t *t)
{
    sequencer_step(t->data);
}

static void sequencer_step_in(struct sequencer *q, uint64_t ms)
{
    if (!q->closing) {
        REQUIRE(uv_timer_start(&q->timer, sequencer_on_timer, ms, 0) == 0);
    }
}

/* Something is wrong with the moving of the outbox; it is said once, and then now and then. */
static void sequencer_note_fault(struct sequencer *q, const char *what, const char *sqlstate,
                                 const char *text)
{
    uint64_t now = uv_now(q->loop);
    q->failing_since = q->failing_since ? q->failing_since : now;
    if (strcmp(sqlstate, q->failed_state) != 0 || now >= q->failed_log_at) {
        q->failed_log_at = now + NOISE_MS;
        log_warn("store", "the sequencer was refused, and tries again",
                 LOG_F(log_str("statement", what), log_str("sqlstate", sqlstate),
                       log_str("error", text)));
    }
    (void)snprintf(q->failed_state, sizeof q->failed_state, "%s", sqlstate);
    (void)snprintf(q->failed_text, sizeof q->failed_text, "%s", text);
    q->metrics->store_errors++;
}

static void sequencer_note_success(struct sequencer *q)
{
    q->failing_since = q->failed_log_at = 0;
    q->failed_state[0] = '\0';
    q->error_ms = ERROR_MS;
}

static unsigned sequencer_back_off(struct sequencer *q)
{
    unsigned ms = q->error_ms;
    q->error_ms = ms * 2 < ERROR_MAX_MS ? ms * 2 : ERROR_MAX_MS;
    return ms;
}

static void sequencer_failed(struct sequencer *q, const char *what, const struct pg_fault *f)
{
    if (q->closing || f->code != UV_EIO) {
        return; /* the connection: lost() follows */
    }
    sequencer_note_fault(q, what, f->sqlstate, f->text);
    sequencer_step_in(q, sequencer_back_off(q));
}

/* ---------------------------------------------------------------- draining */

/* How long the next statement may take. */
static void sequencer_set_time(struct sequencer *q, unsigned ms)
{
    struct pg_args args;
    if (ms == q->time_ms) {
        return;
    }
    pg_args_init(&args, 16);
    pg_args_int4(&args, (int32_t)ms);
    if (pg_client_ask(q->client, &time_statement, &args, sequencer_on_time_set, q, 0) == 0) {
        q->time_ms = ms;
    }
}

static void sequencer_put_aside(const struct sequencer *q, struct pg_args *args)
{
    char why[sizeof q->failed_text + 64];
    (void)snprintf(why, sizeof why, "takes too much time or memory, tried %u times: %s", q->tries,
                   q->failed_text);
    pg_args_int8(args, q->set_aside ? q->stuck : 0);
    pg_args_bytes(args, why, strlen(why));
}

static void sequencer_ask_drain(struct sequencer *q, int64_t lo)
{
    struct pg_args args;
    bool one = q->rows == 1;
    unsigned time_ms = (unsigned)TIME_MS << (q->tries < 2 ? q->tries : 2);
    sequencer_set_time(q, one && q->stuck && !q->set_aside ? time_ms : TIME_MS);
    q->sweeping = lo == 0;
    q->began_ns = uv_hrtime();
    q->asked = q->rows;
    pg_args_init(&args, 1024);
    pg_args_int8(&args, lo);
    pg_args_int8(&args, q->file);
    if (!one) {
        pg_args_int4(&args, (int32_t)q->rows);
        pg_args_int8(&args, (int64_t)q->bytes);
    }
    pg_args_int8(&args, (int64_t)q->opt.partition_ids);
    pg_args_int8(&args, (int64_t)q->opt.event_bytes);
    pg_args_bool(&args, q->opt.dedup);
    pg_args_int8(&args, one ? -1 : GIVE_BYTES);
    pg_args_int8(&args, (int64_t)q->events.newest(q->ctx));
    if (one) {
        sequencer_put_aside(q, &args);
    }
    if (pg_client_ask(q->client, one ? &drain_one_statement : &drain_statement, &args,
                      sequencer_on_drained, q, 0)) {
        sequencer_step_in(q, ERROR_MS);
    } else {
        q->draining = true;
    }
}

static void sequencer_swept(struct sequencer *q, uint64_t took_ms)
{
    uint64_t pause = took_ms * SWEEP_SHARE;
    q->sweep_at = uv_now(q->loop) + (pause > SWEEP_MS ? pause : SWEEP_MS);
}

/* All that was visible above the hint has been drained. */
static void sequencer_move_hint(struct sequencer *q)
{
    if (q->ended) {
        q->hint = q->next_hint > q->hint ? q->next_hint : q->hint;
        q->ended = false;
        q->next_hint = 0;
    }
}

static void sequencer_count_batch(struct sequencer *q, const PGresult *res, uint64_t took_us)
{
    struct store_metrics *m = q->metrics;
    uint64_t n = (uint64_t)pg_cell_int4(res, 0, DRAIN_N);
    uint64_t bad = (uint64_t)pg_cell_int4(res, 0, DRAIN_BAD);
    int64_t last_outbox = pg_cell_int8(res, 0, DRAIN_LAST_OUTBOX);
    m->store_batches++;
    m->store_batch_rows += n;
    m->store_outbox_duplicates += (uint64_t)pg_cell_int4(res, 0, DRAIN_DUP);
    m->store_sweep_found += q->sweeping && q->hint > 0 && last_outbox <= q->hint ? n : 0;
    latency_add(&m->store_batch, took_us);
    q->moved_rows += n;
    m->rejected_rows += bad;
    q->bad_unlogged += bad;
    if (q->bad_unlogged && uv_now(q->loop) >= q->bad_log_at) { /* a program may write many */
        log_warn("store", "rows of the outbox cannot be events: see tidegate.rejected",
                 LOG_F(log_uint("rows", q->bad_unlogged), log_int("upto", last_outbox)));
        q->bad_unlogged = 0;
        q->bad_log_at = uv_now(q->loop) + BAD_LOG_MS;
    }
    if (n > bad) {
        q->events.drained(q->ctx, (uint64_t)pg_cell_int8(res, 0, DRAIN_LAST),
                          PQgetisnull(res, 0, DRAIN_ROW) ? NULL : res, DRAIN_ROW, took_us);
    }
}

static bool sequencer_is_state(const char *sqlstate, const char *start)
{
    return strncmp(sqlstate, start, strlen(start)) == 0;
}

/* A batch was undone. For what one of its rows holds: rows one by one, until it has been passed.
 * For time or memory: less at once. Else all would fail: the outbox waits. */
static void sequencer_drain_refused(struct sequencer *q, const struct pg_fault *f, uint64_t took_ms)
{
    bool row = sequencer_is_state(f->sqlstate, "22") || sequencer_is_state(f->sqlstate, "23") ||
               sequencer_is_state(f->sqlstate, "54");
    bool much = sequencer_is_state(f->sqlstate, "57014") ||
                sequencer_is_state(f->sqlstate, "53200") ||
                sequencer_is_state(f->sqlstate, "XX000");
    if ((!row && !much) || q->asked == 1) {
        sequencer_failed(q, "drain", f);
        return;
    }
    if (row) {
        q->careful = q->asked;
        q->rows = 1;
        sequencer_step_in(q, 0);
        return;
    }
    sequencer_note_fault(q, "drain", f->sqlstate, f->text);
    q->rows = q->asked > CUT ? q->asked / CUT : 1;
    q->bytes = q->bytes / CUT > BATCH_BYTES_MIN ? q->bytes / CUT : BATCH_BYTES_MIN;
    sequencer_step_in(q, q->leading ? took_ms : OTHERS_MS); /* publishing has had to wait as long */
}

/* A row alone took too much. A small one is not blamed for the server's want of memory. */
static void sequencer_row_stuck(struct sequencer *q, const PGresult *res, uint64_t took_ms)
{
    int64_t id = pg_cell_int8(res, 0, DRAIN_STUCK);
    struct slice why = pg_cell_text(res, 0, DRAIN_WHY); /* SQLSTATE and text */
    bool large = pg_cell_int8(res, 0, DRAIN_STUCK_BYTES) >= LARGE_BYTES;
    bool late = why.n > 5 && memcmp(why.p, "57014", 5) == 0;
    uint64_t pause = q->leading ? took_ms * 2 : OTHERS_MS, least = sequencer_back_off(q);
    char text[sizeof q->failed_text], state[6] = "";
    if (why.n > 6) {
        memcpy(state, why.p, 5);
        why = slice_of(why.p + 6, why.n - 6);
    }
    q->tries = id == q->stuck ? q->tries + 1 : 1;
    q->stuck = id;
    (void)snprintf(text, sizeof text, "row %" PRId64 ": %.*s", id, (int)why.n, why.p);
    sequencer_note_fault(q, "drain", state, text);
    q->set_aside = (large && q->tries >= TRIES_LARGE) || (late && q->tries >= TRIES_SMALL);
    sequencer_step_in(q, pause > least ? pause : least);
}

static void sequencer_forget_stuck(struct sequencer *q)
{
    q->stuck = 0;
    q->tries = 0;
    q->set_aside = false;
}

/* The next batch: more rows while that is quick, fewer where it is not. */
static void sequencer_adapt(struct sequencer *q, int64_t held_us)
{
    sequencer_forget_stuck(q);
    if (q->careful) {
        q->careful--;
    } else if (held_us > HELD_SLOW_US) {
        q->rows = q->asked / 2 > BATCH_ROWS_MIN ? q->asked / 2 : q->rows;
        q->bytes = q->bytes / 2 > BATCH_BYTES_MIN ? q->bytes / 2 : BATCH_BYTES_MIN;
    } else if (held_us < HELD_FAST_US) {
        q->rows = q->rows < q->opt.batch_rows / 2 ? q->rows * 2 : q->opt.batch_rows;
        q->bytes = q->bytes * 2 < BATCH_BYTES ? q->bytes * 2 : BATCH_BYTES;
    }
}

/* A batch of few rows was not worth waiting for: the next one comes soon, so that events are quick
 * where they are few. */
static uint64_t sequencer_pause_ms(const struct sequencer *q, unsigned rows, uint64_t took_us)
{
    uint64_t by_cost = took_us * PAUSE_SHARE / 1000 + IDLE_MIN_MS;
    uint64_t by_rows = rows / PAUSE_ROWS + PAUSE_MIN_MS;
    uint64_t ms = by_cost < by_rows ? by_cost : by_rows;
    return ms < q->opt.poll_ms ? ms : q->opt.poll_ms;
}

static void sequencer_on_drained(void *ctx, uint64_t token, const PGresult *res,
                                 const struct pg_fault *f)
{
    struct sequencer *q = ctx;
    uint64_t took_us = (uv_hrtime() - q->began_ns) / 1000;
    (void)token;
    q->draining = false;
    if (!res || PQntuples(res) < 1) {
        if (f && f->code == UV_EIO) {
            sequencer_drain_refused(q, f, took_us / 1000);
        } else if (!f) {
            sequencer_step_in(q, ERROR_MS);
        }
        return;
    }
    if (!PQgetisnull(res, 0, DRAIN_STUCK)) {
        sequencer_row_stuck(q, res, took_us / 1000);
        return;
    }
    unsigned n = (unsigned)pg_cell_int4(res, 0, DRAIN_N);
    sequencer_note_success(q);
    if (n) {
        sequencer_count_batch(q, res, took_us);
        q->idle_ms = IDLE_MIN_MS;
    }
    sequencer_adapt(q, pg_cell_int8(res, 0, DRAIN_HELD_US));
    if (pg_cell_bool(res, 0, DRAIN_MORE)) {
        sequencer_ask_drain(q, q->sweeping ? 0 : q->hint);
        return;
    }
    if (q->sweeping) {
        sequencer_swept(q, took_us / 1000);
    }
    sequencer_move_hint(q);
    q->busy = n && q->leading;
    sequencer_step_in(q, !q->leading ? LEASE_MS
                                     : (q->busy ? sequencer_pause_ms(q, n, took_us) : IDLE_MIN_MS));
}

/* ---------------------------------------------------------------- looking */

static void sequencer_on_probed(void *ctx, uint64_t token, const PGresult *res,
                                const struct pg_fault *f)
{
    struct sequencer *q = ctx;
    (void)token;
    if (!res) {
        sequencer_failed(q, "probe", f);
        return;
    }
    int64_t id = PQntuples(res) ? pg_cell_int8(res, 0, 0) : 0;
    if (!id || !q->leading) {
        sequencer_note_success(q);
    }
    if (!q->leading) {
        /* the same row twice: the broker that holds the lease does not work */
        bool stuck = id && id == q->lowest;
        q->lowest = id;
        if (stuck) {
            sequencer_ask_drain(q, 0);
        } else {
            sequencer_step_in(q, LEASE_MS);
        }
        return;
    }
    if (id) {
        sequencer_ask_drain(q, q->hint);
        return;
    }
    sequencer_move_hint(q);
    unsigned longer = q->idle_ms + q->idle_ms / 2 + 1;
    q->idle_ms = longer < q->opt.poll_ms ? longer : q->opt.poll_ms;
    sequencer_step_in(q, q->idle_ms);
}

static void sequencer_probe(struct sequencer *q, int64_t lo)
{
    struct pg_args args;
    pg_args_init(&args, 32);
    pg_args_int8(&args, lo);
    pg_args_int8(&args, q->file);
    if (pg_client_ask(q->client, &probe_statement, &args, sequencer_on_probed, q, 0)) {
        sequencer_step_in(q, ERROR_MS);
    }
}

static void sequencer_on_leased(void *ctx, uint64_t token, const PGresult *res,
                                const struct pg_fault *f)
{
    struct sequencer *q = ctx;
    (void)token;
    if (!res) {
        sequencer_failed(q, "lease", f);
        return;
    }
    if (PQntuples(res) == 1 && pg_cell_bool(res, 0, 0)) {
        q->leading = true;
        q->metrics->store_is_leader = 1;
        q->hint = q->next_hint = q->drawn = 0;
        q->ended = false;
        q->idle_ms = IDLE_MIN_MS;
        log_info("store", "this broker sequences the outbox", NULL);
        sequencer_ask_drain(q, 0);
        return;
    }
    sequencer_probe(q, 0);
}

static void sequencer_on_holders(void *ctx, uint64_t token, const PGresult *res,
                                 const struct pg_fault *f)
{
    struct sequencer *q = ctx;
    (void)token;
    if (!res || PQntuples(res) != 1) {
        sequencer_failed(q, "holders",
                         f ? f : &(struct pg_fault){.code = UV_EIO, .text = "no row"});
        return;
    }
    int64_t drawn = pg_cell_int8(res, 0, 0), file = pg_cell_int8(res, 0, 3);
    if (file != q->file) {
        q->file = file;
        q->hint = q->next_hint = q->drawn = 0;
        q->ended = false;
    }
    if (q->next_hint && pg_cell_int8(res, 0, 2) == 0) {
        q->ended = true;
    } else if (!q->next_hint && q->drawn) {
        /* the id was drawn before the query for these: every transaction with a smaller id is among them */
        struct slice holders = pg_cell_text(res, 0, 1);
        strbuf_reset(&q->holders);
        q->next_hint = strbuf_append(&q->holders, holders.p, holders.n) ? 0 : q->drawn;
    }
    q->drawn = drawn;
    q->holders_at = uv_now(q->loop) + HOLDERS_MS;
    sequencer_probe(q, q->hint);
}

static void sequencer_ask_holders(struct sequencer *q)
{
    struct pg_args args;
    struct slice holders = strbuf_slice(&q->holders);
    pg_args_init(&args, HOLDERS_MAX_BYTES + 16);
    if (q->next_hint) {
        pg_args_bytes(&args, holders.p, holders.n);
    } else {
        pg_args_bytes(&args, "{}", 2);
    }
    if (pg_client_ask(q->client, &holders_statement, &args, sequencer_on_holders, q, 0)) {
        sequencer_step_in(q, ERROR_MS);
    }
}

static void sequencer_step(struct sequencer *q)
{
    if (!pg_client_ready(q->client)) {
        return; /* ready() goes on */
    }
    if (!q->leading) {
        if (pg_client_ask(q->client, &lease_statement, NULL, sequencer_on_leased, q, 0)) {
            sequencer_step_in(q, ERROR_MS);
        }
    } else if (uv_now(q->loop) >= q->sweep_at) {
        sequencer_ask_drain(q, 0);
    } else if (uv_now(q->loop) >= q->holders_at) {
        sequencer_ask_holders(q);
    } else if (q->busy) {
        sequencer_ask_drain(q, q->hint);
    } else {
        sequencer_probe(q, q->hint);
    }
}

static void sequencer_on_lead(void *ctx, uint64_t token, const PGresult *res,
                              const struct pg_fault *f)
{
    struct sequencer *q = ctx;
    (void)token;
    if (!res) {
        if (f->code == UV_EIO) {
            pg_client_drop(q->client, f->text);
        }
        return;
    }
    sequencer_step(q);
}

static void sequencer_on_ready(void *ctx)
{
    struct sequencer *q = ctx;
    struct pg_args args;
    pg_args_init(&args, 32);
    pg_args_int8(&args, (int64_t)q->opt.partition_ids);
    pg_args_int8(&args, (int64_t)q->events.newest(q->ctx));
    if (pg_client_ask(q->client, &lead_statement, &args, sequencer_on_lead, q, 0)) {
        pg_client_drop(q->client, "tidegate.lead() could not be asked");
    }
}

static void sequencer_on_lost(void *ctx, const struct err *e)
{
    struct sequencer *q = ctx;
    (void)uv_timer_stop(&q->timer);
    q->leading = false;
    q->time_ms = TIME_MS;
    sequencer_forget_stuck(q); /* in another database the id may be that of another row */
    q->metrics->store_is_leader = 0;
    q->events.lost(q->ctx, e);
}

/* ---------------------------------------------------------------- life */

static const char *sequencer_on_setup(void *ctx, const PGresult *setup)
{
    struct sequencer *q = ctx;
    return q->closing ? NULL : q->events.refuse(q->ctx, setup);
}

struct sequencer *sequencer_new(uv_loop_t *loop, const struct sequencer_options *opt,
                                struct store_metrics *metrics,
                                const struct sequencer_events *events, void *ctx)
{
    static const struct pg_client_events client_events = {
        .refuse = sequencer_on_setup, .ready = sequencer_on_ready, .lost = sequencer_on_lost};
    const struct pg_client_options client = {.conninfo = opt->conninfo,
                                             .role = "sequencer",
                                             .setup = DRAIN_SETUP ";" PG_LINEAGE_SQL,
                                             .connect_timeout_ms = PG_CONNECT_MS,
                                             .answer_timeout_ms = PG_ANSWER_MS};
    struct sequencer *q = xcalloc(1, sizeof *q);
    q->loop = loop;
    q->opt = *opt;
    q->metrics = metrics;
    q->events = *events;
    q->ctx = ctx;
    q->idle_ms = IDLE_MIN_MS;
    q->rows = opt->batch_rows;
    q->bytes = BATCH_BYTES;
    q->time_ms = TIME_MS;
    q->error_ms = ERROR_MS;
    strbuf_init(&q->holders, HOLDERS_MAX_BYTES);
    REQUIRE(uv_timer_init(loop, &q->timer) == 0);
    q->timer.data = q;
    q->client = pg_client_new(loop, &client, &client_events, q);
    q->parts = 2;
    return q;
}

bool sequencer_is_draining(const struct sequencer *q)
{
    return q->draining;
}

bool sequencer_is_leader(const struct sequencer *q)
{
    return q->leading;
}

uint64_t sequencer_moved_rows(const struct sequencer *q)
{
    return q->moved_rows;
}

int sequencer_complain(const struct sequencer *q, struct strbuf *out)
{
    uint64_t now = uv_now(q->loop);
    if (!q->failing_since || now - q->failing_since < COMPLAIN_MS) {
        return 0;
    }
    return strbuf_printf(out, "the outbox does not move for %" PRIu64 " s: %s; ",
                         (now - q->failing_since) / 1000, q->failed_text);
}

void sequencer_give_up(struct sequencer *q, void (*give_up)(struct pg_client *c, const char *why),
                       const char *why)
{
    if (!q->closing) {
        give_up(q->client, why);
    }
}

void sequencer_wake(struct sequencer *q)
{
    if (!q->closing) {
        pg_client_wake(q->client);
    }
}

static void sequencer_on_part_closed(void *ctx)
{
    struct sequencer *q = ctx;
    if (--q->parts == 0) {
        void (*closed)(void *ctx) = q->closed;
        void *closed_ctx = q->closed_ctx;
        strbuf_clear(&q->holders);
        free(q);
        closed(closed_ctx);
    }
}

static void sequencer_on_timer_closed(uv_handle_t *h)
{
    sequencer_on_part_closed(h->data);
}

void sequencer_close(struct sequencer *q, void (*closed)(void *ctx), void *ctx)
{
    q->closing = true;
    q->closed = closed;
    q->closed_ctx = ctx;
    q->metrics->store_is_leader = 0;
    uv_close((uv_handle_t *)&q->timer, sequencer_on_timer_closed);
    pg_client_close(q->client, sequencer_on_part_closed, q);
}
