/* See upkeep.h. A round takes one step after the other. A step that fails keeps no other from its
 * work: it is noted, and tried again in a later round. */
#include "store/postgres/upkeep.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/logging.h"
#include "base/require.h"
#include "store/postgres/pg_lineage.h"
#include "store/postgres/pg_row.h"
#include "store/postgres/pg_session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    UPKEEP_MS = 2000,
    EARLY_MS =
        100, /* who leads is not known at once, and readers may wait for what the leader does */
    EARLY_ROUNDS = 20,
    AGAIN_MS = 10,
    BUSY_ROUND_MS = 250,
    BUSY_MS = 15000,  /* before the next try of a step that another session's lock has stopped */
    NOISE_MS = 60000, /* between log lines about the same failure */
    VACUUM_ROWS = 50000,
    VACUUM_IDLE_MS = 60000, /* some rows, and no vacuum for so long */
    RETAIN_ROWS = 5000,
    LATEST_ROWS = 32768, /* the more, the fewer are kept that are replaced at once */
    LATEST_ROWS_FIRST = 4096,
    LATEST_ROWS_MIN = 10,
    LATEST_SLOW_MS = 300, /* who reads waits meanwhile: then fewer */
    LATEST_FAST_MS = 100,
    EXPIRED_ROWS = 500,
    REJECTED_ROWS = 100, /* fewer at once: a row may be large */
    RETAIN_ROWS_MIN = 10,
    RETAIN_SLOW_MS = 1000, /* rows may be large: then fewer at once */
    RETAIN_FAST_MS = 200,
    DIFFER_MS =
        2 * UPKEEP_MS, /* store.latest differs from the leader's, who may change it just now */
    STILL_MS = 30000,  /* the same row is the first of the outbox */
    FRESH_MS = 3 * UPKEEP_MS, /* figures that are older say nothing about now */
    PARTITION_RELATIONS = 5,
    ANSWER_MS = 610000, /* a little more than the statement_timeout */
    LOCKS_SHARE = 4,    /* a page locks at most 1/4 of what the server has room for */
};

enum upkeep_step {
    UPKEEP_FIGURES,
    UPKEEP_SESSIONS,
    UPKEEP_PARTITIONS,
    UPKEEP_LATEST,
    UPKEEP_TOPICS,
    UPKEEP_EXPIRED,
    UPKEEP_EVENTS,
    UPKEEP_KEYS,
    UPKEEP_REJECTED,
    UPKEEP_WRITERS,
    UPKEEP_VACUUM,
    UPKEEP_STEPS
};

/* Times are of the loop; 0: never. */
struct upkeep_step_state {
    uint64_t failing_since; /* the first failure since the last success */
    uint64_t not_before, log_at;
    bool logged;
    char error[400]; /* the server's words */
};

struct upkeep {
    uv_loop_t *loop;
    struct upkeep_options opt;
    const struct sequencer *sequencer;
    struct store_metrics *metrics;
    struct upkeep_events events;
    void *ctx;

    struct pg_client *client;
    uv_timer_t timer;      /* the next round */
    enum upkeep_step step; /* under way, or next */
    uint64_t step_began;
    struct upkeep_step_state steps[UPKEEP_STEPS];
    bool busy; /* many events at a time: the next round comes sooner */
    bool more; /* a step of this round was not finished: the next round comes at once */
    unsigned retain_rows, latest_rows;
    /* the leader's store.latest, where it differs */
    uint64_t differs_since; /* 0: it does not */
    bool differs_said;
    char theirs[256];
    unsigned early_rounds;               /* until the newest events are kept as configured */
    uint64_t vacuumed_at, vacuumed_rows; /* sequencer_moved_rows() at the last vacuum */
    /* the first row of the outbox (0: none), and when it was first and last seen there */
    int64_t still_first;
    uint64_t still_since, still_seen;
    bool many_partitions; /* was said */

    bool closing;
    unsigned parts; /* open */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* What a step is. `args` NULL: none. `take` NULL: nothing is to be learned from the answer. */
struct upkeep_step_kind {
    const char *name;
    struct pg_statement st;
    bool by_leader;
    bool each; /* not more often than the upkeep itself, also when there is more to do */
    size_t succeeded;
    void (*args)(const struct upkeep *u, struct pg_args *args);
    void (*take)(struct upkeep *u, const PGresult *res, uint64_t took_ms);
};

static void upkeep_on_timer(uv_timer_t *t);

static void upkeep_rest(struct upkeep *u, uint64_t ms)
{
    if (!u->closing) {
        REQUIRE(uv_timer_start(&u->timer, upkeep_on_timer, ms, 0) == 0);
    }
}

static int64_t upkeep_bounded(uint64_t v)
{
    return v < INT64_MAX ? (int64_t)v : INT64_MAX;
}

/* ---------------------------------------------------------------- the steps */

static void upkeep_warn_of_partitions(struct upkeep *u, uint64_t partitions, uint64_t locks)
{
    uint64_t sane = locks / LOCKS_SHARE / PARTITION_RELATIONS;
    bool many = partitions > sane;
    if (many && !u->many_partitions) {
        log_warn("store",
                 "too many partitions: a client that resumes from far back locks five relations "
                 "of each, and the server has room for few such at once; raise "
                 "store.partition_ids, or max_locks_per_transaction of the server",
                 LOG_F(log_uint("partitions", partitions), log_uint("sane", sane),
                       log_uint("locks", locks)));
    }
    u->many_partitions = many;
}

static void upkeep_take_figures(struct upkeep *u, const PGresult *res, uint64_t took_ms)
{
    struct store_metrics *m = u->metrics;
    int64_t first = pg_cell_int8(res, 0, 5);
    (void)took_ms;
    u->events.measured(u->ctx, (uint64_t)pg_cell_int8(res, 0, 0),
                       (uint64_t)pg_cell_int8(res, 0, 1));
    m->store_outbox_oldest_s = (uint64_t)pg_cell_int8(res, 0, 2) / 1000;
    m->store_open_publisher_s = (uint64_t)pg_cell_int8(res, 0, 3) / 1000;
    m->store_xmin_age = (uint64_t)pg_cell_int8(res, 0, 4);
    m->store_partitions = (uint64_t)pg_cell_int8(res, 0, 6);
    u->still_seen = uv_now(u->loop);
    if (first != u->still_first) {
        u->still_first = first;
        u->still_since = u->still_seen;
    }
    upkeep_warn_of_partitions(u, m->store_partitions, (uint64_t)pg_cell_int8(res, 0, 7));
}

static void upkeep_take_sessions(struct upkeep *u, const PGresult *res, uint64_t took_ms)
{
    int n = pg_cell_int4(res, 0, 0);
    (void)took_ms;
    if (n > 0) {
        u->metrics->store_sessions_ended += (uint64_t)n;
        log_warn("store",
                 "sessions of a broker that does not read its answers were ended: it is frozen, "
                 "and they may hold locks that others wait for",
                 LOG_F(log_int("sessions", n)));
    }
}

static void upkeep_put_ahead(const struct upkeep *u, struct pg_args *args)
{
    pg_args_int8(args, (int64_t)u->opt.partition_ids);
}

static void upkeep_put_latest(const struct upkeep *u, struct pg_args *args)
{
    pg_row_put_patterns(args, u->opt.latest);
    pg_args_int8(args, upkeep_bounded(u->opt.latest->topics));
    pg_args_int4(args, (int32_t)u->latest_rows);
}

static void upkeep_take_latest(struct upkeep *u, const PGresult *res, uint64_t took_ms)
{
    struct store_metrics *m = u->metrics;
    bool filling = pg_cell_bool(res, 0, 1), more = pg_cell_bool(res, 0, 2);
    if (took_ms > LATEST_SLOW_MS && u->latest_rows / 2 >= LATEST_ROWS_MIN) {
        u->latest_rows /= 2;
    } else if (more && took_ms < LATEST_FAST_MS && u->latest_rows * 2 <= LATEST_ROWS) {
        u->latest_rows *= 2;
    }
    m->latest_topics = (uint64_t)pg_cell_int8(res, 0, 0);
    if (m->latest_filling != filling) {
        log_info("store",
                 filling ? "store.latest has changed: looking for its topics in older events"
                         : "older events were looked through for topics of store.latest",
                 LOG_F(log_uint("topics", m->latest_topics)));
    }
    m->latest_filling = filling;
    u->early_rounds = 0;
    u->more |= more;
    u->busy = pg_cell_int8(res, 0, 3) >= LATEST_ROWS_FIRST;
}

static void upkeep_put_topics(const struct upkeep *u, struct pg_args *args)
{
    pg_row_put_patterns(args, u->opt.latest);
}

/* Snapshots of a broker that does not lead wait where the leader keeps other topics. */
static void upkeep_take_topics(struct upkeep *u, const PGresult *res, uint64_t took_ms)
{
    uint64_t now = uv_now(u->loop);
    struct slice theirs = pg_cell_text(res, 0, 1);
    (void)took_ms;
    if (pg_cell_bool(res, 0, 0) || sequencer_is_leader(u->sequencer)) {
        if (u->differs_said) {
            log_info("store", "store.latest names the same topics as the broker that leads", NULL);
        }
        u->differs_since = 0;
        u->differs_said = false;
        return;
    }
    u->differs_since = u->differs_since ? u->differs_since : now;
    (void)snprintf(u->theirs, sizeof u->theirs, "%.*s", (int)theirs.n, theirs.n ? theirs.p : "");
    if (!u->differs_said && now - u->differs_since >= DIFFER_MS) {
        u->differs_said = true;
        log_warn(
            "store",
            "store.latest names other topics than that of the broker that leads: snapshots wait "
            "here until both name the same",
            LOG_F(log_str("theirs", u->theirs)));
    }
}

static void upkeep_put_expired(const struct upkeep *u, struct pg_args *args)
{
    (void)u;
    pg_args_int4(args, EXPIRED_ROWS);
}

static void upkeep_take_expired(struct upkeep *u, const PGresult *res, uint64_t took_ms)
{
    (void)took_ms;
    u->more |= pg_cell_int8(res, 0, 0) >= EXPIRED_ROWS;
}

static void upkeep_put_events(const struct upkeep *u, struct pg_args *args)
{
    pg_args_int8(args, upkeep_bounded(u->opt.retain_age_s));
    pg_args_int8(args, upkeep_bounded(u->opt.retain_events));
    pg_args_int8(args, upkeep_bounded(u->opt.retain_bytes));
    pg_args_int4(args, (int32_t)u->retain_rows);
}

static void upkeep_take_events(struct upkeep *u, const PGresult *res, uint64_t took_ms)
{
    u->metrics->retained_removed += (uint64_t)pg_cell_int8(res, 0, 0);
    u->more |= pg_cell_bool(res, 0, 1);
    if (took_ms > RETAIN_SLOW_MS && u->retain_rows / 2 >= RETAIN_ROWS_MIN) {
        u->retain_rows /= 2;
    } else if (took_ms < RETAIN_FAST_MS && u->retain_rows * 2 <= RETAIN_ROWS) {
        u->retain_rows *= 2;
    }
}

static void upkeep_put_keys(const struct upkeep *u, struct pg_args *args)
{
    pg_args_int8(args, upkeep_bounded(u->opt.key_window_s));
    pg_args_int4(args, RETAIN_ROWS);
}

static void upkeep_take_keys(struct upkeep *u, const PGresult *res, uint64_t took_ms)
{
    (void)took_ms;
    u->more |= pg_cell_int8(res, 0, 0) >= RETAIN_ROWS;
}

static void upkeep_put_rejected(const struct upkeep *u, struct pg_args *args)
{
    (void)u;
    pg_args_int4(args, REJECTED_ROWS);
}

static void upkeep_take_rejected(struct upkeep *u, const PGresult *res, uint64_t took_ms)
{
    (void)took_ms;
    u->more |= pg_cell_int8(res, 0, 0) >= REJECTED_ROWS;
}

static void upkeep_take_vacuum(struct upkeep *u, const PGresult *res, uint64_t took_ms)
{
    (void)res;
    (void)took_ms;
    u->vacuumed_rows = sequencer_moved_rows(u->sequencer);
    u->vacuumed_at = uv_now(u->loop);
}

#define SUCCEEDED(member) offsetof(struct store_metrics, member)

static const struct upkeep_step_kind kinds[UPKEEP_STEPS] = {
    [UPKEEP_FIGURES] = {"figures",
                        {"figures", "SELECT events, bytes, outbox_oldest_ms, open_publisher_ms,"
                                    " xmin_age, outbox_first, partitions, locks"
                                    " FROM tidegate.figures()"},
                        false,
                        true,
                        SUCCEEDED(upkeep_figures_s),
                        NULL,
                        upkeep_take_figures},
    [UPKEEP_SESSIONS] = {"sessions",
                         {"sessions", "SELECT tidegate.end_unread()"},
                         false,
                         true,
                         SUCCEEDED(upkeep_sessions_s),
                         NULL,
                         upkeep_take_sessions},
    [UPKEEP_PARTITIONS] = {"partitions",
                           {"ahead",
                            "SELECT tidegate.ahead((SELECT seq FROM tidegate.head), $1::bigint)"},
                           true,
                           false,
                           SUCCEEDED(upkeep_partitions_s),
                           upkeep_put_ahead,
                           NULL},
    [UPKEEP_LATEST] = {"latest",
                       {"latest_advance",
                        "SELECT topics, filling, more, ids FROM"
                        " tidegate.latest_advance($1::text[], $2::bigint, $3::int)"},
                       true,
                       false,
                       SUCCEEDED(upkeep_latest_s),
                       upkeep_put_latest,
                       upkeep_take_latest},
    [UPKEEP_TOPICS] = {"topics",
                       {"topics", "SELECT patterns @> $1::text[] AND patterns <@ $1::text[],"
                                  " array_to_string(patterns, ' ') FROM tidegate.latest_state"},
                       false,
                       true,
                       SUCCEEDED(upkeep_topics_s),
                       upkeep_put_topics,
                       upkeep_take_topics},
    [UPKEEP_EXPIRED] = {"expired",
                        {"latest_expire", "SELECT tidegate.latest_expire($1::int)"},
                        true,
                        false,
                        SUCCEEDED(upkeep_expired_s),
                        upkeep_put_expired,
                        upkeep_take_expired},
    [UPKEEP_EVENTS] = {"events",
                       {"retain_events", "SELECT removed, more FROM tidegate.retain_events("
                                         "$1::bigint, $2::bigint, $3::bigint, $4::int)"},
                       true,
                       false,
                       SUCCEEDED(upkeep_events_s),
                       upkeep_put_events,
                       upkeep_take_events},
    [UPKEEP_KEYS] = {"keys",
                     {"retain_keys", "SELECT tidegate.retain_keys($1::bigint, $2::int)"},
                     true,
                     false,
                     SUCCEEDED(upkeep_keys_s),
                     upkeep_put_keys,
                     upkeep_take_keys},
    [UPKEEP_REJECTED] = {"rejected",
                         {"retain_rejected", "SELECT tidegate.retain_rejected($1)"},
                         true,
                         false,
                         SUCCEEDED(upkeep_rejected_s),
                         upkeep_put_rejected,
                         upkeep_take_rejected},
    [UPKEEP_WRITERS] = {"writers",
                        {"retain_writers", "SELECT tidegate.retain_writers()"},
                        true,
                        true,
                        SUCCEEDED(upkeep_writers_s),
                        NULL,
                        NULL},
    [UPKEEP_VACUUM] = {"vacuum",
                       {NULL, "VACUUM (TRUNCATE off) tidegate.outbox"},
                       true,
                       true,
                       SUCCEEDED(upkeep_vacuum_s),
                       NULL,
                       upkeep_take_vacuum},
};

/* ---------------------------------------------------------------- how they went */

static void upkeep_step_well(struct upkeep *u, enum upkeep_step i)
{
    struct upkeep_step_state *st = &u->steps[i];
    uint64_t *at = (uint64_t *)(void *)((char *)u->metrics + kinds[i].succeeded);
    if (st->logged) {
        log_info("store", "upkeep works again", LOG_F(log_str("step", kinds[i].name)));
    }
    *at = (uint64_t)(clock_unix_ms() / 1000);
    *st = (struct upkeep_step_state){.not_before =
                                         kinds[i].each ? uv_now(u->loop) + UPKEEP_MS / 2 : 0};
}

static void upkeep_step_failed(struct upkeep *u, enum upkeep_step i, const struct pg_fault *f)
{
    struct upkeep_step_state *st = &u->steps[i];
    /* another session's lock was in the way: next time */
    bool busy = strcmp(f->sqlstate, "55P03") == 0 || strcmp(f->sqlstate, "40P01") == 0;
    uint64_t now = uv_now(u->loop);
    st->failing_since = st->failing_since ? st->failing_since : now;
    st->not_before = now + (busy ? BUSY_MS : UPKEEP_MS / 2);
    (void)snprintf(st->error, sizeof st->error, "%s", f->text);
    if (i == UPKEEP_EVENTS && !busy) {
        u->retain_rows =
            u->retain_rows / 2 > RETAIN_ROWS_MIN ? u->retain_rows / 2 : RETAIN_ROWS_MIN;
    }
    if (!busy) {
        u->metrics->store_errors++;
        if (now >= st->log_at) {
            log_warn("store", "upkeep was refused",
                     LOG_F(log_str("step", kinds[i].name), log_str("sqlstate", f->sqlstate),
                           log_str("error", f->text)));
            st->logged = true;
            st->log_at = now + NOISE_MS;
        }
    }
}

static void upkeep_step_next(struct upkeep *u);

static void upkeep_on_step(void *ctx, uint64_t token, const PGresult *res, const struct pg_fault *f)
{
    struct upkeep *u = ctx;
    enum upkeep_step i = (enum upkeep_step)token;
    const struct pg_fault none = {.code = UV_EIO, .text = "no row"};
    if (u->closing || (f && f->code != UV_EIO)) {
        return; /* the connection: lost() follows */
    }
    if (!res || (kinds[i].st.name && PQntuples(res) != 1)) {
        upkeep_step_failed(u, i, f ? f : &none);
    } else {
        upkeep_step_well(u, i);
        if (kinds[i].take) {
            kinds[i].take(u, res, uv_now(u->loop) - u->step_began);
        }
    }
    u->step++;
    upkeep_step_next(u);
}

static bool upkeep_is_due(struct upkeep *u, enum upkeep_step i)
{
    uint64_t now = uv_now(u->loop);
    if (kinds[i].by_leader && !sequencer_is_leader(u->sequencer)) {
        u->steps[i] = (struct upkeep_step_state){0}; /* another broker's by now */
        if (i == UPKEEP_LATEST) {
            u->metrics->latest_topics = u->metrics->latest_filling = 0; /* it says how many */
        }
        return false;
    }
    if (now < u->steps[i].not_before || (i == UPKEEP_EVENTS && u->metrics->latest_filling)) {
        return false; /* what it has yet to look through stays */
    }
    uint64_t dead = sequencer_moved_rows(u->sequencer) - u->vacuumed_rows;
    if (i == UPKEEP_VACUUM && dead < VACUUM_ROWS &&
        (dead == 0 || now - u->vacuumed_at < VACUUM_IDLE_MS)) {
        upkeep_step_well(u, i); /* not wanted */
        return false;
    }
    return true;
}

static void upkeep_step_next(struct upkeep *u)
{
    for (; u->step < UPKEEP_STEPS; u->step++) {
        enum upkeep_step i = u->step;
        struct pg_args args;
        if (!upkeep_is_due(u, i)) {
            continue;
        }
        pg_args_init(&args, 64 + u->opt.latest->n * (EVENT_TOPIC_MAX_BYTES + 8));
        if (kinds[i].args) {
            kinds[i].args(u, &args);
        }
        u->step_began = uv_now(u->loop);
        if (pg_client_ask(u->client, &kinds[i].st, &args, upkeep_on_step, u, i) == 0) {
            return;
        }
    }
    bool early = u->early_rounds > 0;
    u->early_rounds -= early;
    upkeep_rest(u, u->more ? AGAIN_MS : early ? EARLY_MS : u->busy ? BUSY_ROUND_MS : UPKEEP_MS);
}

static void upkeep_on_timer(uv_timer_t *t)
{
    struct upkeep *u = t->data;
    if (pg_client_ready(u->client)) {
        u->step = 0;
        u->more = u->busy = false;
        upkeep_step_next(u);
    }
}

/* ---------------------------------------------------------------- the connection */

static void upkeep_on_ready(void *ctx)
{
    upkeep_rest(ctx, 1);
}

static void upkeep_on_lost(void *ctx, const struct err *e)
{
    struct upkeep *u = ctx;
    (void)uv_timer_stop(&u->timer);
    for (int i = 0; i < UPKEEP_STEPS; i++) {
        struct upkeep_step_state *st = &u->steps[i];
        if (!st->failing_since && (sequencer_is_leader(u->sequencer) || !kinds[i].by_leader)) {
            st->failing_since = uv_now(u->loop);
            (void)snprintf(st->error, sizeof st->error, "%.*s", (int)sizeof st->error - 1, e->text);
        }
    }
    u->events.lost(u->ctx, e);
}

/* ---------------------------------------------------------------- what operators should know */

/* How long the outbox has not moved: between looks, as long as there are looks. */
static uint64_t upkeep_still_ms(const struct upkeep *u, uint64_t now)
{
    return u->still_first && now - u->still_seen < FRESH_MS ? u->still_seen - u->still_since : 0;
}

int upkeep_complain(const struct upkeep *u, struct strbuf *out)
{
    uint64_t now = uv_now(u->loop), alarm_ms = (uint64_t)u->opt.alarm_s * 1000;
    uint64_t still_ms = upkeep_still_ms(u, now);
    int rc = 0;
    if (still_ms >= (alarm_ms < STILL_MS ? alarm_ms : STILL_MS)) {
        rc = strbuf_printf(out,
                           "the outbox does not move: its first row, %" PRId64
                           ", is the same for %" PRIu64 " s; ",
                           u->still_first, still_ms / 1000);
    }
    if (u->differs_said && rc == 0) {
        rc = strbuf_printf(out,
                           "store.latest names other topics than that of the broker that leads "
                           "(%s): snapshots wait; ",
                           u->theirs);
    }
    for (int i = 0; i < UPKEEP_STEPS && rc == 0; i++) {
        const struct upkeep_step_state *st = &u->steps[i];
        bool ours = sequencer_is_leader(u->sequencer) || !kinds[i].by_leader;
        if (ours && st->failing_since && now - st->failing_since >= alarm_ms) {
            rc = strbuf_printf(out, "upkeep, step \"%s\", has failed for %" PRIu64 " s: %s; ",
                               kinds[i].name, (now - st->failing_since) / 1000, st->error);
        }
    }
    return rc;
}

/* ---------------------------------------------------------------- life */

static const char *upkeep_on_setup(void *ctx, const PGresult *setup)
{
    struct upkeep *u = ctx;
    return u->closing ? NULL : u->events.refuse(u->ctx, setup);
}

struct upkeep *upkeep_new(uv_loop_t *loop, const struct upkeep_options *opt,
                          const struct sequencer *sequencer, struct store_metrics *metrics,
                          const struct upkeep_events *events, void *ctx)
{
    static const struct pg_client_events client_events = {
        .refuse = upkeep_on_setup, .ready = upkeep_on_ready, .lost = upkeep_on_lost};
    const struct pg_client_options client = {
        .conninfo = opt->conninfo,
        .role = "upkeep",
        .setup = PG_SETUP_COMMON
        "SET statement_timeout = 600000; SET lock_timeout = 1000;" PG_LINEAGE_SQL,
        .connect_timeout_ms = PG_CONNECT_MS,
        .answer_timeout_ms = ANSWER_MS};
    struct upkeep *u = xcalloc(1, sizeof *u);
    u->loop = loop;
    u->opt = *opt;
    u->sequencer = sequencer;
    u->metrics = metrics;
    u->events = *events;
    u->ctx = ctx;
    u->retain_rows = RETAIN_ROWS;
    u->latest_rows = LATEST_ROWS_FIRST;
    u->early_rounds = opt->latest->n ? EARLY_ROUNDS : 0;
    u->vacuumed_at = uv_now(loop);
    REQUIRE(uv_timer_init(loop, &u->timer) == 0);
    u->timer.data = u;
    u->client = pg_client_new(loop, &client, &client_events, u);
    u->parts = 2;
    return u;
}

int upkeep_ask(struct upkeep *u, const struct pg_statement *st, struct pg_args *args,
               pg_done_cb done, void *ctx)
{
    return pg_client_ask(u->client, st, args, done, ctx, 0);
}

void upkeep_wake(struct upkeep *u)
{
    if (!u->closing) {
        pg_client_wake(u->client);
    }
}

void upkeep_give_up(struct upkeep *u, void (*give_up)(struct pg_client *c, const char *why),
                    const char *why)
{
    if (!u->closing) {
        give_up(u->client, why);
    }
}

static void upkeep_on_part_closed(void *ctx)
{
    struct upkeep *u = ctx;
    if (--u->parts == 0) {
        void (*closed)(void *ctx) = u->closed;
        void *closed_ctx = u->closed_ctx;
        free(u);
        closed(closed_ctx);
    }
}

static void upkeep_on_timer_closed(uv_handle_t *h)
{
    upkeep_on_part_closed(h->data);
}

void upkeep_close(struct upkeep *u, void (*closed)(void *ctx), void *ctx)
{
    u->closing = true;
    u->closed = closed;
    u->closed_ctx = ctx;
    uv_close((uv_handle_t *)&u->timer, upkeep_on_timer_closed);
    pg_client_close(u->client, upkeep_on_part_closed, u);
}
