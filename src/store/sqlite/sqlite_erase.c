/* Erasing events, a step a job: rows, their copies and their keys go in one transaction that also names the ids in
 * `erased`. That table tells the other workers what to forget, and readers that these ids are no gap. */
#include "base/alloc.h"
#include "base/clock.h"
#include "store/sqlite/sqlite_writer.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    PATIENCE_MS = 50,  /* for the lock, and for readers: publishes wait behind this job */
    CLEAN_PAGES = 256, /* given back per step */
    CLEAN_TRIES = 200, /* to empty the log */
    NAMED_FOR_S =
        7 * 86400, /* ids below what retention has removed: other workers have long looked */
};

static int sqlite_erase_fail(struct sqlite_writer *w)
{
    int rc = sqlite_db_fail(&w->db, &w->error, "erasing events");
    sqlite_db_rollback(&w->db);
    w->erase->removed = 0;
    return rc;
}

/* One event, in the transaction. Returns a SQLite result. */
static int sqlite_erase_one(struct sqlite_writer *w, uint64_t id, int64_t batch, int64_t now_s)
{
    const int64_t args[] = {(int64_t)id, batch, now_s};
    int rc = sqlite_db_run(&w->db, SQLITE_erase_key, 1, args);
    rc = rc == SQLITE_OK && w->latest->n ? sqlite_db_run(&w->db, SQLITE_erase_unfolded, 1, args)
                                         : rc;
    rc = rc == SQLITE_OK ? sqlite_db_run(&w->db, SQLITE_erase, 1, args) : rc;
    bool removed = rc == SQLITE_OK && sqlite3_changes(w->db.db) > 0;
    if (rc == SQLITE_OK && w->latest->n) { /* retention may have left it there alone */
        rc = sqlite_db_run(&w->db, SQLITE_erase_latest_key, 1, args);
        rc = rc == SQLITE_OK ? sqlite_db_run(&w->db, SQLITE_erase_latest, 1, args) : rc;
        removed = removed || (rc == SQLITE_OK && sqlite3_changes(w->db.db) > 0);
    }
    w->erase->removed += removed;
    return rc == SQLITE_OK ? sqlite_db_run(&w->db, SQLITE_erased_add, 3, args) : rc;
}

/* Batches have rising numbers also where an older copy of the file has taken its place. */
static int sqlite_erase_rows(struct sqlite_writer *w)
{
    int64_t last = 0, floor = (int64_t)store_id_floor(clock_unix_ms());
    if (sqlite_db_run(&w->db, SQLITE_begin_write, 0, NULL) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "erasing events: waiting for the write lock");
    }
    int rc = sqlite_db_meta(&w->db, "erased", 0, &last);
    int64_t batch = floor > last ? floor : last + 1;
    for (size_t i = 0; i < w->erase->n && rc == SQLITE_OK; i++) {
        rc = sqlite_erase_one(w, w->erase->ids[i], batch, clock_unix_ms() / 1000);
    }
    rc = rc == SQLITE_OK ? sqlite_db_meta_set(&w->db, "erased", batch) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_run(&w->db, SQLITE_commit, 0, NULL) : rc;
    return rc == SQLITE_OK ? 0 : sqlite_erase_fail(w);
}

/* Free pages may hold what retention has removed; giving them back has others take their place, and cuts the
 * file off behind those. True: there are more. */
static bool sqlite_erase_give_back(struct sqlite_writer *w)
{
    int64_t before = 0, left = 0;
    char sql[64];
    (void)snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%d)", CLEAN_PAGES);
    return sqlite_db_integer(&w->db, SQLITE_freelist_count, 0, &before) == SQLITE_OK && before &&
           sqlite3_exec(w->db.db, sql, NULL, NULL, NULL) == SQLITE_OK &&
           sqlite_db_integer(&w->db, SQLITE_freelist_count, 0, &left) == SQLITE_OK && left &&
           left < before;
}

static int sqlite_erase_clean(struct sqlite_writer *w)
{
    int64_t trimmed = 0;
    int rc = sqlite_db_meta(&w->db, "trimmed", 0, &trimmed);
    const int64_t old[] = {trimmed, clock_unix_ms() / 1000 - NAMED_FOR_S};
    rc = rc == SQLITE_OK ? sqlite_db_run(&w->db, SQLITE_erased_forget, 2, old) : rc;
    if (rc == SQLITE_OK && sqlite_erase_give_back(w)) {
        w->erase->more = true;
        return 0;
    }
    rc = rc == SQLITE_OK
             ? sqlite3_wal_checkpoint_v2(w->db.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL)
             : rc;
    if (rc == SQLITE_OK) {
        return 0;
    }
    w->erase->more = sqlite_db_error(rc) == UV_EBUSY && ++w->erase->tries < CLEAN_TRIES;
    return w->erase->more ? 0
                          : sqlite_db_fail(&w->db, &w->error,
                                           "emptying events.db-wal, which holds erased events");
}

int sqlite_erase_collect(struct sqlite_writer *w)
{
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_erased_since);
    int64_t newest = w->erased_seen, trimmed = 0;
    int rc = st ? sqlite_db_meta(&w->db, "trimmed", 0, &trimmed) : SQLITE_ERROR;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 1, w->erased_seen) : rc;
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            if (w->erased_n == w->erased_cap) {
                w->erased_cap = w->erased_cap ? w->erased_cap * 2 : 64;
                w->erased = xrealloc(w->erased, w->erased_cap * sizeof *w->erased);
            }
            w->erased[w->erased_n++] = (uint64_t)sqlite3_column_int64(st, 0);
            newest = sqlite3_column_int64(st, 1);
        }
    }
    (void)sqlite3_reset(st); /* NULL is fine */
    if (rc != SQLITE_DONE) {
        return sqlite_db_fail(&w->db, &w->error, "looking for erased events");
    }
    w->erased_seen = newest;
    w->erased_trimmed = (uint64_t)trimmed;
    return 0;
}

/* What is deleted is overwritten with zeros, as in each other job where SQLite was built so. */
static int sqlite_erase_overwrite(struct sqlite_writer *w, bool always)
{
    const char *sql = always ? "PRAGMA secure_delete = ON" : "PRAGMA secure_delete = FAST";
    return sqlite3_exec(w->db.db, sql, NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : sqlite_db_fail(&w->db, &w->error, "secure_delete");
}

int sqlite_erase_run(struct sqlite_writer *w)
{
    int rc = sqlite_db_moved(&w->db, &w->error);
    w->erase->more = false;
    w->db.busy_ms = PATIENCE_MS < w->busy_ms ? PATIENCE_MS : w->busy_ms;
    rc = rc ? rc : sqlite_erase_overwrite(w, true);
    if (rc == 0 && w->erase->n) {
        rc = sqlite_erase_rows(w);
        if (rc == UV_EBUSY && ++w->erase->tries < CLEAN_TRIES) {
            w->erase->more = true;
            rc = 0;
        }
        rc = rc || w->erase->more ? rc : sqlite_erase_collect(w);
    } else if (rc == 0) {
        rc = sqlite_erase_clean(w);
    }
    (void)sqlite_erase_overwrite(w, false);
    w->db.busy_ms = w->busy_ms;
    return rc;
}

int sqlite_erase_explain(struct sqlite_db *db, uint64_t after, uint64_t upto, uint64_t *reached)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, SQLITE_erased_from);
    int rc = st ? sqlite3_bind_int64(st, 1, (int64_t)after) : SQLITE_ERROR;
    *reached = after;
    while ((rc == SQLITE_OK || rc == SQLITE_ROW) && *reached < upto) {
        rc = sqlite3_step(st);
        if (rc != SQLITE_ROW || (uint64_t)sqlite3_column_int64(st, 0) != *reached + 1) {
            break;
        }
        ++*reached;
    }
    (void)sqlite3_reset(st); /* NULL is fine */
    return rc == SQLITE_OK || rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}
