/* Pages, seeks and the count, on reading connections of their own: never in the way of a commit. */
#ifndef STORE_SQLITE_SQLITE_READER_H
#define STORE_SQLITE_SQLITE_READER_H

#include "base/container/list.h"
#include "store/sqlite/sqlite_row.h"
#include "store/store.h"

#include <uv.h>

enum {
    SQLITE_READERS = 2,
    SQLITE_COUNT_ROWS = 50000, /* counted per turn of a reader */
};

enum sqlite_read_kind { SQLITE_READ_PAGE, SQLITE_READ_SEEK, SQLITE_READ_COUNT };

/* One question. Owned by the queue, then by the reader that works on it, then by the loop thread.
 */
struct sqlite_read {
    struct list node;
    enum sqlite_read_kind kind;
    struct store_query query; /* of a page; of a count: `after`, `upto` */
    struct slice *topics; /* owned, with their bytes behind them: `query.topics` of the newest */
    int64_t unix_ms;      /* of a seek */
    size_t max_data;
    uint64_t started_ns;
    store_page_cb page_cb;
    store_seek_cb seek_cb;
    void *ctx;
    uint64_t token;
    /* the answer */
    int rc;
    struct err error;
    struct event_list events;
    struct sqlite_rejects rejects;
    uint64_t upto, trimmed; /* of a page; of a count: counted up to here */
    uint64_t value;         /* of a seek: the id; of a count: rows */
};

struct sqlite_reader {
    struct sqlite_db db;
    struct sqlite_read *job; /* NULL: idle */
    uv_work_t work;
};

/* Answers; on a pool thread. */
void sqlite_read_run(struct sqlite_db *db, struct sqlite_read *r);

/* sqlite_latest_read.c: a page of the newest events. UV_EAGAIN: see struct store_query. */
int sqlite_latest_read_page(struct sqlite_db *db, struct sqlite_read *r, uint64_t head);

#endif
