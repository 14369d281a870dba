/* Erasing events: the order goes over the connection of the upkeep, and may wait behind it. What any broker has
 * erased comes from tidegate.erased, over the connection of the tail: what the tail has read before is
 * delivered before. */
#include "base/alloc.h"
#include "base/logging.h"
#include "store/postgres/store_pg_state.h"

#include <stdlib.h>

enum { ERASED_ROWS = 1000 };

static const struct pg_statement erase_statement = {"erase", "SELECT tidegate.erase($1::bigint[])"};
static const struct pg_statement forget_statement = {"forget_erased",
                                                     "SELECT tidegate.forget_erased()"};
static const struct pg_statement erased_statement = {
    "erased", "SELECT batch, seq FROM tidegate.erased WHERE (batch, seq) > ($1::bigint, $2::bigint)"
              " ORDER BY batch, seq LIMIT 1000"};

/* ---------------------------------------------------------------- the order */

struct pg_erase {
    struct store_pg *store;
    store_erase_cb cb;
    void *ctx;
    uint64_t token;
    size_t n;
    uint64_t ids[];
};

static void pg_erase_tell(struct store_pg *s, const uint64_t *ids, size_t n)
{
    if (n && s->base.erased) {
        s->base.erased(s->base.erased_ctx, ids, n, s->trimmed);
    }
}

static void pg_erase_on_done(void *ctx, uint64_t token, const PGresult *res,
                             const struct pg_fault *f)
{
    struct pg_erase *e = ctx;
    struct store_pg *s = e->store;
    (void)token;
    int rc = res ? 0 : f ? f->code : UV_EIO;
    size_t removed = res && e->n ? (size_t)pg_cell_int8(res, 0, 0) : 0;
    if (rc) {
        s->metrics->store_errors++;
        if (!s->closing && f) {
            log_warn("store", "erasing events was refused",
                     LOG_F(log_str("sqlstate", f->sqlstate), log_str("error", f->text)));
        }
    } else { /* the row of the table comes later, and says it again */
        s->metrics->store_erased += removed;
        pg_erase_tell(s, e->ids, e->n);
    }
    s->erasing = false;
    e->cb(e->ctx, e->token, s->closing && rc ? UV_ECANCELED : rc, removed);
    free(e);
}

int pg_erase_order(struct store_pg *s, const uint64_t *ids, size_t n, store_erase_cb cb, void *ctx,
                   uint64_t token)
{
    struct pg_args args;
    if (s->erasing) {
        return UV_EAGAIN;
    }
    struct pg_erase *e = xcalloc(1, sizeof *e + n * sizeof *e->ids);
    *e = (struct pg_erase){.store = s, .cb = cb, .ctx = ctx, .token = token, .n = n};
    pg_args_init(&args, 64 + n * 12);
    if (n) {
        pg_args_array_begin(&args, PG_OID_INT8, n);
        for (size_t i = 0; i < n; i++) {
            e->ids[i] = ids[i];
            pg_args_array_int8(&args, (int64_t)ids[i]);
        }
        pg_args_array_end(&args);
    }
    int rc =
        upkeep_ask(s->upkeep, n ? &erase_statement : &forget_statement, &args, pg_erase_on_done, e);
    if (rc) {
        free(e);
    }
    s->erasing = rc == 0;
    return rc;
}

/* ---------------------------------------------------------------- what any broker has erased */

void pg_erase_take(struct store_pg *s, const PGresult *res, bool *more)
{
    uint64_t ids[ERASED_ROWS];
    int rows = PQntuples(res) < ERASED_ROWS ? PQntuples(res) : ERASED_ROWS;
    for (int i = 0; i < rows; i++) {
        s->erased.batch = pg_cell_int8(res, i, 0);
        s->erased.seq = pg_cell_int8(res, i, 1);
        ids[i] = (uint64_t)s->erased.seq;
        s->erased.newest = ids[i] > s->erased.newest ? ids[i] : s->erased.newest;
    }
    *more = rows == ERASED_ROWS;
    if (!*more) {
        s->erased.seq = INT64_MAX; /* batches become visible as a whole */
    }
    pg_erase_tell(s, ids, (size_t)rows);
}

const struct pg_statement *pg_erase_look(const struct store_pg *s, struct pg_args *args)
{
    pg_args_init(args, 32);
    pg_args_int8(args, s->erased.batch);
    pg_args_int8(args, s->erased.seq);
    return &erased_statement;
}
