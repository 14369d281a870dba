/* Pages of the newest events that store.latest names (sqlite_latest.c keeps them): snapshots. */
#include "base/alloc.h"
#include "event/topic.h"
#include "store/sqlite/sqlite_reader.h"

#include <stdlib.h>

enum {
    REJECTS_PER_PAGE = 4096,
    FEW_ROWS =
        4096, /* looked for by topic for each page; where there are more all are read, by id */
};

static bool sqlite_latest_asked(const struct sqlite_read *r, struct slice topic)
{
    for (size_t i = 0; i < r->query.topic_count; i++) {
        if (topic_match(r->query.topics[i], topic)) {
            return true;
        }
    }
    return r->query.topic_count == 0;
}

/* The row that `st` stands on joins the page. `full`: there is no room for it. SQLITE_OK, or the error. */
static int sqlite_latest_take(struct sqlite_read *r, sqlite3_stmt *st, size_t *bytes, bool *full)
{
    size_t cost = sqlite_row_cost(st), n = r->events.n;
    const char *reason = NULL;
    *full = r->rejects.n >= REJECTS_PER_PAGE ||
            (n && (n >= r->query.max_events || *bytes + cost > r->query.max_bytes));
    if (*full) {
        return SQLITE_OK;
    }
    uint64_t seq = (uint64_t)sqlite3_column_int64(st, 0);
    struct event *ev = sqlite_row_to_event(st, r->max_data, &reason);
    if (ev) {
        event_list_push(&r->events, ev);
        *bytes += event_cost(ev);
    } else if (reason) {
        sqlite_row_reject(&r->rejects, seq, reason);
    }
    r->upto = seq;
    return ev || reason ? SQLITE_OK : SQLITE_NOMEM;
}

/* The literal segments that it begins with, the slash behind them included; of a name: all of it. */
static struct slice sqlite_latest_prefix(struct slice topic)
{
    struct slice left = topic, segment;
    const char *end = topic.p;
    while (topic_next_segment(&left, &segment) && !slice_is(segment, "*") &&
           !slice_is(segment, "**")) {
        end = segment.p + segment.n;
    }
    size_t n = (size_t)(end - topic.p);
    return slice_of(topic.p, n && n < topic.n ? n + 1 : n);
}

static int sqlite_latest_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Ids of rows that were asked for, by the index on topics. */
struct sqlite_latest_few {
    int64_t ids[FEW_ROWS];
    size_t n, looked;
    bool many; /* there may be more */
};

static int sqlite_latest_find_one(struct sqlite_db *db, struct slice topic,
                                  struct sqlite_latest_few *few)
{
    char after[EVENT_TOPIC_MAX_BYTES];
    struct slice prefix = sqlite_latest_prefix(topic);
    bool name = prefix.n == topic.n;
    few->many = few->many || prefix.n == 0 || prefix.n > sizeof after;
    if (few->many) {
        return SQLITE_OK;
    }
    sqlite3_stmt *st = sqlite_db_stmt(db, name ? SQLITE_latest_of_topic : SQLITE_latest_of_prefix);
    int rc = st ? sqlite_db_bind(st, 1, prefix) : SQLITE_ERROR;
    if (rc == SQLITE_OK && !name) {
        memcpy(after, prefix.p, prefix.n);
        after[prefix.n - 1]++; /* what comes behind all that begin with "a/b/" is "a/b0" */
        rc = sqlite_db_bind(st, 2, slice_of(after, prefix.n));
    }
    while (rc == SQLITE_OK && !few->many && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(st, 1);
        struct slice found = slice_of(text, text ? (size_t)sqlite3_column_bytes(st, 1) : 0);
        rc = SQLITE_OK;
        few->many = ++few->looked > FEW_ROWS;
        if (!few->many && !topic_name_check(found) && topic_match(topic, found)) {
            few->ids[few->n++] = sqlite3_column_int64(st, 0);
        }
    }
    if (st) {
        (void)sqlite3_reset(st);
    }
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* In order; one that several of the topics ask for is there as often. */
static int sqlite_latest_find(struct sqlite_db *db, const struct sqlite_read *r,
                              struct sqlite_latest_few *few)
{
    int rc = SQLITE_OK;
    few->n = few->looked = 0;
    few->many = r->query.topic_count == 0;
    for (size_t i = 0; i < r->query.topic_count && rc == SQLITE_OK; i++) {
        rc = sqlite_latest_find_one(db, r->query.topics[i], few);
    }
    qsort(few->ids, few->n, sizeof *few->ids, sqlite_latest_compare);
    return rc;
}

/* Rows in (after, upto] that were asked for. */
static int sqlite_latest_take_range(struct sqlite_db *db, struct sqlite_read *r, uint64_t after,
                                    uint64_t upto, size_t *bytes, bool *full)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, SQLITE_latest_rows);
    int rc = st ? sqlite3_bind_int64(st, 1, (int64_t)after) : SQLITE_ERROR;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 2, (int64_t)upto) : rc;
    while (rc == SQLITE_OK && !*full && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(st, 1);
        struct slice topic = slice_of(text, text ? (size_t)sqlite3_column_bytes(st, 1) : 0);
        rc = SQLITE_OK;
        if (!topic_name_check(topic) && sqlite_latest_asked(r, topic)) {
            rc = sqlite_latest_take(r, st, bytes, full);
        }
    }
    if (st) {
        (void)sqlite3_reset(st);
    }
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int sqlite_latest_take_few(struct sqlite_db *db, struct sqlite_read *r,
                                  const struct sqlite_latest_few *few, uint64_t upto, size_t *bytes,
                                  bool *full)
{
    int rc = SQLITE_OK;
    for (size_t i = 0; i < few->n && rc == SQLITE_OK && !*full; i++) {
        uint64_t id = (uint64_t)few->ids[i];
        if (id > r->upto && id <= upto) { /* r->upto: those before are in the page */
            rc = sqlite_latest_take_range(db, r, id - 1, id, bytes, full);
        }
    }
    return rc;
}

/* Few of many are found by their topics; else all are passed by, so that the next page need not look for them again. */
static int sqlite_latest_take_asked(struct sqlite_db *db, struct sqlite_read *r, uint64_t upto,
                                    size_t *bytes, bool *full)
{
    struct sqlite_latest_few *few = xmalloc(sizeof *few);
    int rc = sqlite_latest_find(db, r, few);
    if (rc == SQLITE_OK) {
        rc = few->many ? sqlite_latest_take_range(db, r, r->query.after, upto, bytes, full)
                       : sqlite_latest_take_few(db, r, few, upto, bytes, full);
    }
    free(few);
    return rc;
}

int sqlite_latest_read_page(struct sqlite_db *db, struct sqlite_read *r, uint64_t head)
{
    struct sqlite_latest_state state;
    uint64_t upto = r->query.upto < head ? r->query.upto : head;
    size_t bytes = 0;
    bool full = false;
    if (sqlite_latest_look(db, &state) != SQLITE_OK) {
        return sqlite_db_fail(db, &r->error, "reading the newest events");
    }
    if (state.done < (int64_t)upto) {
        return UV_EAGAIN;
    }
    r->upto = r->query.after;
    int rc = sqlite_latest_take_asked(db, r, upto, &bytes, &full);
    if (rc != SQLITE_OK) {
        return sqlite_db_fail(db, &r->error, "reading the newest events");
    }
    r->upto = full || upto < r->query.after ? r->upto : upto;
    return 0;
}
