/* A SQLite connection and its statements: see sqlite_db.h. */
#include "store/sqlite/sqlite_db.h"

#include "base/require.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

int sqlite_db_error(int sqlite_rc)
{
    if (sqlite_rc == SQLITE_CONSTRAINT_TRIGGER) { /* latest_keep: the only one that appends meet */
        return STORE_TOPICS_FULL;
    }
    switch (sqlite_rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return UV_EBUSY;
    case SQLITE_FULL:
        return UV_ENOSPC;
    case SQLITE_NOMEM:
        return UV_ENOMEM;
    case SQLITE_READONLY:
        return UV_EROFS;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN:
        return UV_EACCES;
    case SQLITE_TOOBIG:
        return UV_E2BIG;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
        return UV_EINVAL;
    default: /* IOERR, CORRUPT, NOTADB and unexpected codes */
        return UV_EIO;
    }
}

int sqlite_db_fail(const struct sqlite_db *db, struct err *e, const char *what)
{
    int rc = sqlite_db_error(sqlite3_errcode(db->db));
    const char *then =
        rc == UV_ENOSPC  ? ": free some space on its disk, or lower store.retain_bytes"
        : rc == UV_EROFS ? ": is its disk mounted read-only, and do its files belong to this user?"
                         : "";
    return err_set(e, rc ? rc : UV_EIO, "%s: %s%s", what, sqlite3_errmsg(db->db), then);
}

sqlite3_stmt *sqlite_db_stmt(struct sqlite_db *db, enum sqlite_statement which)
{
    static const char *const text[] = {
#define X(name, sql) [SQLITE_##name] = (sql),
        SQLITE_STATEMENTS(X)
#undef X
    };
    sqlite3_stmt **st = &db->stmt[which];
    if (!*st) {
        (void)sqlite3_prepare_v3(db->db, text[which], -1, SQLITE_PREPARE_PERSISTENT, st, NULL);
        return *st; /* NULL: sqlite_db_fail() knows why */
    }
    (void)sqlite3_reset(*st); /* repeats the error of the last step, which was handled then */
    (void)sqlite3_clear_bindings(*st);
    return *st;
}

int sqlite_db_run(struct sqlite_db *db, enum sqlite_statement which, int n, const int64_t *args)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, which);
    if (!st) {
        return sqlite3_errcode(db->db);
    }
    int rc = SQLITE_OK;
    for (int i = 0; i < n && rc == SQLITE_OK; i++) {
        rc = sqlite3_bind_int64(st, i + 1, args[i]);
    }
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(st);
    }
    (void)sqlite3_reset(st);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Steps once and resets. */
static int sqlite_db_step_integer(sqlite3_stmt *st, int64_t missing, int64_t *out)
{
    int rc = sqlite3_step(st);
    *out = missing;
    if (rc == SQLITE_ROW) {
        *out = sqlite3_column_int64(st, 0);
    }
    (void)sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int sqlite_db_integer(struct sqlite_db *db, enum sqlite_statement which, int64_t missing,
                      int64_t *out)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, which);
    return st ? sqlite_db_step_integer(st, missing, out) : sqlite3_errcode(db->db);
}

int sqlite_db_meta(struct sqlite_db *db, const char *name, int64_t missing, int64_t *out)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, SQLITE_meta);
    int rc = st ? sqlite_db_bind(st, 1, slice_str(name)) : sqlite3_errcode(db->db);
    return rc == SQLITE_OK ? sqlite_db_step_integer(st, missing, out) : rc;
}

int sqlite_db_meta_set(struct sqlite_db *db, const char *name, int64_t value)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, SQLITE_meta_set);
    int rc = st ? sqlite_db_bind(st, 1, slice_str(name)) : sqlite3_errcode(db->db);
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 2, value) : rc;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    if (st) {
        (void)sqlite3_reset(st);
    }
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int sqlite_db_bind(sqlite3_stmt *st, int at, struct slice text)
{
    return text.p ? sqlite3_bind_text64(st, at, text.p, text.n, SQLITE_STATIC, SQLITE_UTF8)
                  : sqlite3_bind_null(st, at);
}

void sqlite_db_rollback(struct sqlite_db *db)
{
    /* Some errors (disk full, I/O) end the transaction by themselves. */
    if (!sqlite3_get_autocommit(db->db)) {
        (void)sqlite_db_run(db, SQLITE_rollback, 0, NULL);
    }
}

int sqlite_db_moved(struct sqlite_db *db, struct err *e)
{
    const char *file = sqlite3_db_filename(db->db, "main");
    struct stat st;
    if (stat(file, &st) != 0 || st.st_ino != db->file_inode) {
        return err_set(e, UV_EIO, "events.db was moved or deleted under the running store");
    }
    if (st.st_size < db->page_size) {
        return err_set(e, UV_EIO, "events.db was emptied under the running store");
    }
    if (stat(sqlite3_filename_wal(file), &st) != 0 || st.st_ino != db->log_inode) {
        return err_set(e, UV_EIO, "events.db-wal was moved or deleted under the running store");
    }
    return 0;
}

void sqlite_db_close(struct sqlite_db *db)
{
    for (unsigned i = 0; i < SQLITE_STATEMENT_COUNT; i++) {
        (void)sqlite3_finalize(db->stmt[i]);
        db->stmt[i] = NULL;
    }
    REQUIRE(sqlite3_close(db->db) == SQLITE_OK);
    db->db = NULL;
    if (db->lock_fd >= 0) {
        close(db->lock_fd);
        db->lock_fd = -1;
    }
}

/* ------------------------------------------------------------------ the mark */

/* Every id that was handed out here lies below a number that stands in events.db-lock, beside the
 * database and so outside of any copy of it. Where an older copy is put in place and the clock is
 * slow, it says what the clock would hide. */

/* Written so far ahead, so that it is written rarely. Not synced: it has to outlive the process. */
enum { MARK_AHEAD = 1 << 16, MARK_TEXT = 21 };

uint64_t sqlite_mark_read(int fd)
{
    char text[MARK_TEXT + 1] = "";
    ssize_t n = pread(fd, text, MARK_TEXT, 0);
    uint64_t mark = n == MARK_TEXT && text[MARK_TEXT - 1] == '\n' ? strtoull(text, NULL, 10) : 0;
    return mark < EVENT_ID_MAX - MARK_AHEAD ? mark : 0;
}

int sqlite_mark_keep_above(struct sqlite_db *db, uint64_t id)
{
    char text[MARK_TEXT + 1];
    if (db->mark >= id + MARK_AHEAD / 2) {
        return 0;
    }
    uint64_t mark = id + MARK_AHEAD;
    (void)snprintf(text, sizeof text, "%020" PRIu64 "\n", mark);
    ssize_t n = pwrite(db->lock_fd, text, MARK_TEXT, 0);
    if (n != MARK_TEXT) {
        return n < 0 ? uv_translate_sys_error(errno) : UV_EIO;
    }
    db->mark = mark;
    return 0;
}
