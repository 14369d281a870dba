/* Who is there: rows of members, and the events that say so, which go to the outbox in the same transaction. Over
 * the connection of the appends, one statement at a time. A process is gone when its lease has run out by the
 * server's clock: see schema_7_presence.sql and schema_10_sweep.sql. */
#include "base/logging.h"
#include "store/postgres/store_pg_state.h"

#include <string.h>

enum { SWEEP_ROWS = 1000, BATCH_MAX_BYTES = 64 * 1024 * 1024 };

static const struct pg_statement change_statement = {
    "presence_change",
    "SELECT joined, gone FROM tidegate.presence_change($1::bigint, $2::text[], $3::text[])"};
static const struct pg_statement beat_statement = {
    "presence_renew",
    "SELECT lost, swept, more, refused, why FROM tidegate.presence_renew($1::bigint, $2::bigint, "
    "$3::int)"};
static const struct pg_statement end_statement = {
    "presence_end", "SELECT tidegate.presence_end($1::bigint, $2::bigint)"};

/* The beat was taken, but not all that it was to take back of others. */
static void pg_presence_note_sweep(struct store_pg *s, const struct store_presence *op,
                                   const PGresult *res)
{
    struct slice why = pg_cell_text(res, 0, 4);
    if (why.n) {
        s->metrics->store_errors++;
        log_warn("store",
                 op->refused
                     ? "members left unannounced, for the event was refused: see tidegate.rejected"
                     : "members of brokers that are gone cannot be taken back now",
                 LOG_F(log_uint("refused", op->refused), log_slice("error", why)));
    }
}

static void pg_presence_take(struct store_pg *s, struct store_presence *op, const PGresult *res)
{
    switch (op->kind) {
    case STORE_PRESENCE_CHANGE:
        if (PQgetisnull(res, 0, 0)) {
            op->rc = UV_ESRCH;
        } else {
            op->joined = (size_t)pg_cell_int8(res, 0, 0);
            op->left = (size_t)pg_cell_int8(res, 0, 1);
        }
        break;
    case STORE_PRESENCE_BEAT:
        op->lost = pg_cell_bool(res, 0, 0);
        op->swept = (size_t)pg_cell_int8(res, 0, 1);
        op->more = !op->spare && pg_cell_bool(res, 0, 2);
        op->late = op->spare && pg_cell_bool(res, 0, 2); /* `more` than no rows */
        op->refused = (size_t)pg_cell_int8(res, 0, 3);
        pg_presence_note_sweep(s, op, res);
        break;
    case STORE_PRESENCE_END:
        break;
    }
}

/* Is it the server, the moment or the schema that refuses, and not what is said of a member (a CHECK, a trigger)? Then
 * members who are told of one at a time fare no better. */
static bool pg_presence_is_passing(const struct pg_fault *f)
{
    static const char *const classes[] = {"08", "25", "40", "42", "53", "55", "57", "58", "XX"};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (strncmp(f->sqlstate, classes[i], 2) == 0) {
            return true;
        }
    }
    return false;
}

static int pg_presence_failure(const struct store_pg *s, const struct pg_fault *f)
{
    return s->closing                                       ? UV_ECANCELED
           : !f                                             ? UV_EIO
           : f->code == UV_EIO && pg_presence_is_passing(f) ? UV_EAGAIN
                                                            : f->code;
}

static void pg_presence_on_done(void *ctx, uint64_t token, const PGresult *res,
                                const struct pg_fault *f)
{
    struct store_pg *s = ctx;
    struct store_presence *op = s->presence;
    (void)token;
    s->presence = NULL;
    op->rc = res ? 0 : pg_presence_failure(s, f);
    if (res) {
        pg_presence_take(s, op, res);
    } else {
        s->metrics->store_errors++;
        if (!s->closing && f && f->code == UV_EIO) {
            log_warn("store",
                     op->rc == UV_EIO ? "what was said of members was refused"
                                      : "what was said of members could not be stored now",
                     LOG_F(log_str("sqlstate", f->sqlstate), log_str("error", f->text)));
        }
    }
    op->done(op);
    store_pg_settle(s);
}

static void pg_presence_args(const struct store_pg *s, const struct store_presence *op,
                             struct pg_args *args)
{
    pg_args_init(args, BATCH_MAX_BYTES);
    pg_args_int8(args, s->broker);
    if (op->kind == STORE_PRESENCE_CHANGE) {
        pg_args_array_begin(args, PG_OID_TEXT, op->n);
        for (size_t i = 0; i < op->n; i++) {
            op->v[i].refused = false;
            pg_args_array_text(args, op->v[i].topic);
        }
        pg_args_array_end(args);
        pg_args_array_begin(args, PG_OID_TEXT, op->n);
        for (size_t i = 0; i < op->n; i++) {
            pg_args_array_text(args, op->v[i].data.n ? op->v[i].data : slice_str(""));
        }
        pg_args_array_end(args);
    } else if (op->kind == STORE_PRESENCE_BEAT) {
        /* it ran out when a broker that did not beat four times in a lease is looked for by others */
        pg_args_int8(args, (int64_t)(op->lease_ms / 4 * 3));
        pg_args_int4(args, op->spare ? 0 : SWEEP_ROWS);
    } else {
        pg_args_int8(args, (int64_t)op->grace_ms);
    }
}

int pg_presence_order(struct store_pg *s, struct store_presence *op)
{
    static const struct pg_statement *const statements[] = {[STORE_PRESENCE_CHANGE] =
                                                                &change_statement,
                                                            [STORE_PRESENCE_BEAT] = &beat_statement,
                                                            [STORE_PRESENCE_END] = &end_statement};
    struct pg_args args;
    if (s->presence) {
        return UV_EAGAIN;
    }
    pg_presence_args(s, op, &args);
    s->presence = op;
    int rc =
        pg_client_ask(s->appends.client, statements[op->kind], &args, pg_presence_on_done, s, 0);
    if (rc) {
        s->presence = NULL;
    }
    return rc;
}
