/* Rows of `events`: see sqlite_row.h. Any program can have written them, so each is held against
 * the rules of event_check(), and one that breaks them never stops the ones behind it. */
#include "store/sqlite/sqlite_row.h"

#include "event/event_row.h"

#include <uv.h>

/* Bad rows also end a read at some point, or a table full of them would be read in one go. */
enum { REJECTS_PER_READ = 4096 };

/* The bytes as they are: a BLOB that a CHECK constraint let through included. */
static struct slice sqlite_row_column(sqlite3_stmt *st, int at)
{
    if (sqlite3_column_type(st, at) == SQLITE_NULL) {
        return (struct slice){0};
    }
    const char *p = (const char *)sqlite3_column_text(st, at);
    return slice_of(p, p ? (size_t)sqlite3_column_bytes(st, at) : 0);
}

/* What is no time is refused as -1 is. */
static int64_t sqlite_row_expires(sqlite3_stmt *st, int at)
{
    int type = sqlite3_column_type(st, at);
    int64_t ms = type == SQLITE_INTEGER ? sqlite3_column_int64(st, at) : 0;
    return type == SQLITE_NULL ? 0 : ms ? ms : -1;
}

struct event *sqlite_row_to_event(sqlite3_stmt *st, size_t max_data, const char **reason)
{
    struct event_fields f = {
        .topic = sqlite_row_column(st, 1),
        .type = sqlite_row_column(st, 2),
        .data = sqlite_row_column(st, 3),
        .attrs = sqlite_row_column(st, 4),
        .key = sqlite_row_column(st, 5),
        .time_ms = sqlite3_column_int64(st, 6),
        .expires_ms = sqlite_row_expires(st, 7),
    };
    return event_from_row(&f, (uint64_t)sqlite3_column_int64(st, 0), max_data, reason);
}

void sqlite_row_reject(struct sqlite_rejects *rejects, uint64_t seq, const char *reason)
{
    if (rejects->n < SQLITE_REJECTS_NAMED) {
        rejects->first[rejects->n].seq = seq;
        rejects->first[rejects->n].reason = reason;
    }
    rejects->last = seq;
    rejects->n++;
}

size_t sqlite_row_cost(sqlite3_stmt *st)
{
    size_t cost = sizeof(struct event) + 5;
    if (sqlite3_column_bytes(st, 2) == 0) {
        cost += strlen("message");
    }
    for (int i = 1; i <= 5; i++) {
        cost += (size_t)sqlite3_column_bytes(st, i);
    }
    return cost;
}

/* Does an id in (upto, next) lack its row? Then the read ends here. */
static int sqlite_row_find_hole(struct sqlite_db *db, const struct sqlite_rows_limit *limit,
                                uint64_t next, struct sqlite_rows_end *end, bool *found)
{
    bool explained = false;
    *found = false;
    if (next <= end->upto + 1) {
        return SQLITE_OK;
    }
    uint64_t reached = 0;
    int rc = limit->tail ? sqlite_erase_explain(db, end->upto, next - 1, &reached)
                         : sqlite_db_leaps_explain(db, end->upto, next - 1, &explained);
    explained = explained || reached >= next - 1; /* the tail reports leaps */
    *found = rc == SQLITE_OK && !explained;
    if (*found && end->upto == limit->after) {
        end->hole = next - 1;
    }
    return rc;
}

int sqlite_rows_read(struct sqlite_db *db, const struct sqlite_rows_limit *limit,
                     void (*got)(void *ctx, struct event *ev), void *ctx,
                     struct sqlite_rejects *rejects, struct sqlite_rows_end *end, struct err *e)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, SQLITE_rows);
    size_t n = 0, bytes = 0, bad = 0;
    int rc = SQLITE_ROW;
    bool hole = false;
    *end = (struct sqlite_rows_end){.upto = limit->after};
    if (!st || sqlite3_bind_int64(st, 1, (int64_t)limit->after) != SQLITE_OK ||
        sqlite3_bind_int64(st, 2, (int64_t)limit->upto) != SQLITE_OK) {
        return sqlite_db_fail(db, e, "reading events");
    }
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        size_t cost = sqlite_row_cost(st);
        uint64_t seq = (uint64_t)sqlite3_column_int64(st, 0);
        rc = sqlite_row_find_hole(db, limit, seq, end, &hole);
        if (rc != SQLITE_OK || hole) {
            end->full = hole;
            break;
        }
        if (bad >= REJECTS_PER_READ ||
            (n && (n >= limit->max_events || bytes + cost > limit->max_bytes))) {
            end->full = true;
            break;
        }
        const char *reason;
        struct event *ev = sqlite_row_to_event(st, limit->max_data, &reason);
        if (!ev && !reason) {
            rc = SQLITE_NOMEM;
            break;
        }
        if (ev) {
            n++;
            bytes += event_cost(ev);
            got(ctx, ev);
        } else {
            bad++;
            sqlite_row_reject(rejects, seq, reason);
            if (limit->tail) {
                got(ctx, NULL);
            }
        }
        end->upto = seq;
    }
    (void)sqlite3_reset(st);
    if (rc == SQLITE_DONE && limit->upto == EVENT_ID_MAX) {
        rc = SQLITE_OK;
    } else if (rc == SQLITE_DONE) {
        rc = sqlite_row_find_hole(db, limit, limit->upto + 1, end, &hole);
        end->full = hole;
    }
    if (rc == SQLITE_OK || rc == SQLITE_ROW) {
        return 0;
    }
    return err_set(e, sqlite_db_error(rc), "reading events after %llu: %s",
                   (unsigned long long)end->upto,
                   rc == SQLITE_NOMEM ? "no memory" : sqlite3_errmsg(db->db));
}
