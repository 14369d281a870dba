/* A row of `events` -> an event, or the reason why not. Runs on the threads of connections. */
#ifndef STORE_SQLITE_SQLITE_ROW_H
#define STORE_SQLITE_SQLITE_ROW_H

#include "event/event.h"
#include "store/sqlite/sqlite_db.h"

/* Rows that could not be delivered; the first few by name, for the log. */
enum { SQLITE_REJECTS_NAMED = 8 };
struct sqlite_rejects {
    size_t n;
    uint64_t last; /* seq of the last of them */
    struct {
        uint64_t seq;
        const char *reason; /* constant */
    } first[SQLITE_REJECTS_NAMED];
};

/* Where `rows` stops. */
struct sqlite_rows_limit {
    uint64_t after, upto; /* after < seq <= upto */
    size_t max_events;
    size_t max_bytes; /* of event_cost() */
    size_t max_data;  /* larger rows are rejected */
    bool tail;        /* every hole counts, also one that leaps or retention explain */
};

struct sqlite_rows_end {
    uint64_t upto; /* every row up to here was read */
    bool full;     /* a limit, or a hole, ended it: there may be more */
    uint64_t hole; /* nothing was read, since no row has an id up to this one, but should; 0: no */
};

/* Reads rows in order and hands each over; stops at a limit, but never before the first event, and
 * in front of a hole: ids are dense, so rows were removed there. `limit->upto` is at
 * most the head of the snapshot, or EVENT_ID_MAX: then nothing is said of the end. Events have their id set. Returns 0 or a negative UV_E* with text; what was handed over before is
 * good, and `end` says how far. A tail is handed NULL for each row that was rejected. */
int sqlite_rows_read(struct sqlite_db *db, const struct sqlite_rows_limit *limit,
                     void (*got)(void *ctx, struct event *ev), void *ctx,
                     struct sqlite_rejects *rejects, struct sqlite_rows_end *end, struct err *e);

/* A row of seq, topic, type, data, attrs, key, created, expires. NULL and *reason: rejected; NULL without: no
 * memory. */
struct event *sqlite_row_to_event(sqlite3_stmt *st, size_t max_data, const char **reason);
/* What event_cost() will be, before the row is copied (attrs: nearly). */
size_t sqlite_row_cost(sqlite3_stmt *st);
void sqlite_row_reject(struct sqlite_rejects *rejects, uint64_t seq, const char *reason);

#endif
