/* Reading: see sqlite_reader.h. Each answer comes from one snapshot. */
#include "store/sqlite/sqlite_reader.h"

static void sqlite_reader_got_row(void *ctx, struct event *ev)
{
    event_list_push(ctx, ev);
}

/* Rows, and up to where the answer is complete: what lies above the head of this snapshot may still
 * be written. */
static int sqlite_reader_read_page(struct sqlite_db *db, struct sqlite_read *r)
{
    int64_t head = 0, trimmed = 0;
    if (sqlite_db_integer(db, SQLITE_head, 0, &head) != SQLITE_OK ||
        sqlite_db_meta(db, "trimmed", 0, &trimmed) != SQLITE_OK) {
        return sqlite_db_fail(db, &r->error, "reading a page");
    }
    uint64_t upto = r->query.upto < (uint64_t)head ? r->query.upto : (uint64_t)head;
    r->trimmed = (uint64_t)trimmed;
    if (r->query.latest) {
        return sqlite_latest_read_page(db, r, (uint64_t)head);
    }
    r->upto = r->query.after;
    if (upto <= r->query.after) {
        return 0;
    }
    struct sqlite_rows_limit limit = {.after = r->query.after,
                                      .upto = upto,
                                      .max_events = r->query.max_events,
                                      .max_bytes = r->query.max_bytes,
                                      .max_data = r->max_data};
    struct sqlite_rows_end end;
    int rc = sqlite_rows_read(db, &limit, sqlite_reader_got_row, &r->events, &r->rejects, &end,
                              &r->error);
    r->upto = end.full ? end.upto : upto;
    if (end.hole) { /* counts as retention: a reader from there gets a gap */
        r->trimmed = r->upto = end.hole;
    }
    return rc;
}

/* The first row at or after `seq`: SQLITE_ROW, or SQLITE_DONE when there is none. */
static int sqlite_reader_row_at(struct sqlite_db *db, int64_t seq, int64_t *found, int64_t *created)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, SQLITE_row_at);
    int rc = st ? sqlite3_bind_int64(st, 1, seq) : SQLITE_ERROR;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    if (rc == SQLITE_ROW) {
        *found = sqlite3_column_int64(st, 0);
        *created = sqlite3_column_int64(st, 1);
    }
    if (st) {
        (void)sqlite3_reset(st);
    }
    return rc;
}

/* No row is older than asked: perhaps all that retention has removed were. */
static int sqlite_reader_seek_removed(struct sqlite_db *db, struct sqlite_read *r)
{
    int64_t trimmed = 0, newest = 0;
    if (sqlite_db_meta(db, "trimmed", 0, &trimmed) != SQLITE_OK ||
        sqlite_db_meta(db, "trimmed_ms", INT64_MAX, &newest) != SQLITE_OK) {
        return sqlite_db_fail(db, &r->error, "looking for a time");
    }
    r->value = newest < r->unix_ms ? (uint64_t)trimmed : 0;
    return 0;
}

/* Times rise with ids but for clocks that differ a little: a binary search over the ids, at most 53
 * steps. `older` is an id whose event is older than asked; none in [younger, ...) is. */
static int sqlite_reader_seek(struct sqlite_db *db, struct sqlite_read *r)
{
    int64_t head = 0, older = 0, found = 0, created = 0;
    if (sqlite_db_integer(db, SQLITE_head, 0, &head) != SQLITE_OK) {
        return sqlite_db_fail(db, &r->error, "looking for a time");
    }
    int64_t younger = head + 1;
    while (younger - older > 1) {
        int64_t middle = older + (younger - older) / 2;
        int rc = sqlite_reader_row_at(db, middle, &found, &created);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
            return sqlite_db_fail(db, &r->error, "looking for a time");
        }
        if (rc == SQLITE_ROW && found < younger && created < r->unix_ms) {
            older = found;
        } else {
            younger = middle;
        }
    }
    r->value = (uint64_t)older;
    return older ? 0 : sqlite_reader_seek_removed(db, r);
}

static int sqlite_reader_count_rows(struct sqlite_db *db, struct sqlite_read *r)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, SQLITE_count);
    if (!st || sqlite3_bind_int64(st, 1, (int64_t)r->query.after) != SQLITE_OK ||
        sqlite3_bind_int64(st, 2, (int64_t)r->query.upto) != SQLITE_OK ||
        sqlite3_bind_int64(st, 3, SQLITE_COUNT_ROWS) != SQLITE_OK ||
        sqlite3_step(st) != SQLITE_ROW) {
        return sqlite_db_fail(db, &r->error, "counting events");
    }
    r->value = (uint64_t)sqlite3_column_int64(st, 0);
    r->upto = (uint64_t)sqlite3_column_int64(st, 1);
    (void)sqlite3_reset(st);
    return 0;
}

void sqlite_read_run(struct sqlite_db *db, struct sqlite_read *r)
{
    if (sqlite_db_run(db, SQLITE_begin, 0, NULL) != SQLITE_OK) {
        r->rc = sqlite_db_fail(db, &r->error, "reading");
        return;
    }
    switch (r->kind) {
    case SQLITE_READ_PAGE:
        r->rc = sqlite_reader_read_page(db, r);
        break;
    case SQLITE_READ_SEEK:
        r->rc = sqlite_reader_seek(db, r);
        break;
    case SQLITE_READ_COUNT:
        r->rc = sqlite_reader_count_rows(db, r);
        break;
    }
    if (sqlite_db_run(db, SQLITE_commit, 0, NULL) != SQLITE_OK) {
        sqlite_db_rollback(db);
    }
}
