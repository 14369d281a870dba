/* The newest event of each topic that store.latest names, in a table of its own, with all that is in
 * the event: retention may remove the event itself once it is there. This file: what the database is told of it.
 *
 * A trigger puts rows of other programs there, and refuses those of too many topics, with the reason; a file without
 * store.latest has no such trigger. sqlite_latest_fold.c: what brokers insert, and what is older than the configuration. */
#include "base/logging.h"
#include "base/strbuf.h"
#include "event/topic.h"
#include "store/sqlite/sqlite_writer.h"

#include <stdio.h>

enum { TRIGGER_MAX_BYTES = 1 << 20 }; /* all patterns that the configuration allows need less */

/* Nothing in the triggers needs a SQLite newer than 3.9: they run in other programs. */
static const char sqlite_latest_tables[] =
    "CREATE TABLE IF NOT EXISTS latest(seq INTEGER PRIMARY KEY, topic TEXT NOT NULL UNIQUE, type TEXT,\n"
    "  data TEXT NOT NULL, attrs TEXT, key TEXT, created INTEGER NOT NULL, expires INTEGER);\n"
    "CREATE INDEX IF NOT EXISTS latest_expires ON latest(expires) WHERE expires IS NOT NULL;\n"
    "CREATE TABLE IF NOT EXISTS latest_state(one INTEGER PRIMARY KEY CHECK (one = 1),\n"
    "  patterns TEXT NOT NULL, most INTEGER NOT NULL, topics INTEGER NOT NULL,\n"
    "  done INTEGER NOT NULL, upto INTEGER NOT NULL);\n"
    /* erased before they were folded: what is older is not the newest either */
    "CREATE TABLE IF NOT EXISTS latest_gone(topic TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;\n"
    "INSERT OR IGNORE INTO latest_state VALUES (1, '', 0, 0, 0, 0);\n"
    "CREATE TRIGGER IF NOT EXISTS latest_more AFTER INSERT ON latest BEGIN\n"
    "  UPDATE latest_state SET topics = topics + 1;\n"
    "END;\n"
    "CREATE TRIGGER IF NOT EXISTS latest_less AFTER DELETE ON latest BEGIN\n"
    "  UPDATE latest_state SET topics = topics - 1;\n"
    "END;\n";

static const char sqlite_latest_drop[] = "DROP TRIGGER IF EXISTS latest_keep;\n"
                                         "DROP TABLE IF EXISTS latest;\n"
                                         "DROP TABLE IF EXISTS latest_gone;\n"
                                         "DROP TABLE IF EXISTS latest_state;\n";

static const char sqlite_latest_trigger_body[] =
    " BEGIN\n"
    "  SELECT RAISE(ABORT, 'topic: would be one more than store.latest_topics') FROM latest_state\n"
    "    WHERE NEW.data <> '' AND topics >= most\n"
    "    AND NOT EXISTS (SELECT 1 FROM latest WHERE topic = NEW.topic);\n"
    "  UPDATE latest SET seq = NEW.seq, type = NEW.type, data = NEW.data, attrs = NEW.attrs,\n"
    "    key = NEW.key, created = NEW.created, expires = NEW.expires\n"
    "    WHERE NEW.data <> '' AND topic = NEW.topic;\n"
    "  INSERT INTO latest SELECT NEW.seq, NEW.topic, NEW.type, NEW.data, NEW.attrs, NEW.key,\n"
    "    NEW.created, NEW.expires WHERE NEW.data <> ''\n"
    "    AND NOT EXISTS (SELECT 1 FROM latest WHERE topic = NEW.topic);\n"
    "  DELETE FROM latest WHERE NEW.data = '' AND topic = NEW.topic;\n"
    "END;\n";

/* ------------------------------------------------------------------ patterns in SQL */

/* As text of SQL; `glob`: as a pattern of GLOB that matches nothing but it. */
static int sqlite_latest_put_text(struct strbuf *sql, struct slice text, bool glob)
{
    int rc = 0;
    for (size_t i = 0; i < text.n && rc == 0; i++) {
        char c = text.p[i];
        if (glob && (c == '[' || c == '?')) {
            rc = strbuf_printf(sql, "[%c]", c);
        } else {
            rc = strbuf_append(sql, c == '\'' ? "''" : &text.p[i], c == '\'' ? 2 : 1);
        }
    }
    return rc;
}

/* `rest` without its first segment, which is that. Each '*' doubles the text: the configuration allows
 * few. */
static int sqlite_latest_put_rest(struct strbuf *rest, struct slice segment)
{
    struct strbuf longer;
    struct slice r = strbuf_slice(rest);
    strbuf_init(&longer, TRIGGER_MAX_BYTES);
    int rc;
    if (slice_is(segment, "*")) {
        rc = strbuf_printf(&longer, "substr(%.*s, instr(%.*s, '/') + 1)", (int)r.n, r.p, (int)r.n,
                           r.p);
    } else {
        rc = strbuf_printf(&longer, "substr(%.*s, length('", (int)r.n, r.p);
        rc = rc ? rc : sqlite_latest_put_text(&longer, segment, false);
        rc = rc ? rc : strbuf_append_str(&longer, "') + 2)");
    }
    strbuf_clear(rest);
    *rest = longer;
    return rc;
}

/* A pattern that ends in '**' with '*' before it: segment by segment. */
static int sqlite_latest_put_segments(struct strbuf *sql, const char *column, struct slice pattern)
{
    struct strbuf rest;
    struct slice left = pattern, segment;
    strbuf_init(&rest, TRIGGER_MAX_BYTES);
    int rc = strbuf_append_str(&rest, column);
    const char *and = "";
    while (rc == 0 && topic_next_segment(&left, &segment) && !slice_is(segment, "**")) {
        struct slice r = strbuf_slice(&rest);
        rc = strbuf_printf(sql, "%s%.*s GLOB '", and, (int)r.n, r.p);
        rc = rc                       ? rc
             : slice_is(segment, "*") ? strbuf_append_str(sql, "?*")
                                      : sqlite_latest_put_text(sql, segment, true);
        rc = rc ? rc : strbuf_append_str(sql, "/?*'");
        rc = rc ? rc : sqlite_latest_put_rest(&rest, segment);
        and = " AND ";
    }
    strbuf_clear(&rest);
    return rc;
}

/* The condition that `column` is a topic of `pattern`. GLOB's '*' runs across '/': where no '**'
 * follows, as many slashes as in the pattern leave none to run across. */
static int sqlite_latest_put_pattern(struct strbuf *sql, const char *column, struct slice pattern)
{
    struct slice left = pattern, segment;
    size_t slashes = 0, stars = 0;
    bool deep = false;
    while (topic_next_segment(&left, &segment)) {
        slashes++;
        stars += slice_is(segment, "*");
        deep = slice_is(segment, "**");
    }
    slashes--;
    if (deep && stars) {
        return sqlite_latest_put_segments(sql, column, pattern);
    }
    int rc = strbuf_printf(sql, deep || stars ? "%s GLOB '" : "%s = '", column);
    if (deep) {
        rc = rc ? rc : sqlite_latest_put_text(sql, slice_of(pattern.p, pattern.n - 2), true);
        return rc ? rc : strbuf_append_str(sql, "?*'");
    }
    rc = rc ? rc : sqlite_latest_put_text(sql, pattern, stars > 0);
    if (rc || !stars) {
        return rc ? rc : strbuf_append_str(sql, "'");
    }
    return strbuf_printf(sql, "' AND length(%s) - length(replace(%s, '/', '')) = %zu", column,
                         column, slashes);
}

static int sqlite_latest_put_condition(struct strbuf *sql, const char *column,
                                       const struct store_latest *latest)
{
    int rc = 0;
    for (size_t i = 0; i < latest->n && rc == 0; i++) {
        rc = strbuf_append_str(sql, i ? " OR (" : "(");
        rc = rc ? rc : sqlite_latest_put_pattern(sql, column, slice_str(latest->patterns[i]));
        rc = rc ? rc : strbuf_append_str(sql, ")");
    }
    return rc;
}

int sqlite_latest_put_list(struct strbuf *out, const struct store_latest *latest)
{
    int rc = 0;
    for (size_t i = 0; i < latest->n && rc == 0; i++) {
        rc = strbuf_append_str(out, latest->patterns[i]);
        rc = rc ? rc : strbuf_append_str(out, "\n");
    }
    return rc;
}

/* ------------------------------------------------------------------ configuring */

static int sqlite_latest_exec(struct sqlite_db *db, struct strbuf *sql, int rc)
{
    rc = rc ? SQLITE_NOMEM : sqlite3_exec(db->db, sql->data, NULL, NULL, NULL);
    strbuf_clear(sql);
    strbuf_init(sql, TRIGGER_MAX_BYTES);
    return rc;
}

/* Is there such a table? */
static int sqlite_latest_is_kept(struct sqlite_db *db, bool *kept)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(
        db->db, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'latest_state'", -1,
        &st, NULL);
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    *kept = rc == SQLITE_ROW;
    (void)sqlite3_finalize(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Does the file keep just these already? Sets how many topics there may be. */
static int sqlite_latest_is_same(struct sqlite_db *db, const struct store_latest *latest,
                                 struct slice list, bool *same)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db->db, "UPDATE latest_state SET most = ?1 WHERE patterns = ?2", -1,
                                &st, NULL);
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 1, (int64_t)latest->topics) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 2, list) : rc;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    *same = rc == SQLITE_DONE && sqlite3_changes(db->db) > 0;
    (void)sqlite3_finalize(st);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int sqlite_latest_make_trigger(struct sqlite_db *db, const struct store_latest *latest)
{
    struct strbuf sql;
    strbuf_init(&sql, TRIGGER_MAX_BYTES);
    int rc = strbuf_append_str(&sql, "DROP TRIGGER IF EXISTS latest_keep;\n"
                                     "CREATE TRIGGER latest_keep AFTER INSERT ON events WHEN ");
    rc = rc ? rc : sqlite_latest_put_condition(&sql, "NEW.topic", latest);
    rc = rc ? rc : strbuf_append_str(&sql, sqlite_latest_trigger_body);
    rc = sqlite_latest_exec(db, &sql, rc);
    strbuf_clear(&sql);
    return rc;
}

int sqlite_latest_migrate(struct sqlite_db *db, int64_t version)
{
    bool kept = false;
    int rc = sqlite_latest_is_kept(db, &kept);
    if (rc == SQLITE_OK && kept && version < 2) {
        rc =
            sqlite3_exec(db->db, "ALTER TABLE latest ADD COLUMN expires INTEGER", NULL, NULL, NULL);
    }
    return rc == SQLITE_OK && kept
               ? sqlite3_exec(db->db, "DROP TRIGGER IF EXISTS latest_keep;\nDROP TABLE latest_gone",
                              NULL, NULL, NULL)
               : rc;
}

/* Topics that are not named any more go at once, others are looked for in what is there. */
static int sqlite_latest_change(struct sqlite_db *db, const struct store_latest *latest,
                                struct slice list, uint64_t head)
{
    struct strbuf sql;
    strbuf_init(&sql, TRIGGER_MAX_BYTES);
    int rc = sqlite_latest_make_trigger(db, latest);
    if (rc == SQLITE_OK) {
        rc = strbuf_append_str(&sql, "DELETE FROM latest WHERE NOT (");
        rc = rc ? rc : sqlite_latest_put_condition(&sql, "topic", latest);
        rc = rc ? rc : strbuf_append_str(&sql, ")");
        rc = sqlite_latest_exec(db, &sql, rc);
    }
    if (rc == SQLITE_OK) {
        rc = strbuf_append_str(&sql, "UPDATE latest_state SET patterns = '");
        rc = rc ? rc : sqlite_latest_put_text(&sql, list, false);
        rc = rc ? rc
                : strbuf_printf(&sql,
                                "', most = %llu, done = CASE WHEN EXISTS (SELECT 1 FROM events) "
                                "THEN 0 ELSE %llu END, upto = %llu",
                                (unsigned long long)latest->topics, (unsigned long long)head,
                                (unsigned long long)head);
        rc = sqlite_latest_exec(db, &sql, rc);
    }
    strbuf_clear(&sql);
    return rc;
}

/* In earlier versions the trigger kept all above `upto`. */
static int sqlite_latest_follow_trigger(struct sqlite_db *db, uint64_t head)
{
    char sql[96];
    (void)snprintf(sql, sizeof sql, "UPDATE latest_state SET done = %llu WHERE done >= upto",
                   (unsigned long long)head);
    return sqlite3_exec(db->db, sql, NULL, NULL, NULL);
}

int sqlite_latest_configure(struct sqlite_db *db, const struct store_latest *latest, uint64_t head,
                            bool migrated)
{
    bool kept = false, same = false;
    struct strbuf list;
    int rc = sqlite_latest_is_kept(db, &kept);
    if (rc != SQLITE_OK || (!kept && latest->n == 0)) {
        return rc;
    }
    if (latest->n == 0) {
        log_info("store", "store.latest names no topic any more: their newest events are forgotten",
                 NULL);
        return sqlite3_exec(db->db, sqlite_latest_drop, NULL, NULL, NULL);
    }
    strbuf_init(&list, TRIGGER_MAX_BYTES);
    rc = sqlite_latest_put_list(&list, latest) ? SQLITE_NOMEM : SQLITE_OK;
    rc = rc == SQLITE_OK ? sqlite3_exec(db->db, sqlite_latest_tables, NULL, NULL, NULL) : rc;
    rc = rc == SQLITE_OK ? sqlite_latest_is_same(db, latest, strbuf_slice(&list), &same) : rc;
    if (rc == SQLITE_OK && same && migrated) {
        rc = sqlite_latest_make_trigger(db, latest);
        rc = rc == SQLITE_OK ? sqlite_latest_follow_trigger(db, head) : rc;
    }
    if (rc == SQLITE_OK && !same) {
        rc = sqlite_latest_change(db, latest, strbuf_slice(&list), head);
        log_info("store", "store.latest has changed: looking for its topics in older events", NULL);
    }
    strbuf_clear(&list);
    return rc;
}

int sqlite_latest_look(struct sqlite_db *db, struct sqlite_latest_state *out)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, SQLITE_latest_state);
    int rc = st ? sqlite3_step(st) : SQLITE_ERROR;
    if (rc == SQLITE_ROW) {
        *out =
            (struct sqlite_latest_state){sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                                         sqlite3_column_int64(st, 2), sqlite3_column_int64(st, 3)};
    }
    if (st) {
        (void)sqlite3_reset(st);
    }
    return rc == SQLITE_ROW ? SQLITE_OK : SQLITE_ERROR;
}
