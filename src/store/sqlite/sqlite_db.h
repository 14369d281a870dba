/* One SQLite connection with its prepared statements, and what opening the file means: schema,
 * checks, the leap of the ids. No loop in here: a connection belongs to one thread at a time. */
#ifndef STORE_SQLITE_SQLITE_DB_H
#define STORE_SQLITE_SQLITE_DB_H

#include "base/err.h"
#include "base/slice.h"
#include "store/store.h"

#include <sqlite3.h>

/* Most leaps kept; older ones are merged, which costs a client of long ago a needless gap. */
enum { SQLITE_LEAPS_MAX = 1024 };

/* X(name, sql): statements of a connection, prepared when first used */
#define SQLITE_STATEMENTS(X)                                                                       \
    X(begin, "BEGIN")                                                                              \
    X(begin_write, "BEGIN IMMEDIATE")                                                              \
    X(commit, "COMMIT")                                                                            \
    X(rollback, "ROLLBACK")                                                                        \
    X(data_version, "PRAGMA data_version")                                                         \
    X(insert, "INSERT INTO events(topic, type, data, attrs, key, created) "                        \
              "VALUES (?1, ?2, ?3, ?4, ?5, ?6)")                                                   \
    X(insert_expiring, "INSERT INTO events(topic, type, data, attrs, key, created, expires) "      \
                       "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")                                      \
    X(key_find, "SELECT seq FROM dedup WHERE key = ?1 AND at > ?2")                                \
    X(key_put, "REPLACE INTO dedup(key, seq, at) VALUES (?1, ?2, ?3)")                             \
    X(keys_expired, "SELECT 1 FROM dedup WHERE at <= ?1 LIMIT 1")                                  \
    X(keys_expire, "DELETE FROM dedup WHERE key IN "                                               \
                   "(SELECT key FROM dedup WHERE at <= ?1 ORDER BY at LIMIT ?2)")                  \
    X(rows, "SELECT seq, topic, type, data, attrs, key, created, expires FROM events "             \
            "WHERE seq > ?1 AND seq <= ?2 ORDER BY seq")                                           \
    X(row_times, "SELECT seq, created FROM events WHERE seq <= ?1 ORDER BY seq LIMIT ?2")          \
    X(row_at, "SELECT seq, created FROM events WHERE seq >= ?1 ORDER BY seq LIMIT 1")              \
    X(count, "SELECT count(*), max(seq) FROM "                                                     \
             "(SELECT seq FROM events WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3)")        \
    X(remove, "DELETE FROM events WHERE seq <= ?1")                                                \
    X(head, "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0), "    \
            "coalesce((SELECT max(seq) FROM events), 0))")                                         \
    X(look, "SELECT coalesce((SELECT value FROM meta WHERE name = 'trimmed'), 0), "                \
            "max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0), "           \
            "coalesce((SELECT max(seq) FROM events), 0)), "                                        \
            "(SELECT created FROM events WHERE seq = ?1), l.after, l.upto, "                       \
            "coalesce((SELECT value FROM meta WHERE name = 'erased'), 0) FROM (SELECT 1) "         \
            "LEFT JOIN (SELECT after, upto FROM leaps WHERE after < ?1 "                           \
            "ORDER BY after DESC LIMIT 1) l")                                                      \
    X(head_set, "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'events'")                       \
    X(head_add, "INSERT INTO sqlite_sequence(name, seq) VALUES ('events', ?1)")                    \
    X(meta, "SELECT value FROM meta WHERE name = ?1")                                              \
    X(meta_set, "REPLACE INTO meta(name, value) VALUES (?1, ?2)")                                  \
    X(leaps, "SELECT after, upto FROM leaps ORDER BY after")                                       \
    X(leaps_clear, "DELETE FROM leaps")                                                            \
    X(leap_add, "REPLACE INTO leaps(after, upto) VALUES (?1, ?2)")                                 \
    X(latest_state, "SELECT topics, done, upto, most FROM latest_state")                           \
    X(latest_done, "UPDATE latest_state SET done = ?1")                                            \
    X(latest_upto, "UPDATE latest_state SET upto = ?1")                                            \
    X(latest_unfolded, "SELECT seq, topic, data = '' FROM events WHERE seq > ?1 AND seq <= ?2 "    \
                       "ORDER BY seq LIMIT ?3")                                                    \
    X(latest_put, "INSERT INTO latest(seq, topic, type, data, attrs, key, created, expires) "      \
                  "SELECT seq, topic, type, data, attrs, key, created, expires FROM events "       \
                  "WHERE seq = ?1 "                                                                \
                  "ON CONFLICT(topic) DO UPDATE SET seq = excluded.seq, type = excluded.type, "    \
                  "data = excluded.data, attrs = excluded.attrs, key = excluded.key, "             \
                  "created = excluded.created, expires = excluded.expires "                        \
                  "WHERE excluded.seq > latest.seq")                                               \
    X(latest_clear, "DELETE FROM latest WHERE seq < ?1 AND "                                       \
                    "topic = (SELECT topic FROM events WHERE seq = ?1)")                           \
    X(latest_any_gone, "SELECT 1 FROM latest_gone LIMIT 1")                                        \
    X(latest_drop_gone, "DELETE FROM latest WHERE EXISTS (SELECT 1 FROM latest_gone AS g "         \
                        "WHERE g.topic = latest.topic AND g.seq > latest.seq)")                    \
    X(latest_forget_gone, "DELETE FROM latest_gone WHERE seq <= (SELECT done FROM latest_state)")  \
    X(schema_version, "PRAGMA schema_version")                                                     \
    X(latest_same, "SELECT patterns = ?1, "                                                        \
                   "(SELECT count(*) FROM pragma_table_info('latest')) = 8 AND "                   \
                   "NOT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND "           \
                   "tbl_name IN ('events', 'dedup', 'latest', 'latest_gone') AND name NOT IN "     \
                   "('events_immutable', 'latest_keep', 'latest_more', 'latest_less')) "           \
                   "FROM latest_state")                                                            \
    X(latest_count, "UPDATE latest_state SET topics = topics + ?1")                                \
    X(latest_rows, "SELECT seq, topic, type, data, attrs, key, created, expires FROM latest "      \
                   "WHERE seq > ?1 AND seq <= ?2 ORDER BY seq")                                    \
    X(latest_of_topic, "SELECT seq, topic FROM latest WHERE topic = ?1")                           \
    X(latest_of_prefix, "SELECT seq, topic FROM latest WHERE topic >= ?1 AND topic < ?2")          \
    X(latest_expired, "SELECT 1 FROM latest WHERE expires <= ?1 LIMIT 1")                          \
    X(latest_expire, "DELETE FROM latest WHERE seq IN (SELECT seq FROM latest "                    \
                     "WHERE expires <= ?1 ORDER BY expires, seq LIMIT ?2)")                        \
    X(erase_key, "DELETE FROM dedup WHERE seq = ?1 AND "                                           \
                 "key = (SELECT key FROM events WHERE seq = ?1)")                                  \
    X(erase, "DELETE FROM events WHERE seq = ?1")                                                  \
    X(erase_latest_key, "DELETE FROM dedup WHERE seq = ?1 AND "                                    \
                        "key = (SELECT key FROM latest WHERE seq = ?1)")                           \
    X(erase_latest, "DELETE FROM latest WHERE seq = ?1")                                           \
    X(erase_unfolded, "INSERT INTO latest_gone(topic, seq) SELECT topic, seq FROM events "         \
                      "WHERE seq = ?1 AND seq > (SELECT done FROM latest_state) "                  \
                      "ON CONFLICT(topic) DO UPDATE SET seq = max(seq, excluded.seq)")             \
    X(erased_add, "REPLACE INTO erased(seq, batch, at) VALUES (?1, ?2, ?3)")                       \
    X(erased_since, "SELECT seq, batch FROM erased WHERE batch > ?1 ORDER BY batch")               \
    X(erased_from, "SELECT seq FROM erased WHERE seq > ?1 ORDER BY seq")                           \
    X(erased_forget, "DELETE FROM erased WHERE seq <= ?1 AND at < ?2")                             \
    X(presence_data, "SELECT data FROM presence WHERE topic = ?1 LIMIT 1")                         \
    X(presence_put, "REPLACE INTO presence(topic, broker, data) VALUES (?1, ?2, ?3)")              \
    X(presence_same, "UPDATE presence SET data = ?2 WHERE topic = ?1 AND data <> ?2")              \
    X(presence_take, "DELETE FROM presence WHERE topic = ?1 AND broker = ?2")                      \
    X(presence_event, "INSERT INTO events(topic, data, created) VALUES (?1, ?2, ?3)")              \
    X(presence_next, "SELECT min(broker) FROM presence WHERE broker > ?1")                         \
    X(presence_of, "SELECT topic FROM presence WHERE broker = ?1 LIMIT 1")                         \
    X(page_count, "PRAGMA page_count")                                                             \
    X(freelist_count, "PRAGMA freelist_count")

enum sqlite_statement {
#define X(name, sql) SQLITE_##name,
    SQLITE_STATEMENTS(X)
#undef X
        SQLITE_STATEMENT_COUNT
};

struct sqlite_db {
    sqlite3 *db;
    sqlite3_stmt *stmt[SQLITE_STATEMENT_COUNT];
    unsigned busy_ms;    /* how long to wait for the lock of another writer */
    uint64_t busy_since; /* uv_hrtime() of the first refusal; 0: not waiting */
    bool opening;        /* it is being opened, and has not said yet that it waits */
    sqlite3_int64 page_size;
    int lock_fd;    /* of a writer: tells others that the file is in use; -1: none */
    int64_t broker; /* of a writer: this process, as long as it has the file open; > 0 */
    /* of a writer: which files these are; see sqlite_db_moved() */
    uint64_t file_inode, log_inode;
    uint64_t mark; /* of a writer: see sqlite_mark_keep_above() */
};

/* Sorted by `after`, never overlapping, never more than SQLITE_LEAPS_MAX. */
struct sqlite_leaps {
    struct store_leap *v; /* owned, SQLITE_LEAPS_MAX + 1 entries; NULL: not loaded */
    size_t n;
};

struct sqlite_opened {
    uint64_t head, trimmed;
    struct sqlite_leaps leaps; /* owned by the caller */
    uint64_t reported;         /* bad rows up to here were logged */
    uint64_t newest;           /* id that was handed out, as far as the file or the mark tells */
};

/* The writing connection: makes directory, file and schema, checks them, and leaps. `unix_ms` is
 * the clock (a parameter for specs). */
int sqlite_db_open_writer(struct sqlite_db *db, const char *dir, bool synchronous_full,
                          unsigned busy_ms, int64_t unix_ms, const struct store_latest *latest,
                          struct sqlite_opened *out, struct err *e);
/* A reading connection; the writer's must be open. */
int sqlite_db_open_reader(struct sqlite_db *db, const char *dir, unsigned busy_ms, struct err *e);
void sqlite_db_close(struct sqlite_db *db);

/* Is the process whose `broker` that is still there? The kernel knows, however it ended. */
bool sqlite_db_broker_lives(const struct sqlite_db *db, int64_t broker);

/* SQLite result -> negative UV_E*. */
int sqlite_db_error(int sqlite_rc);
/* Sets `e` from the connection's last error: "WHAT: text of SQLite". Returns e->code. */
int sqlite_db_fail(const struct sqlite_db *db, struct err *e, const char *what);

/* The statement, reset and without bindings; NULL when it cannot be prepared. */
sqlite3_stmt *sqlite_db_stmt(struct sqlite_db *db, enum sqlite_statement which);
/* Runs one that returns nothing of interest, with up to three integers. Returns a SQLite result. */
int sqlite_db_run(struct sqlite_db *db, enum sqlite_statement which, int n, const int64_t *args);
/* First column of the first row, `missing` when there is none. Returns a SQLite result. */
int sqlite_db_integer(struct sqlite_db *db, enum sqlite_statement which, int64_t missing,
                      int64_t *out);
int sqlite_db_meta(struct sqlite_db *db, const char *name, int64_t missing, int64_t *out);
int sqlite_db_meta_set(struct sqlite_db *db, const char *name, int64_t value);
/* Binds text (an absent slice: NULL). The bytes are borrowed until the statement is reset. */
int sqlite_db_bind(sqlite3_stmt *st, int at, struct slice text);
/* Was the file, or its log, moved, deleted or emptied under us? What is written now would be gone
 * after a restart. */
int sqlite_db_moved(struct sqlite_db *db, struct err *e);
/* Ends a transaction that failed, if SQLite has not done so by itself. */
void sqlite_db_rollback(struct sqlite_db *db);

/* The number in the lock file; 0: none. */
uint64_t sqlite_mark_read(int fd);
/* Before `id` is handed out: the mark is above it. Negative UV_E*: it cannot be written. */
int sqlite_mark_keep_above(struct sqlite_db *db, uint64_t id);

/* sqlite_latest.c. In the opening transaction: the file keeps the newest events of these topics from
 * now on, and of no others. `migrated`: the file was of an earlier version. Returns a SQLite result. */
int sqlite_latest_configure(struct sqlite_db *db, const struct store_latest *latest, uint64_t head,
                            bool migrated);
/* From an earlier version. Before the other one, in the same transaction. Returns a SQLite result. */
int sqlite_latest_migrate(struct sqlite_db *db, int64_t version);

/* What is in `latest`: of events up to `done` all that is to be; of later ones what the trigger has put there. `upto`
 * above it: those up to there are too many to be folded with appends. */
struct sqlite_latest_state {
    int64_t topics, done, upto, most;
};
int sqlite_latest_look(struct sqlite_db *db, struct sqlite_latest_state *out);

/* sqlite_lineage.c: ids that no event of this file has. All return a SQLite result. */
int sqlite_db_leaps_load(struct sqlite_db *db, struct sqlite_leaps *out);
/* In an open write transaction: `leaps` as loaded gain (after, upto], and the next id lies above. */
int sqlite_db_leap(struct sqlite_db *db, struct sqlite_leaps *leaps, uint64_t after, uint64_t upto);
/* In an open write transaction: loads them, and drops those that `trimmed` makes useless. */
int sqlite_db_leaps_trim(struct sqlite_db *db, struct sqlite_leaps *leaps, uint64_t trimmed);
/* sqlite_erase.c. Erased events without a hole among them follow on `after`, up to *reached; at most `upto`. */
int sqlite_erase_explain(struct sqlite_db *db, uint64_t after, uint64_t upto, uint64_t *reached);
/* Ids are dense. Do leaps, retention or erased events explain that no row has an id in (after, upto]? */
int sqlite_db_leaps_explain(struct sqlite_db *db, uint64_t after, uint64_t upto, bool *explained);

#endif
