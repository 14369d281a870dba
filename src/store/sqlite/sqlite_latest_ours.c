/* The newest of the rows that this broker inserts. The trigger costs as much as the row itself, so it is not run on the
 * connection that inserts them: the newest of each topic is kept at the end of the transaction, once.
 *
 * Where the file keeps other topics than this broker names, has triggers of somebody else, or more of each event than
 * this version knows of, the triggers run as they do for all other programs. */
#include "base/alloc.h"
#include "base/strbuf.h"
#include "store/sqlite/sqlite_writer.h"

#include <stdlib.h>

enum { LIST_MAX_BYTES = 1 << 20 };

/* Statements are prepared again with the next step: not in every transaction. */
static void sqlite_latest_set_triggers(struct sqlite_writer *w, bool off)
{
    int on = off ? 0 : 1;
    if (w->triggers_off != off &&
        sqlite3_db_config(w->db.db, SQLITE_DBCONFIG_ENABLE_TRIGGER, on, &on) == SQLITE_OK) {
        w->triggers_off = on == 0;
    }
}

void sqlite_latest_rely(struct sqlite_writer *w)
{
    sqlite_latest_set_triggers(w, false);
}

/* Does the file keep just the topics that this store names, by triggers that are known? */
static bool sqlite_latest_is_known(struct sqlite_writer *w)
{
    struct strbuf list;
    strbuf_init(&list, LIST_MAX_BYTES);
    if (!w->latest_list && sqlite_latest_put_list(&list, w->latest) == 0) {
        w->latest_list = strbuf_detach(&list);
    }
    strbuf_clear(&list);
    /* without that table another broker keeps none */
    sqlite3_stmt *st = w->latest_list ? sqlite_db_stmt(&w->db, SQLITE_latest_same) : NULL;
    bool known = st && sqlite_db_bind(st, 1, slice_str(w->latest_list)) == SQLITE_OK &&
                 sqlite3_step(st) == SQLITE_ROW && sqlite3_column_int(st, 0);
    if (st) {
        (void)sqlite3_reset(st);
    }
    return known;
}

int sqlite_latest_choose(struct sqlite_writer *w)
{
    int64_t version = 0;
    if (sqlite_db_integer(&w->db, SQLITE_schema_version, 0, &version) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "looking at the schema");
    }
    if (version != w->latest_schema) { /* what is kept changes with the trigger */
        w->latest_by_hand = sqlite_latest_is_known(w);
        w->latest_schema = version;
    }
    sqlite_latest_set_triggers(w, w->latest_by_hand);
    return 0;
}

/* By topic, the newest first. */
static int sqlite_latest_compare_items(const void *a, const void *b)
{
    const struct sqlite_tail_item *const *x = a, *const *y = b;
    struct slice s = event_topic((*x)->ev), t = event_topic((*y)->ev);
    int order = memcmp(s.p, t.p, s.n < t.n ? s.n : t.n);
    if (order == 0) {
        order = (s.n > t.n) - (s.n < t.n);
    }
    return order ? order : ((*x)->id < (*y)->id) - ((*x)->id > (*y)->id);
}

static int sqlite_latest_compare_ids(const void *a, const void *b)
{
    const struct sqlite_tail_item *const *x = a, *const *y = b;
    return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

/* The newest of each topic that is named, in the order of ids, in which rows are added to a table with least work. */
static size_t sqlite_latest_newest(const struct sqlite_writer *w, size_t from,
                                   const struct sqlite_tail_item **items)
{
    size_t n = 0, kept = 0;
    for (size_t i = from; i < w->tail_n; i++) {
        if (sqlite_latest_names(w->latest, event_topic(w->tail[i].ev))) {
            items[n++] = &w->tail[i];
        }
    }
    qsort(items, n, sizeof *items, sqlite_latest_compare_items);
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || !slice_eq(event_topic(items[i]->ev), event_topic(items[kept - 1]->ev))) {
            items[kept++] = items[i];
        }
    }
    qsort(items, kept, sizeof *items, sqlite_latest_compare_ids);
    return kept;
}

static int sqlite_latest_write(struct sqlite_db *db, enum sqlite_statement which,
                               const struct event *ev, uint64_t id)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, which);
    struct slice type = event_type(ev);
    int rc = st ? sqlite3_bind_int64(st, 1, (int64_t)id) : SQLITE_ERROR;
    type.p = slice_is(type, "message") ? NULL : type.p;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 2, event_topic(ev)) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 3, type) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 4, event_data(ev)) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 5, event_attrs(ev)) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 6, event_key(ev)) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 7, ev->time_ms) : rc;
    rc = rc == SQLITE_OK && ev->expires_ms ? sqlite3_bind_int64(st, 8, ev->expires_ms) : rc;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    if (st) {
        (void)sqlite3_reset(st); /* lets go of the borrowed bytes */
    }
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int sqlite_latest_run_topic(struct sqlite_db *db, enum sqlite_statement which,
                                   struct slice topic)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, which);
    int rc = st ? sqlite_db_bind(st, 1, topic) : SQLITE_ERROR;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    if (st) {
        (void)sqlite3_reset(st);
    }
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* *fresh: topics that there were none of; *gone: those that there are none of any more. */
static int sqlite_latest_keep(struct sqlite_db *db, const struct sqlite_tail_item *item,
                              int64_t *fresh, int64_t *gone)
{
    struct slice topic = event_topic(item->ev);
    if (event_data(item->ev).n == 0) {
        int rc = sqlite_latest_run_topic(db, SQLITE_latest_clear, topic);
        *gone += rc == SQLITE_OK && sqlite3_changes(db->db);
        return rc == SQLITE_OK ? sqlite_latest_run_topic(db, SQLITE_latest_gone, topic) : rc;
    }
    int rc = sqlite_latest_write(db, SQLITE_latest_set, item->ev, item->id);
    if (rc == SQLITE_OK && sqlite3_changes(db->db) == 0) {
        ++*fresh;
        rc = sqlite_latest_write(db, SQLITE_latest_new, item->ev, item->id);
    }
    return rc;
}

int sqlite_latest_keep_ours(struct sqlite_writer *w, size_t from)
{
    struct sqlite_db *db = &w->db;
    const struct sqlite_tail_item **items = xcalloc(w->tail_n - from + 1, sizeof *items);
    size_t n = sqlite_latest_newest(w, from, items);
    int64_t fresh = 0, gone = 0, over = 0;
    int rc = SQLITE_OK;
    for (size_t i = 0; i < n && rc == SQLITE_OK; i++) {
        rc = sqlite_latest_keep(db, items[i], &fresh, &gone);
    }
    free(items);
    int64_t more = fresh - gone;
    rc = rc == SQLITE_OK && more ? sqlite_db_run(db, SQLITE_latest_count, 1, &more) : rc;
    rc = rc == SQLITE_OK && fresh ? sqlite_db_integer(db, SQLITE_latest_over, 0, &over) : rc;
    if (rc != SQLITE_OK) {
        return sqlite_db_fail(db, &w->error, "keeping newest events");
    }
    return over ? err_set(&w->error, STORE_TOPICS_FULL,
                          "topic: would be one more than store.latest_topics")
                : 0;
}
