/* Opening events.db: the schema other programs write to, and the leap of the ids. */
#include "base/logging.h"
#include "base/strbuf.h"
#include "store/sqlite/sqlite_db.h"
#include "store/sqlite/store_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

/* A broker that starts is in no hurry: nobody waits for an answer of it yet. */
enum { OPENING_MS = 30000, OPENING_SAYS_MS = 1000 };

enum { SCHEMA_VERSION = 3, APPLICATION_ID = 0x54494447 /* "TIDG" */ };

/* What other programs see. The names of the constraints are the messages they get. Nothing in here
 * needs a SQLite newer than 3.9 (2015), so that any language's binding can write. Topic grammar and
 * UTF-8 are checked when the row is read.
 *
 * auto_vacuum must be chosen before the first table is made; AUTOINCREMENT keeps ids from being
 * handed out again when retention has emptied the table. */
static const char schema[] =
    "CREATE TABLE events(\n"
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT -- leave it out: the event's id\n"
    "    CONSTRAINT \"seq: leave it out\" CHECK (seq BETWEEN 1 AND 9007199254740991),\n"
    "  topic TEXT NOT NULL CONSTRAINT \"topic: text of 1 to 255 bytes\"\n"
    "    CHECK (typeof(topic) = 'text' AND length(CAST(topic AS BLOB)) BETWEEN 1 AND 255),\n"
    "  type TEXT CONSTRAINT \"type: text of at most 255 bytes, or NULL\"\n"
    "    CHECK (type IS NULL OR typeof(type) = 'text' AND length(CAST(type AS BLOB)) <= 255),\n"
    "  data TEXT NOT NULL CONSTRAINT \"data: text of at most 64 MiB\"\n"
    "    CHECK (typeof(data) = 'text' AND length(CAST(data AS BLOB)) <= 67108864),\n"
    "  attrs TEXT CONSTRAINT \"attrs: a JSON object of at most 4096 bytes, or NULL\"\n"
    "    CHECK (attrs IS NULL OR CASE WHEN typeof(attrs) = 'text' AND json_valid(attrs)\n"
    "      THEN json_type(attrs) = 'object' AND length(CAST(attrs AS BLOB)) <= 4096\n"
    "      ELSE 0 END),\n"
    "  key TEXT CONSTRAINT \"key: text of 1 to 255 bytes, or NULL\"\n"
    "    CHECK (key IS NULL OR typeof(key) = 'text'\n"
    "      AND length(CAST(key AS BLOB)) BETWEEN 1 AND 255),\n"
    "  created INTEGER NOT NULL -- Unix time in ms\n"
    "    DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER))\n"
    "    CONSTRAINT \"created: Unix time in ms (13 digits)\" CHECK (typeof(created) = 'integer'\n"
    "      AND created BETWEEN 1000000000000 AND 9999999999999),\n"
    "  expires INTEGER -- Unix time in ms from which on it is not delivered, or NULL\n"
    "    CONSTRAINT \"expires: Unix time in ms (13 digits), or NULL\" CHECK (expires IS NULL\n"
    "      OR typeof(expires) = 'integer' AND expires BETWEEN 1000000000000 AND 9999999999999));\n"
    "CREATE TRIGGER events_immutable BEFORE UPDATE ON events BEGIN\n"
    "  SELECT RAISE(ABORT, 'events cannot be changed: insert a new one');\n"
    "END;\n"
    "CREATE TABLE dedup(key TEXT PRIMARY KEY, seq INTEGER NOT NULL, at INTEGER NOT NULL)\n"
    "  WITHOUT ROWID;\n"
    "CREATE INDEX dedup_at ON dedup(at);\n"
    "CREATE TABLE leaps(after INTEGER PRIMARY KEY, upto INTEGER NOT NULL);\n"
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;\n";

/* Version 2. With a CHECK, SQLite would read every row there is, and nobody could write meanwhile. So a file of
 * before says nothing to who inserts a wrong time: the row is refused when it is read. */
static const char schema_2[] = "ALTER TABLE events ADD COLUMN expires INTEGER";

/* Since the erase command; a program that does not know it leaves it alone. */
static const char schema_erased[] =
    "CREATE TABLE IF NOT EXISTS erased(seq INTEGER PRIMARY KEY, batch INTEGER NOT NULL,\n"
    "  at INTEGER NOT NULL);\n"
    "CREATE INDEX IF NOT EXISTS erased_batch ON erased(batch);\n";

/* The same since presence: which processes have a member, and what they have announced of it. */
static const char schema_presence[] =
    "CREATE TABLE IF NOT EXISTS presence(topic TEXT NOT NULL, broker INTEGER NOT NULL,\n"
    "  data TEXT NOT NULL, PRIMARY KEY(topic, broker)) WITHOUT ROWID;\n"
    "CREATE INDEX IF NOT EXISTS presence_broker ON presence(broker);\n";

/* ------------------------------------------------------------------ several brokers on one file */

/* The lock file beside the database, one byte for each purpose (fcntl(2), open file description
 * locks: the kernel takes them back however a process ends). Byte 0 is held while opening. The byte
 * of the database's inode is shared by all who have it open: a copy that was put in its place is
 * another database. */
static int sqlite_schema_lock_byte(int fd, short type, off_t at, bool wait)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    int rc;
    do {
        rc = fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &range);
    } while (rc != 0 && errno == EINTR);
    return rc ? -errno : 0;
}

/* Who cannot lock does not know whether others serve the file: a leap under a broker that serves it
 * would have it give out ids of the wrong side, no leap after a loss would give ids out twice. */
static int sqlite_schema_no_lock(const char *path, const char *what, int rc, struct err *e)
{
    return err_set(e, rc,
                   "%s-lock: %s: %s; it tells brokers of one another, so this user must be able to "
                   "read, write and lock it",
                   path, what, uv_strerror(rc));
}

/* Brokers that open the file at the same time do so one after the other: SQLite refuses at once,
 * busy handler or not, where two switch a new file to WAL. */
static int sqlite_schema_begin_opening(const char *path, int *out, struct err *e)
{
    char name[4200];
    (void)snprintf(name, sizeof name, "%s-lock", path);
    *out = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*out < 0) {
        return sqlite_schema_no_lock(path, "cannot be opened", -errno, e);
    }
    int rc = sqlite_schema_lock_byte(*out, F_WRLCK, 0, true);
    return rc ? sqlite_schema_no_lock(path, "cannot be locked", rc, e) : 0;
}

/* Does no other broker serve this file? Marks it as served. */
static int sqlite_schema_look_for_others(const struct sqlite_db *db, const char *path, bool *alone,
                                         struct err *e)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        int rc = -errno;
        return err_set(e, rc, "%s: %s", path, uv_strerror(rc));
    }
    off_t at = (off_t)(st.st_ino & INT64_C(0x3fffffffffffffff)) + 1;
    int rc = sqlite_schema_lock_byte(db->lock_fd, F_WRLCK, at, false);
    *alone = rc == 0;
    rc =
        rc == 0 || rc == UV_EAGAIN || rc == UV_EACCES ? 0 : rc; /* fcntl(2): either, if others do */
    rc = rc ? rc : sqlite_schema_lock_byte(db->lock_fd, F_RDLCK, at, false);
    return rc ? sqlite_schema_no_lock(path, "cannot be locked", rc, e) : 0;
}

/* Where the byte of a process is: behind those of databases. */
static const off_t sqlite_schema_brokers_at = (off_t)1 << 62;
#define SCHEMA_BROKER_MAX ((INT64_C(1) << 61) - 1)

/* A byte that is this process's for as long as it has the file open. */
static int sqlite_schema_become_broker(struct sqlite_db *db, const char *path, struct err *e)
{
    int rc;
    do {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
            return err_set(e, UV_EIO, "%s: no random number is to be had", path);
        }
        db->broker = (int64_t)(random & (uint64_t)SCHEMA_BROKER_MAX) | 1;
        rc = sqlite_schema_lock_byte(db->lock_fd, F_WRLCK, sqlite_schema_brokers_at + db->broker,
                                     false);
    } while (rc == UV_EAGAIN || rc == UV_EACCES);
    return rc ? sqlite_schema_no_lock(path, "cannot be locked", rc, e) : 0;
}

bool sqlite_db_broker_lives(const struct sqlite_db *db, int64_t broker)
{
    struct flock range = {.l_type = F_WRLCK,
                          .l_whence = SEEK_SET,
                          .l_start = sqlite_schema_brokers_at + broker,
                          .l_len = 1};
    return broker == db->broker || fcntl(db->lock_fd, F_OFD_GETLK, &range) != 0 ||
           range.l_type != F_UNLCK;
}

/* In the opening transaction: from here on every id is greater than any this file, or a lost later
 * version of it, may have handed out: above what the clock says, and above the mark, should the
 * clock be slow. The first broker on the file sees to it. Those that join it
 * do not: the first would not know of the leap, and take ids below it for those of another store.
 */
static int sqlite_schema_leap(struct sqlite_db *db, int64_t unix_ms, bool alone,
                              struct sqlite_opened *out)
{
    int64_t head = 0, trimmed = 0, reported = 0;
    int rc = sqlite_db_integer(db, SQLITE_head, 0, &head);
    rc = rc == SQLITE_OK ? sqlite_db_meta(db, "trimmed", 0, &trimmed) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_meta(db, "reported", 0, &reported) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_leaps_load(db, &out->leaps) : rc;
    if (rc != SQLITE_OK) {
        return rc;
    }
    int64_t floor = (int64_t)store_id_floor(unix_ms), mark = (int64_t)sqlite_mark_read(db->lock_fd);
    out->newest = (uint64_t)(alone && mark > head ? mark : head);
    floor = floor > mark ? floor : mark;
    if (alone && floor > head) { /* false only when the clock was set back */
        rc = sqlite_db_leap(db, &out->leaps, (uint64_t)head, (uint64_t)floor);
        head = floor;
    }
    out->head = (uint64_t)head;
    out->trimmed = (uint64_t)trimmed;
    out->reported = (uint64_t)reported;
    return rc;
}

/* ------------------------------------------------------------------ opening */

/* Waits in small steps, the smaller the sooner, so that a lock held by short transactions (one of
 * another worker takes as long as an fsync) is got soon; SQLite's own handler backs off to 100 ms
 * and starves. */
static int sqlite_schema_wait_for_lock(void *ctx, int times)
{
    struct sqlite_db *db = ctx;
    uint64_t now = uv_hrtime();
    if (times == 0) {
        db->busy_since = now;
    }
    if (now - db->busy_since >= (uint64_t)db->busy_ms * 1000000) {
        return 0;
    }
    if (db->opening && now - db->busy_since >= (uint64_t)OPENING_SAYS_MS * 1000000) {
        db->opening = false; /* once is enough */
        log_warn("store", "another program holds the lock of the event store: waiting to open it",
                 LOG_F(log_str("path", sqlite3_db_filename(db->db, "main")),
                       log_uint("at_most_ms", db->busy_ms)));
    }
    struct timespec nap = {.tv_nsec = times < 10 ? 50000 : times < 30 ? 500000 : 3000000};
    (void)nanosleep(&nap, NULL);
    return 1;
}

static int sqlite_schema_exec(struct sqlite_db *db, const char *sql)
{
    return sqlite3_exec(db->db, sql, NULL, NULL, NULL);
}

static int64_t sqlite_schema_pragma_value(struct sqlite_db *db, const char *sql)
{
    sqlite3_stmt *st = NULL;
    int64_t value = -1;
    if (sqlite3_prepare_v2(db->db, sql, -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW) {
        value = sqlite3_column_int64(st, 0);
    }
    (void)sqlite3_finalize(st);
    return value;
}

static int sqlite_schema_open_file(struct sqlite_db *db, const char *path, int flags,
                                   unsigned busy_ms, struct err *e)
{
    *db = (struct sqlite_db){.busy_ms = busy_ms, .lock_fd = -1};
    int rc = sqlite3_open_v2(path, &db->db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                             NULL);
    if (!db->db) {
        return err_set(e, UV_ENOMEM, "%s: no memory to open it", path);
    }
    (void)sqlite3_extended_result_codes(db->db, 1);
    if (rc != SQLITE_OK) {
        return sqlite_db_fail(db, e, path);
    }
    (void)sqlite3_busy_handler(db->db, sqlite_schema_wait_for_lock, db);
    return 0;
}

static int sqlite_schema_judge(const char *path, bool foreign, int64_t version, struct err *e)
{
    if (foreign) {
        return err_set(e, UV_EINVAL, "%s: is a database of another program; move it away", path);
    }
    if (version > SCHEMA_VERSION) {
        return err_set(e, UV_ENOTSUP,
                       "%s: was written by a newer Tidegate (schema %lld, this one knows up to "
                       "%d): install that version of Tidegate here, too",
                       path, (long long)version, SCHEMA_VERSION);
    }
    return 0;
}

/* Is this file ours, and of a version we know? 0 when it is new. */
static int sqlite_schema_check_identity(struct sqlite_db *db, const char *path, struct err *e)
{
    int64_t tables = sqlite_schema_pragma_value(db, "SELECT count(*) FROM sqlite_master");
    if (tables < 0) {
        (void)sqlite_db_fail(db, e, path);
        if (sqlite3_errcode(db->db) == SQLITE_NOTADB) {
            return err_set(e, UV_EINVAL, "%s: is not a SQLite database; move it away", path);
        }
        return e->code;
    }
    int64_t version = sqlite_schema_pragma_value(db, "PRAGMA user_version");
    int64_t application = sqlite_schema_pragma_value(db, "PRAGMA application_id");
    return sqlite_schema_judge(path, tables && application != APPLICATION_ID, version, e);
}

/* What to do about a directory. */
static const char *sqlite_schema_remedy(int rc)
{
    switch (rc) {
    case UV_EACCES:
    case UV_EPERM:
        return "; give it to the user that runs the broker (chown), or choose another store.path";
    case UV_ENOENT:
        return "; make the one above it, or choose another store.path";
    case UV_EROFS:
        return "; its disk is mounted read-only: mount it for writing, or choose another store.path";
    default:
        return "";
    }
}

static int sqlite_schema_make_directory(const char *dir, struct err *e)
{
    struct stat st;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        int rc = -errno;
        return err_set(e, rc, "%s: cannot make this directory: %s%s", dir, uv_strerror(rc),
                       sqlite_schema_remedy(rc));
    }
    if (stat(dir, &st) != 0) {
        int rc = -errno;
        return err_set(e, rc, "%s: %s", dir, uv_strerror(rc));
    }
    if (!S_ISDIR(st.st_mode)) {
        return err_set(e, UV_ENOTDIR, "%s: is not a directory; expected one for events.db", dir);
    }
    if (access(dir, R_OK | W_OK | X_OK) != 0) {
        int rc = -errno;
        return err_set(e, rc, "%s: cannot write into this directory: %s%s", dir, uv_strerror(rc),
                       sqlite_schema_remedy(rc));
    }
    return 0;
}

/* SQLite gives its other files the mode of this one, and makes it as the umask says: others read then.
 * One that is there is not touched; closing it would let go of locks that are held on it. */
static void sqlite_schema_make_private(const char *dir, const char *path)
{
    struct stat file, st;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        close(fd);
    } else if (stat(path, &file) == 0 && stat(dir, &st) == 0 && file.st_mode & S_IROTH &&
               st.st_mode & S_IXOTH) {
        log_warn("store",
                 "every user of this machine can read the events: chmod o= the directory or the "
                 "files",
                 LOG_F(log_str("file", path)));
    } /* else SQLite says what is wrong with it */
}

/* While it is open, SQLite keeps both. */
static int sqlite_schema_remember_files(struct sqlite_db *db, struct err *e)
{
    const char *file = sqlite3_db_filename(db->db, "main");
    const char *log = sqlite3_filename_wal(file);
    struct stat st, log_st;
    if (stat(file, &st) != 0 || stat(log, &log_st) != 0) {
        int rc = -errno;
        return err_set(e, rc, "%s: cannot be looked at: %s", file, uv_strerror(rc));
    }
    db->file_inode = st.st_ino;
    db->log_inode = log_st.st_ino;
    return 0;
}

static int sqlite_schema_prepare_file(struct sqlite_db *db, const char *path, bool synchronous_full,
                                      int64_t unix_ms, const struct store_latest *latest,
                                      struct sqlite_opened *out, struct err *e)
{
    int rc = sqlite_schema_check_identity(db, path, e);
    if (rc) {
        return rc;
    }
    if (sqlite_schema_exec(db, "PRAGMA auto_vacuum = INCREMENTAL") != SQLITE_OK ||
        sqlite_schema_exec(db, "PRAGMA journal_mode = WAL") != SQLITE_OK ||
        sqlite_schema_exec(db, synchronous_full ? "PRAGMA synchronous = FULL"
                                                : "PRAGMA synchronous = NORMAL") != SQLITE_OK ||
        /* a log that one long reader made grow shrinks again */
        sqlite_schema_exec(db, "PRAGMA journal_size_limit = 67108864") != SQLITE_OK ||
        sqlite_schema_exec(db, "PRAGMA cache_size = -16384") != SQLITE_OK ||
        /* zeros over what is deleted, where that costs no write: see sqlite_erase.c */
        sqlite_schema_exec(db, "PRAGMA secure_delete = FAST") != SQLITE_OK ||
        sqlite_schema_exec(db, "BEGIN IMMEDIATE") != SQLITE_OK) {
        return sqlite_db_fail(db, e, path);
    }
    /* Now no other process can make the schema at the same time. */
    int64_t version = sqlite_schema_pragma_value(db, "PRAGMA user_version");
    bool migrated = version > 0 && version < SCHEMA_VERSION;
    char stamp[96];
    (void)snprintf(stamp, sizeof stamp, "PRAGMA application_id = %d; PRAGMA user_version = %d",
                   APPLICATION_ID, SCHEMA_VERSION);
    if ((version == 0 && sqlite_schema_exec(db, schema) != SQLITE_OK) ||
        (version == 1 && sqlite_schema_exec(db, schema_2) != SQLITE_OK) ||
        (migrated && sqlite_latest_migrate(db, version) != SQLITE_OK) ||
        (version < SCHEMA_VERSION && sqlite_schema_exec(db, stamp) != SQLITE_OK)) {
        return sqlite_db_fail(db, e, path);
    }
    if (migrated) {
        log_info(
            "store", "schema migrated",
            LOG_F(log_str("path", path), log_int("from", version), log_int("to", SCHEMA_VERSION)));
    }
    if (sqlite_schema_exec(db, schema_erased) != SQLITE_OK ||
        sqlite_schema_exec(db, schema_presence) != SQLITE_OK) {
        return sqlite_db_fail(db, e, path);
    }
    bool alone = false;
    rc = sqlite_schema_look_for_others(db, path, &alone, e);
    rc = rc ? rc : sqlite_schema_become_broker(db, path, e);
    if (rc) {
        return rc;
    }
    if (sqlite_schema_leap(db, unix_ms, alone, out) != SQLITE_OK) {
        return sqlite_db_fail(db, e, path);
    }
    rc = sqlite_mark_keep_above(db, out->head);
    if (rc) {
        return sqlite_schema_no_lock(path, "cannot be written", rc, e);
    }
    if (sqlite_latest_configure(db, latest, out->head, migrated) != SQLITE_OK ||
        sqlite_schema_exec(db, "COMMIT") != SQLITE_OK) {
        return sqlite_db_fail(db, e, path);
    }
    db->page_size = sqlite_schema_pragma_value(db, "PRAGMA page_size");
    if (db->page_size <= 0) {
        return sqlite_db_fail(db, e, path);
    }
    return sqlite_schema_remember_files(db, e);
}

int sqlite_db_open_writer(struct sqlite_db *db, const char *dir, bool synchronous_full,
                          unsigned busy_ms, int64_t unix_ms, const struct store_latest *latest,
                          struct sqlite_opened *out, struct err *e)
{
    char path[4096];
    *db = (struct sqlite_db){.lock_fd = -1};
    *out = (struct sqlite_opened){0};
    if (snprintf(path, sizeof path, "%s/events.db", dir) >= (int)sizeof path) {
        return err_set(e, UV_ENAMETOOLONG, "%s: is too long a path", dir);
    }
    if (unix_ms <= INT64_C(1735689600000) || store_id_floor(unix_ms) >= EVENT_ID_MAX) {
        return err_set(e, UV_EINVAL, "the clock is wrong (%lld s since 1970): ids are made from it",
                       (long long)(unix_ms / 1000));
    }
    int rc = sqlite_schema_make_directory(dir, e);
    if (rc == 0) {
        int lock;
        rc = sqlite_schema_begin_opening(path, &lock, e);
        if (rc == 0) {
            sqlite_schema_make_private(dir, path);
        }
        rc = rc ? rc
                : sqlite_schema_open_file(db, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                                          busy_ms > OPENING_MS ? busy_ms : OPENING_MS, e);
        db->lock_fd = lock;
        db->opening = true;
        rc = rc ? rc
                : sqlite_schema_prepare_file(db, path, synchronous_full, unix_ms, latest, out, e);
        db->opening = false;
        db->busy_ms = busy_ms;
        (void)sqlite_schema_lock_byte(lock, F_UNLCK, 0,
                                      false); /* where it was not got, there is nothing to undo */
        if (rc) {
            sqlite_db_close(db);
            free(out->leaps.v);
            out->leaps = (struct sqlite_leaps){0};
        }
    }
    return rc;
}

int sqlite_db_open_reader(struct sqlite_db *db, const char *dir, unsigned busy_ms, struct err *e)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/events.db", dir); /* the writer's path fitted */
    int rc = sqlite_schema_open_file(db, path, SQLITE_OPEN_READONLY, busy_ms, e);
    if (rc) {
        sqlite_db_close(db);
    }
    return rc;
}

/* ---------------------------------------------------------------- a look from outside */

/* The file format, https://www.sqlite.org/fileformat.html: numbers begin with the highest byte. */
enum {
    HEADER_BYTES = 72,
    HEADER_SCHEMA_FORMAT = 44, /* 0: no table was ever made */
    HEADER_USER_VERSION = 60,
    HEADER_APPLICATION_ID = 68,
};

static uint32_t sqlite_schema_number(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int sqlite_schema_check_header(const char *path, const unsigned char *head, size_t n,
                                      struct err *e)
{
    static const char magic[] = "SQLite format 3"; /* with its zero byte */
    if (n == 0) {
        return 0; /* it becomes one */
    }
    if (n < HEADER_BYTES || memcmp(head, magic, sizeof magic) != 0) {
        return err_set(e, UV_EINVAL, "%s: is not a SQLite database; move it away", path);
    }
    uint32_t version = sqlite_schema_number(head + HEADER_USER_VERSION);
    bool tables = sqlite_schema_number(head + HEADER_SCHEMA_FORMAT) != 0;
    uint32_t application = sqlite_schema_number(head + HEADER_APPLICATION_ID);
    return sqlite_schema_judge(path, tables && application != APPLICATION_ID, version, e);
}

static int sqlite_schema_check_file(const char *path, struct err *e)
{
    unsigned char head[HEADER_BYTES] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof head);
    int rc = n < 0 ? -errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    if (rc == UV_ENOENT) {
        return 0;
    }
    if (rc == 0) {
        rc = sqlite_schema_check_header(path, head, (size_t)n, e);
    } else {
        err_set(e, rc, "%s: cannot be read by this user: %s", path, uv_strerror(rc));
    }
    if (rc == 0 && access(path, W_OK) != 0) {
        rc = -errno;
        err_set(e, rc, "%s: cannot be written by this user: %s", path, uv_strerror(rc));
    }
    return rc;
}

int store_sqlite_check(const char *dir, struct err *e)
{
    struct strbuf path;
    struct stat st;
    strbuf_init(&path, PATH_MAX + sizeof "/events.db");
    int rc = strbuf_printf(&path, "%s", dir);
    bool there = rc == 0 && stat(dir, &st) == 0;
    const char *must_be_there = path.data;
    if (rc == 0 && !there) { /* it is made, if its parent is there */
        rc = errno == ENOENT ? 0 : -errno;
        must_be_there = dirname(path.data);
    }
    if (rc) {
        err_set(e, rc, "%s: %s", dir, uv_strerror(rc));
    } else if (there && !S_ISDIR(st.st_mode)) {
        rc = err_set(e, UV_ENOTDIR, "%s: is not a directory; expected one for events.db", dir);
    } else if (access(must_be_there, R_OK | W_OK | X_OK) != 0) {
        rc = -errno;
        if (rc == UV_ENOENT) {
            err_set(e, rc, "%s: there is no such directory, and the broker makes only the last one",
                    must_be_there);
        } else {
            err_set(e, rc, "%s: cannot be written by this user: %s", must_be_there,
                    uv_strerror(rc));
        }
    } else if (there) {
        rc = strbuf_printf(&path, "/events.db");
        rc = rc ? err_set(e, rc, "%s: too long", dir) : sqlite_schema_check_file(path.data, e);
    }
    strbuf_clear(&path);
    return rc;
}
