/* See pg_schema.h. Runs one client on a loop of its own until it is done: the same code that never
 * blocks elsewhere, used in a place where nothing else is to be done. */
#include "store/postgres/pg_schema.h"

#include "base/alloc.h"
#include "base/logging.h"
#include "base/program/embedded.h"
#include "base/require.h"
#include "pg/pg_client.h"
#include "store/postgres/pg_session.h"

#include <stdio.h>
#include <stdlib.h>

enum { OLDEST_SERVER = 130000, ANSWER_MS = 130000 };

#define SETUP PG_SETUP_COMMON "SET statement_timeout = 120000; SET lock_timeout = 60000"

/* migrations[i] leads from version i to i + 1 and writes that into tidegate.version itself. */
#define SCHEMA(name) "src/store/postgres/schema/" name ".sql"
static const char *const migrations[PG_SCHEMA_VERSION] = {SCHEMA("schema"),
                                                          SCHEMA("schema_2"),
                                                          SCHEMA("schema_3_ids"),
                                                          SCHEMA("schema_4_changes"),
                                                          SCHEMA("schema_5_latest"),
                                                          SCHEMA("schema_6_erase"),
                                                          SCHEMA("schema_7_presence"),
                                                          SCHEMA("schema_8_keep"),
                                                          SCHEMA("schema_9_expires"),
                                                          SCHEMA("schema_10_sweep"),
                                                          SCHEMA("schema_11_fold")};

struct session {
    uv_loop_t loop;
    struct pg_client *client;
    bool ready, lost, done, closed;
    PGresult *res; /* owned: of the last statement */
    char sqlstate[6];
    struct err error;
};

/* ---------------------------------------------------------------- one statement after the other */

static void pg_schema_on_ready(void *ctx)
{
    ((struct session *)ctx)->ready = true;
}

static void pg_schema_on_lost(void *ctx, const struct err *e)
{
    struct session *n = ctx;
    n->lost = true;
    n->ready = false;
    n->error = *e;
}

static void pg_schema_on_done(void *ctx, uint64_t token, const PGresult *res,
                              const struct pg_fault *f)
{
    struct session *n = ctx;
    (void)token;
    n->done = true;
    PQclear(n->res);
    n->res = res ? PQcopyResult(res, PG_COPYRES_ATTRS | PG_COPYRES_TUPLES) : NULL;
    n->sqlstate[0] = '\0';
    if (f) {
        (void)snprintf(n->sqlstate, sizeof n->sqlstate, "%s", f->sqlstate);
        (void)err_set(&n->error, f->code, "%s", f->text);
    }
}

static void pg_schema_on_closed(void *ctx)
{
    ((struct session *)ctx)->closed = true;
}

/* `name` NULL: plain text, several statements. */
static int pg_schema_run(struct session *n, const char *name, const char *sql, struct pg_args *args)
{
    const struct pg_statement st = {name, sql};
    n->done = false;
    n->error = (struct err){0};
    int rc = pg_client_ask(n->client, &st, args, pg_schema_on_done, n, 0);
    if (rc) {
        return err_set(&n->error, rc, "%s", n->lost ? "the connection broke" : uv_strerror(rc));
    }
    while (!n->done) {
        (void)uv_run(&n->loop, UV_RUN_ONCE);
    }
    return n->error.code;
}

static int pg_schema_session_open(struct session *n, const struct pg_conninfo *conninfo,
                                  struct err *e)
{
    const struct pg_client_events events = {.ready = pg_schema_on_ready, .lost = pg_schema_on_lost};
    const struct pg_client_options opt = {.conninfo = conninfo,
                                          .role = "schema",
                                          .setup = SETUP,
                                          .connect_timeout_ms = PG_CONNECT_MS,
                                          .answer_timeout_ms = ANSWER_MS,
                                          .once = true};
    *n = (struct session){.ready = false};
    int rc = uv_loop_init(&n->loop);
    if (rc) {
        return err_set(e, rc, "cannot make an event loop: %s", uv_strerror(rc));
    }
    n->client = pg_client_new(&n->loop, &opt, &events, n);
    while (!n->ready && !n->lost) {
        (void)uv_run(&n->loop, UV_RUN_ONCE);
    }
    if (n->lost) {
        *e = n->error;
    }
    return n->lost ? e->code : 0;
}

static void pg_schema_session_close(struct session *n)
{
    if (n->client) {
        pg_client_close(n->client, pg_schema_on_closed, n);
        while (!n->closed) {
            (void)uv_run(&n->loop, UV_RUN_ONCE);
        }
        REQUIRE(uv_loop_close(&n->loop) == 0);
    }
    PQclear(n->res);
}

/* ---------------------------------------------------------------- is it a database for us? */

struct place {
    char database[128], role[128];
    bool has_schema, may_create, owns_schema, sees_others;
};

static void pg_schema_copy_cell(char *out, size_t size, const PGresult *res, int column)
{
    struct slice s = pg_cell_text(res, 0, column);
    (void)snprintf(out, size, "%.*s", (int)s.n, s.p ? s.p : "");
}

static int pg_schema_look_at_place(struct session *n, struct place *p, struct err *e)
{
    static const char sql[] =
        "SELECT current_database()::text, current_user::text,"
        " current_setting('server_encoding'), s.oid IS NOT NULL,"
        " has_database_privilege(current_database(), 'CREATE'),"
        " coalesce(pg_has_role(s.nspowner, 'USAGE'), false), pg_is_in_recovery(),"
        " pg_has_role('pg_read_all_stats', 'USAGE')"
        " FROM (SELECT 1) one LEFT JOIN pg_namespace s ON s.nspname = 'tidegate'";
    char encoding[64];
    int version = pg_client_server_version(n->client);
    if (version < OLDEST_SERVER) {
        return err_set(e, UV_ENOTSUP, "PostgreSQL %d.%d is too old: 13 or later is needed",
                       version / 10000, version % 10000);
    }
    if (pg_schema_run(n, "place", sql, NULL)) {
        *e = n->error;
        return e->code;
    }
    pg_schema_copy_cell(p->database, sizeof p->database, n->res, 0);
    pg_schema_copy_cell(p->role, sizeof p->role, n->res, 1);
    pg_schema_copy_cell(encoding, sizeof encoding, n->res, 2);
    p->has_schema = pg_cell_bool(n->res, 0, 3);
    p->may_create = pg_cell_bool(n->res, 0, 4);
    p->owns_schema = pg_cell_bool(n->res, 0, 5);
    p->sees_others = pg_cell_bool(n->res, 0, 7);
    if (strcmp(encoding, "UTF8") != 0) {
        return err_set(e, UV_ENOTSUP,
                       "database \"%s\" has the encoding %s, events are UTF-8: make one with "
                       "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
                       p->database, encoding);
    }
    if (pg_cell_bool(n->res, 0, 6)) {
        return err_set(e, UV_EROFS,
                       "the server is a standby: name the primary, or both with "
                       "host=a,b target_session_attrs=read-write");
    }
    return 0;
}

static int pg_schema_not_the_owner(const struct place *p, struct err *e)
{
    return err_set(e, UV_EACCES,
                   "role \"%s\" does not own the schema tidegate of database \"%s\": connect as "
                   "its owner, or ALTER SCHEMA tidegate OWNER TO \"%s\" before the first migration",
                   p->role, p->database, p->role);
}

/* 0: there is no schema. */
static int pg_schema_read_version(struct session *n, const struct place *p, int *version,
                                  struct err *e)
{
    *version = 0;
    if (!p->has_schema) {
        return 0;
    }
    if (!p->owns_schema) {
        return pg_schema_not_the_owner(p, e);
    }
    if (pg_schema_run(n, NULL,
                      "SELECT 1 FROM pg_class WHERE relname = 'version' AND relnamespace ="
                      " 'tidegate'::regnamespace",
                      NULL)) {
        *e = n->error;
        return e->code;
    }
    if (PQntuples(n->res) == 0) {
        return 0; /* CREATE SCHEMA ... AUTHORIZATION, by an administrator */
    }
    /* as jsonb: version 1 has no such column */
    if (pg_schema_run(n, "version",
                      "SELECT version, coalesce((to_jsonb(v)->>'compatible_from')::int, version)"
                      " FROM tidegate.version v ORDER BY version DESC LIMIT 1",
                      NULL)) {
        *e = n->error;
        return err_context(e, "reading tidegate.version");
    }
    if (PQntuples(n->res) == 0) {
        return 0;
    }
    *version = pg_cell_int4(n->res, 0, 0);
    if (pg_cell_int4(n->res, 0, 1) > PG_SCHEMA_VERSION) {
        return err_set(
            e, UV_ENOTSUP,
            "the schema tidegate of database \"%s\" was made by a newer Tidegate "
            "(version %d, this one knows up to %d): install that version of Tidegate here, too",
            p->database, *version, PG_SCHEMA_VERSION);
    }
    return 0;
}

/* ---------------------------------------------------------------- migrating */

static int pg_schema_migrate_failed(struct session *n, const struct place *p, const char *what,
                                    struct err *e)
{
    *e = n->error;
    if (strcmp(n->sqlstate, "42501") == 0) {
        (void)err_set(e, UV_EACCES,
                      "role \"%s\" lacks a right (%s): it must own the schema tidegate of "
                      "database \"%s\"",
                      p->role, n->error.text, p->database);
    }
    return err_context(e, "%s", what);
}

/* Inside a transaction that holds the lock: nobody else migrates now. */
static int pg_schema_migrate_locked(struct session *n, struct place *p, int *version, struct err *e)
{
    int rc = pg_schema_look_at_place(n, p, e); /* another broker may have been first */
    if (rc == 0 && !p->has_schema) {
        if (!p->may_create) {
            return err_set(e, UV_EACCES,
                           "role \"%s\" may not create a schema in database \"%s\": as an "
                           "administrator, CREATE SCHEMA tidegate AUTHORIZATION \"%s\"",
                           p->role, p->database, p->role);
        }
        rc = pg_schema_run(n, NULL, "CREATE SCHEMA tidegate", NULL);
        if (rc) {
            return pg_schema_migrate_failed(n, p, "making the schema tidegate", e);
        }
        p->has_schema = p->owns_schema = true;
    }
    rc = rc ? rc : pg_schema_read_version(n, p, version, e);
    for (; rc == 0 && *version < PG_SCHEMA_VERSION; (*version)++) {
        const struct embedded *script = embedded_find(migrations[*version]);
        REQUIRE(script);
        rc = pg_schema_run(n, NULL, script->data, NULL);
        if (rc) {
            return pg_schema_migrate_failed(n, p, script->path, e);
        }
    }
    return rc;
}

static int pg_schema_migrate_now(struct session *n, struct place *p, int *version, struct err *e)
{
    if (pg_schema_run(n, NULL, "BEGIN; SELECT pg_advisory_xact_lock(1952736100, 3)", NULL)) {
        return pg_schema_migrate_failed(n, p, "waiting for another broker's migration", e);
    }
    int rc = pg_schema_migrate_locked(n, p, version, e);
    if (pg_schema_run(n, NULL, rc ? "ROLLBACK" : "COMMIT", NULL) && rc == 0) {
        rc = pg_schema_migrate_failed(n, p, "committing the schema", e);
    }
    return rc;
}

/* ---------------------------------------------------------------- where ids are */

static int pg_schema_read_position(struct session *n, const struct place *p, uint64_t partition_ids,
                                   struct pg_schema_state *out, struct err *e)
{
    struct pg_args args;
    pg_args_init(&args, 16);
    pg_args_int8(&args, (int64_t)partition_ids);
    if (pg_schema_run(n, "lead", "SELECT tidegate.lead($1::bigint, 0)", &args)) {
        return pg_schema_migrate_failed(n, p, "tidegate.lead()", e);
    }
    /* one snapshot for all of them */
    if (pg_schema_run(n, "position",
                      "SELECT h.seq, r.trimmed, l.after, l.upto,"
                      " (SELECT coalesce(max(batch), 0) FROM tidegate.erased) FROM tidegate.head h,"
                      " tidegate.retention r LEFT JOIN (SELECT * FROM tidegate.leap ORDER BY"
                      " after DESC LIMIT 1000) l ON true ORDER BY l.after",
                      NULL)) {
        return pg_schema_migrate_failed(n, p, "reading the position", e);
    }
    int rows = PQntuples(n->res);
    if (rows < 1 || rows > PG_LEAPS_MAX) {
        return err_set(e, UV_EIO,
                       "tidegate.head or tidegate.retention is empty: the schema was "
                       "changed by hand");
    }
    out->head = (uint64_t)pg_cell_int8(n->res, 0, 0);
    out->trimmed = (uint64_t)pg_cell_int8(n->res, 0, 1);
    out->erased = pg_cell_int8(n->res, 0, 4);
    for (int i = 0; i < rows && !PQgetisnull(n->res, i, 2); i++) {
        out->leaps[out->leap_count++] = (struct store_leap){(uint64_t)pg_cell_int8(n->res, i, 2),
                                                            (uint64_t)pg_cell_int8(n->res, i, 3)};
    }
    if (out->head >= EVENT_ID_MAX) {
        return err_set(e, UV_ERANGE, "the server's clock is wrong: ids are made from it");
    }
    return 0;
}

static int pg_schema_run_all(struct session *n, bool may_migrate, uint64_t partition_ids,
                             struct pg_schema_state *out, struct err *e)
{
    struct place p = {.has_schema = false};
    int rc = pg_schema_look_at_place(n, &p, e);
    rc = rc ? rc : pg_schema_read_version(n, &p, &out->version, e);
    out->was = out->version;
    if (rc == 0 && out->version < PG_SCHEMA_VERSION) {
        if (!may_migrate) {
            return err_set(e, UV_ENOENT,
                           out->version ? "the schema tidegate of database \"%s\" is of an older "
                                          "version: run `tidegate migrate CONF`, or set "
                                          "store.migrate = \"auto\""
                                        : "database \"%s\" has no schema tidegate: run `tidegate "
                                          "migrate CONF`, or set store.migrate = \"auto\"",
                           p.database);
        }
        rc = pg_schema_migrate_now(n, &p, &out->version, e);
        if (rc == 0) {
            log_info("store", "schema migrated",
                     LOG_F(log_str("database", p.database), log_int("from", out->was),
                           log_int("to", out->version)));
        }
    }
    if (rc == 0 && !p.sees_others) {
        log_info("store",
                 "cannot see how long transactions of others have been open: GRANT"
                 " pg_read_all_stats TO this role",
                 LOG_F(log_str("role", p.role)));
    }
    return rc ? rc : pg_schema_read_position(n, &p, partition_ids, out, e);
}

int pg_schema_prepare(const struct pg_conninfo *conninfo, bool may_migrate, uint64_t partition_ids,
                      struct pg_schema_state *out, struct err *e)
{
    struct session n;
    *out = (struct pg_schema_state){0};
    int rc = pg_schema_session_open(&n, conninfo, e);
    rc = rc ? rc : pg_schema_run_all(&n, may_migrate, partition_ids, out, e);
    pg_schema_session_close(&n);
    return rc;
}

int pg_schema_migrate(const char *text, uint64_t partition_ids, int *was, int *version, char *shown,
                      size_t shown_size, struct err *e)
{
    struct pg_conninfo conninfo;
    int rc = pg_conninfo_parse(&conninfo, text, e);
    if (rc) {
        return err_context(e, "store.conninfo");
    }
    struct pg_schema_state *state = xcalloc(1, sizeof *state);
    (void)snprintf(shown, shown_size, "%s", conninfo.shown);
    rc = pg_schema_prepare(&conninfo, true, partition_ids, state, e);
    *was = state->was;
    *version = state->version;
    free(state);
    pg_conninfo_clear(&conninfo);
    return rc;
}
