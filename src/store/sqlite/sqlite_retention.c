/* Retention: removes the oldest events by age, count and size, forgets old keys, gives pages back.
 * One bounded step per job, on the writer's thread; a step without work takes no lock. */
#include "base/clock.h"
#include "store/sqlite/sqlite_writer.h"

#include <stdio.h>
#include <sys/stat.h>

enum {
    LOCK_PATIENCE_MS = 50,   /* publishes wait behind this job */
    VACUUM_PAGES = 256,      /* given back per step */
    VACUUM_MIN_PAGES = 4096, /* free pages worth keeping: the next events fill them */
};

struct plan {
    uint64_t upto;  /* remove events up to here; 0: none */
    int64_t newest; /* time of the newest of them */
    bool keys;      /* there are expired keys */
    bool full;      /* the bound of one step was met */
    int64_t now_s;
};

static uint64_t sqlite_retention_used_bytes(struct sqlite_db *db)
{
    int64_t pages = 0, free_pages = 0;
    if (sqlite_db_integer(db, SQLITE_page_count, 0, &pages) != SQLITE_OK ||
        sqlite_db_integer(db, SQLITE_freelist_count, 0, &free_pages) != SQLITE_OK) {
        return 0;
    }
    return (uint64_t)((pages - free_pages) * db->page_size);
}

/* How many of the oldest rows the count and size rules want gone. */
static uint64_t sqlite_retention_surplus(struct sqlite_writer *w)
{
    const struct sqlite_retain_rules *r = &w->rules;
    uint64_t rows = r->events && r->rows > r->events ? r->rows - r->events : 0;
    uint64_t used = r->bytes && r->rows ? sqlite_retention_used_bytes(&w->db) : 0;
    if (used > r->bytes) {
        uint64_t average = used / r->rows + 1;
        uint64_t by_size = (used - r->bytes) / average + 1;
        rows = by_size > rows ? by_size : rows;
    }
    return rows;
}

/* Ids are in order of commit, `created` is what some clock said. So: the oldest rows, up to the
 * first that is not old yet. A time in the future says nothing; such a row goes with the next. */
static int sqlite_retention_plan_rows(struct sqlite_writer *w, int64_t now_ms, struct plan *p)
{
    const struct sqlite_retain_rules *r = &w->rules;
    uint64_t over = sqlite_retention_surplus(w), n = 0;
    int64_t newest = 0;
    int64_t old = r->age_s ? now_ms - (int64_t)(r->age_s * 1000) : INT64_MIN;
    if (over == 0 && r->age_s == 0) {
        return 0;
    }
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_row_times);
    uint64_t upto = w->folded.looked && w->folded.done < w->tailed ? w->folded.done : w->tailed;
    if (!st || sqlite3_bind_int64(st, 1, (int64_t)upto) != SQLITE_OK ||
        sqlite3_bind_int64(st, 2, SQLITE_RETAIN_ROWS) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "retention");
    }
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        int64_t created = sqlite3_column_int64(st, 1);
        n++;
        newest = created > newest ? created : newest;
        if (n <= over || created < old) {
            p->newest = newest;
            p->upto = (uint64_t)sqlite3_column_int64(st, 0);
            p->full = n == SQLITE_RETAIN_ROWS;
        } else if (created <= now_ms || r->age_s == 0) {
            break;
        }
    }
    (void)sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE
               ? 0
               : sqlite_db_fail(&w->db, &w->error, "retention: looking for old events");
}

static int sqlite_retention_make_plan(struct sqlite_writer *w, struct plan *p)
{
    int64_t now_ms = clock_unix_ms();
    *p = (struct plan){.now_s = now_ms / 1000};
    int rc = w->rules.counted ? sqlite_retention_plan_rows(w, now_ms, p) : 0;
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_keys_expired);
    if (rc == 0 && st &&
        sqlite3_bind_int64(st, 1, p->now_s - (int64_t)w->rules.key_window_s) == SQLITE_OK) {
        p->keys = sqlite3_step(st) == SQLITE_ROW;
        (void)sqlite3_reset(st);
    }
    return rc;
}

/* Inside the transaction. */
static int sqlite_retention_remove_rows(struct sqlite_writer *w, const struct plan *p)
{
    struct sqlite_retained *done = &w->retained;
    int64_t upto = (int64_t)p->upto, trimmed = 0, newest = 0;
    if (p->upto == 0) {
        return SQLITE_OK;
    }
    /* Another broker may have removed more since the plan was made: what is gone stays gone. */
    int rc = sqlite_db_meta(&w->db, "trimmed", 0, &trimmed);
    done->foreign = done->foreign || (uint64_t)trimmed != done->trimmed;
    trimmed = trimmed > upto ? trimmed : upto;
    rc = rc == SQLITE_OK ? sqlite_db_run(&w->db, SQLITE_remove, 1, &upto) : rc;
    done->removed = rc == SQLITE_OK ? (uint64_t)sqlite3_changes64(w->db.db) : 0;
    rc = rc == SQLITE_OK ? sqlite_db_meta_set(&w->db, "trimmed", trimmed) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_meta(&w->db, "trimmed_ms", 0, &newest) : rc;
    newest = newest > p->newest ? newest : p->newest;
    rc = rc == SQLITE_OK ? sqlite_db_meta_set(&w->db, "trimmed_ms", newest) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_leaps_trim(&w->db, &done->leaps, (uint64_t)trimmed) : rc;
    done->trimmed = (uint64_t)trimmed;
    return rc;
}

static int sqlite_retention_carry_out(struct sqlite_writer *w, const struct plan *p)
{
    struct sqlite_db *db = &w->db;
    int64_t expire[2] = {p->now_s - (int64_t)w->rules.key_window_s, SQLITE_RETAIN_ROWS};
    if (sqlite_db_run(db, SQLITE_begin_write, 0, NULL) != SQLITE_OK) {
        return sqlite_db_fail(db, &w->error, "retention: waiting for the write lock");
    }
    int rc = sqlite_retention_remove_rows(w, p);
    if (rc == SQLITE_OK && p->keys) {
        rc = sqlite_db_run(db, SQLITE_keys_expire, 2, expire);
        w->retained.more = sqlite3_changes(db->db) == SQLITE_RETAIN_ROWS;
    }
    if (rc == SQLITE_OK && w->rules.reported > w->retained.reported) {
        rc = sqlite_db_meta_set(db, "reported", (int64_t)w->rules.reported);
    }
    rc = rc == SQLITE_OK && w->rules.probe ? sqlite_db_meta_set(db, "probe", p->now_s) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_run(db, SQLITE_commit, 0, NULL) : rc;
    if (rc != SQLITE_OK) {
        rc = sqlite_db_fail(db, &w->error, "retention");
        sqlite_db_rollback(db);
        w->retained.removed = 0;
        w->retained.more = false;
        return rc;
    }
    w->retained.more = w->retained.more || p->full;
    return 0;
}

/* Pages are worth giving back only when they are many: new events would take them again. The file
 * itself gets shorter with the checkpoint after the last step. */
static int sqlite_retention_give_back(struct sqlite_writer *w)
{
    int64_t pages = 0, free_pages = 0, left = 0;
    char sql[64];
    if (sqlite_db_integer(&w->db, SQLITE_page_count, 0, &pages) != SQLITE_OK ||
        sqlite_db_integer(&w->db, SQLITE_freelist_count, 0, &free_pages) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "counting free pages");
    }
    if (free_pages < VACUUM_MIN_PAGES || free_pages < pages / 4) {
        if (w->shrunk) {
            w->shrunk = false;
            (void)sqlite3_wal_checkpoint_v2(w->db.db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        }
        return 0;
    }
    (void)snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%d)", VACUUM_PAGES);
    if (sqlite3_exec(w->db.db, sql, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite_db_integer(&w->db, SQLITE_freelist_count, 0, &left) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "giving free pages back");
    }
    if (left < free_pages) { /* else the file was made without auto_vacuum */
        w->shrunk = true;
        w->retained.more = true;
    }
    return 0;
}

static void sqlite_retention_measure(struct sqlite_writer *w)
{
    const char *main_file = sqlite3_db_filename(w->db.db, "main");
    const char *files[] = {main_file, sqlite3_filename_wal(main_file)};
    struct stat st;
    for (int i = 0; i < 2; i++) {
        if (stat(files[i], &st) == 0) {
            w->retained.file_bytes += (uint64_t)st.st_size;
        }
    }
}

/* Another broker on this file may retain too: then the count is void, and is repeated first. */
static int sqlite_retention_look_at_trimmed(struct sqlite_writer *w)
{
    int64_t trimmed = 0, reported = 0;
    if (sqlite_db_meta(&w->db, "trimmed", 0, &trimmed) != SQLITE_OK ||
        sqlite_db_meta(&w->db, "reported", 0, &reported) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "retention");
    }
    w->retained.reported = (uint64_t)reported;
    w->retained.trimmed = (uint64_t)trimmed;
    w->retained.foreign = w->retained.trimmed != w->rules.trimmed;
    w->rules.counted = w->rules.counted && !w->retained.foreign;
    return 0;
}

static int sqlite_retention_steps(struct sqlite_writer *w)
{
    struct plan p;
    int rc = sqlite_db_moved(&w->db, &w->error);
    rc = rc ? rc : sqlite_retention_look_at_trimmed(w);
    if (rc == 0 && w->rules.watch_only) {
        p = (struct plan){.now_s = clock_unix_ms() / 1000};
    } else {
        rc = rc || w->latest->n == 0 ? rc : sqlite_latest_step(w, false);
        if (w->folded.filling) {
            return rc == UV_EAGAIN ? 0 : rc; /* first what it has yet to look through */
        }
        rc = rc == UV_EAGAIN ? 0 : rc;
        rc = rc ? rc : sqlite_retention_make_plan(w, &p);
    }
    if (rc) {
        return rc;
    }
    if (p.upto || p.keys || w->rules.probe || w->rules.reported > w->retained.reported) {
        rc = sqlite_retention_carry_out(w, &p);
    }
    rc = rc || w->rules.watch_only ? rc : sqlite_retention_give_back(w);
    sqlite_retention_measure(w);
    return rc;
}

int sqlite_retain_run(struct sqlite_writer *w)
{
    w->db.busy_ms = LOCK_PATIENCE_MS < w->busy_ms ? LOCK_PATIENCE_MS : w->busy_ms;
    int rc = sqlite_retention_steps(w);
    w->db.busy_ms = w->busy_ms;
    return rc;
}
