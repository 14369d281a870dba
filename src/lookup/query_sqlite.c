/* Look-ups of policies in a SQLite file that some application owns: one read-only connection, used
 * by one pool thread at a time.
 *
 * It cannot write, in three ways: the file is opened read only, query_only is set, and the
 * authorizer lets nothing but reading through (also no ATTACH, no PRAGMA). A query that takes too
 * long, or whose caller is gone, is stopped by the progress handler. */
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "lookup/query_backends.h"
#include "lookup/query_sql.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    STATEMENTS_MAX = 64,
    PROGRESS_STEPS = 1000,
    BUSY_SLEEP_MS = 5,
    LIKE_MAX_BYTES = 1000,
    VALUE_MAX_BYTES = 64 * 1024 * 1024, /* not only of what is answered */
};

struct prepared {
    const struct query *query;
    sqlite3_stmt *st;
};

struct query_sqlite {
    struct query_pool pool;
    char *path; /* owned */
    bool closing;

    /* the loop thread while nothing runs, else the pool thread */
    sqlite3 *db;
    struct prepared prepared[STATEMENTS_MAX];
    unsigned prepared_count;

    uv_work_t work;
    struct query_job *job; /* NULL: nothing runs */
    uint64_t until_ns;     /* uv_hrtime() at which it is stopped */
    atomic_bool stop;      /* by the loop thread, while it runs */
};

static struct query_sqlite *query_sqlite_of(struct query_pool *p)
{
    return container_of(p, struct query_sqlite, pool);
}

/* ---------------------------------------------------------------- the connection */

static bool is_over(const struct query_sqlite *s)
{
    return atomic_load(&s->stop) || uv_hrtime() >= s->until_ns;
}

static int on_progress(void *ctx)
{
    return is_over(ctx);
}

/* The file is locked by a writer (not in WAL mode). */
static int on_busy(void *ctx, int tries)
{
    (void)tries;
    if (is_over(ctx)) {
        return 0;
    }
    (void)sqlite3_sleep(BUSY_SLEEP_MS);
    return 1;
}

static int authorize(void *ctx, int action, const char *a, const char *b, const char *db,
                     const char *trigger)
{
    (void)ctx;
    (void)db;
    (void)trigger;
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
        return SQLITE_OK;
    case SQLITE_FUNCTION:
        return b && sqlite3_stricmp(b, "load_extension") == 0 ? SQLITE_DENY : SQLITE_OK;
    case SQLITE_PRAGMA: /* full-text search asks this one, of itself */
        return a && sqlite3_stricmp(a, "data_version") == 0 && !b ? SQLITE_OK : SQLITE_DENY;
    default:
        return SQLITE_DENY;
    }
}

static void close_db(struct query_sqlite *s)
{
    for (unsigned i = 0; i < s->prepared_count; i++) {
        (void)sqlite3_finalize(s->prepared[i].st);
    }
    s->prepared_count = 0;
    REQUIRE(sqlite3_close(s->db) == SQLITE_OK);
    s->db = NULL;
}

static int away(struct query_sqlite *s, struct err *e)
{
    (void)err_set(e, UV_ENOTCONN, "SQLite at %s: %s", s->path,
                  s->db ? sqlite3_errmsg(s->db) : "out of memory");
    close_db(s);
    return e->code;
}

static int open_db(struct query_sqlite *s, struct err *e)
{
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(s->path, &s->db, flags, NULL) != SQLITE_OK) {
        return away(s, e);
    }
    int rc = sqlite3_exec(s->db, "PRAGMA query_only = on", NULL, NULL, NULL);
    rc = rc ? rc : sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    rc = rc ? rc : sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    rc = rc ? rc : sqlite3_busy_handler(s->db, on_busy, s);
    rc = rc ? rc : sqlite3_set_authorizer(s->db, authorize, NULL);
    if (rc) {
        return away(s, e);
    }
    (void)sqlite3_limit(s->db, SQLITE_LIMIT_ATTACHED, 0);
    (void)sqlite3_limit(s->db, SQLITE_LIMIT_LENGTH, VALUE_MAX_BYTES);
    (void)sqlite3_limit(s->db, SQLITE_LIMIT_WORKER_THREADS, 0);
    /* one LIKE cannot be interrupted, and a client's pattern may be in it */
    (void)sqlite3_limit(s->db, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LIKE_MAX_BYTES);
    sqlite3_progress_handler(s->db, PROGRESS_STEPS, on_progress, s);
    return 0;
}

/* Somebody has put another file in its place. */
static bool was_moved(struct query_sqlite *s)
{
    int moved = 0;
    return sqlite3_file_control(s->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
           moved;
}

/* ---------------------------------------------------------------- one query, on a pool thread */

static int query_sqlite_fail(struct query_sqlite *s, struct err *e)
{
    if (is_over(s)) {
        return err_set(e, UV_ETIMEDOUT, "the database did not answer in time");
    }
    switch (sqlite3_errcode(s->db) & 0xff) {
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return away(s, e);
    default:
        return err_set(e, UV_EINVAL, "%s", sqlite3_errmsg(s->db));
    }
}

/* "$1" is a name to SQLite, not a place; other kinds of parameters are not ours. */
static int check_parameters(const struct query *q, sqlite3_stmt *st, struct err *e)
{
    int n = sqlite3_bind_parameter_count(st);
    for (int i = 1; i <= n; i++) {
        const char *name = sqlite3_bind_parameter_name(st, i);
        if (!name || *name != '$' || strspn(name + 1, "0123456789") != strlen(name + 1)) {
            return err_set(e, UV_EINVAL, "parameters are $1, $2 ..., found \"%s\"",
                           name ? name : "?");
        }
    }
    return n == (int)q->parameters
               ? 0
               : err_set(e, UV_EINVAL, "SQLite finds %d parameters where $1 to $%u were expected",
                         n, q->parameters);
}

static int query_sqlite_prepare(struct query_sqlite *s, const struct query *q, sqlite3_stmt **out,
                                struct err *e)
{
    const char *tail = NULL;
    *out = NULL;
    if (sqlite3_prepare_v3(s->db, q->sql, -1, SQLITE_PREPARE_PERSISTENT, out, &tail) != SQLITE_OK) {
        int at = sqlite3_error_offset(s->db);
        (void)query_sqlite_fail(s, e); /* may close the connection */
        if (e->code == UV_EINVAL && at >= 0) {
            query_sql_place(q->sql, (size_t)at, e);
        }
        return e->code;
    }
    int rc = *out ? check_parameters(q, *out, e) : err_set(e, UV_EINVAL, "is empty");
    if (rc == 0 && tail[strspn(tail, " \t\r\n;")] != '\0' && strncmp(tail, "--", 2) != 0) {
        rc = err_set(e, UV_EINVAL, "is more than one statement");
    }
    if (rc) {
        (void)sqlite3_finalize(*out);
    }
    return rc;
}

/* The statement, made or found. */
static int statement(struct query_sqlite *s, const struct query *q, sqlite3_stmt **out,
                     struct err *e)
{
    for (unsigned i = 0; i < s->prepared_count; i++) {
        if (s->prepared[i].query == q) {
            *out = s->prepared[i].st;
            return 0;
        }
    }
    int rc = query_sqlite_prepare(s, q, out, e);
    if (rc) {
        return rc;
    }
    if (s->prepared_count == STATEMENTS_MAX) {
        (void)sqlite3_finalize(s->prepared[0].st);
        s->prepared[0] = s->prepared[--s->prepared_count];
    }
    s->prepared[s->prepared_count++] = (struct prepared){q, *out};
    return 0;
}

static int bind_one(sqlite3_stmt *st, int at, const struct query_value *v)
{
    switch (v->type) {
    case QUERY_NULL:
        return sqlite3_bind_null(st, at);
    case QUERY_INTEGER:
        return sqlite3_bind_int64(st, at, v->integer);
    case QUERY_NUMBER:
        return sqlite3_bind_double(st, at, v->number);
    case QUERY_BOOL:
        return sqlite3_bind_int(st, at, v->boolean);
    case QUERY_TEXT:
        break;
    }
    return sqlite3_bind_text64(st, at, v->text.p, v->text.n, SQLITE_STATIC, SQLITE_UTF8);
}

static int bind_all(sqlite3_stmt *st, const struct query_job *job)
{
    char name[16];
    int rc = SQLITE_OK;
    for (size_t i = 0; i < job->arg_count && rc == SQLITE_OK; i++) {
        (void)sqlite3_snprintf(sizeof name, name, "$%d", (int)i + 1);
        rc = bind_one(st, sqlite3_bind_parameter_index(st, name), &job->args[i]);
    }
    return rc;
}

static struct query_value query_sqlite_cell_of(sqlite3_stmt *st, int column)
{
    struct query_value v = {.type = QUERY_NULL};
    switch (sqlite3_column_type(st, column)) {
    case SQLITE_INTEGER:
        v.type = QUERY_INTEGER;
        v.integer = sqlite3_column_int64(st, column);
        break;
    case SQLITE_FLOAT:
        v.type = QUERY_NUMBER;
        v.number = sqlite3_column_double(st, column);
        break;
    case SQLITE_TEXT: {
        /* the text first: a database may be in UTF-16, which this converts */
        const unsigned char *text = sqlite3_column_text(st, column);
        v.type = QUERY_TEXT;
        v.text = slice_of(text ? (const char *)text : "", (size_t)sqlite3_column_bytes(st, column));
        break;
    }
    case SQLITE_BLOB: {
        const char *p = sqlite3_column_blob(st, column);
        v.type = QUERY_TEXT;
        v.text = slice_of(p ? p : "", (size_t)sqlite3_column_bytes(st, column));
        break;
    }
    default:
        break;
    }
    return v;
}

static void execute(struct query_sqlite *s, struct query_job *job, sqlite3_stmt *st)
{
    int rc = bind_all(st, job);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW && job->rows.columns == 0) { /* a changed schema shows by now */
            for (int i = 0; i < sqlite3_column_count(st) && job->e.code == 0; i++) {
                (void)query_rows_add_column(&job->rows, slice_str(sqlite3_column_name(st, i)),
                                            &job->e);
            }
        }
        if (rc == SQLITE_ROW && job->e.code == 0) {
            struct query_value cells[QUERY_COLUMNS_MAX]; /* there are no more columns */
            for (int i = 0; i < (int)job->rows.columns; i++) {
                cells[i] = query_sqlite_cell_of(st, i);
            }
            query_pool_row(job, cells, job->rows.columns);
        }
        rc = job->e.code ? SQLITE_DONE : rc;
    }
    if (rc != SQLITE_DONE) {
        (void)query_sqlite_fail(s,
                                &job->e); /* may close the connection, and the statement with it */
    }
    if (s->db) {
        (void)sqlite3_reset(st);
        (void)sqlite3_clear_bindings(st);
    }
}

static void on_work(uv_work_t *w)
{
    struct query_sqlite *s = w->data;
    struct query_job *job = s->job;
    sqlite3_stmt *st = NULL;
    if (s->db && was_moved(s)) {
        close_db(s);
    }
    if (!s->db && open_db(s, &job->e)) {
        return;
    }
    if (job->only_prepare) {
        if (query_sqlite_prepare(s, job->query, &st, &job->e) == 0) {
            (void)sqlite3_finalize(st);
        }
    } else if (statement(s, job->query, &st, &job->e) == 0) {
        execute(s, job, st);
    }
}

/* ---------------------------------------------------------------- the loop's side */

static void finish_close(struct query_sqlite *s)
{
    close_db(s);
    query_pool_closed(&s->pool);
}

static void on_worked(uv_work_t *w, int status)
{
    struct query_sqlite *s = w->data;
    struct query_job *job = s->job;
    bool lost = job->e.code == UV_ENOTCONN;
    s->job = NULL;
    if (status) {
        (void)err_set(&job->e, status, "%s", uv_strerror(status));
    }
    if (s->pool.metrics->database_up != !lost) {
        s->pool.metrics->database_up = !lost;
        if (lost) {
            log_warn("database", "away: policies that ask it get an error",
                     LOG_F(log_str("error", job->e.text)));
        } else {
            log_info("database", "back", LOG_F(log_str("path", s->path)));
        }
    }
    query_pool_done(job);
    if (s->closing) {
        finish_close(s);
    }
}

static bool query_sqlite_run(struct query_pool *p, struct query_job *job)
{
    struct query_sqlite *s = query_sqlite_of(p);
    if (s->job) {
        return false;
    }
    s->job = job;
    s->until_ns = uv_hrtime() + (uint64_t)job_left_ms(&job->job) * 1000000;
    atomic_store(&s->stop, false);
    REQUIRE(uv_queue_work(loop_uv(p->loop), &s->work, on_work, on_worked) == 0);
    return true;
}

static void abandoned(struct query_pool *p, struct query_job *job)
{
    struct query_sqlite *s = query_sqlite_of(p);
    if (s->job == job) {
        atomic_store(&s->stop, true);
    }
}

static void close_source(struct query_pool *p)
{
    struct query_sqlite *s = query_sqlite_of(p);
    s->closing = true;
    atomic_store(&s->stop, true);
    if (!s->job) {
        finish_close(s);
    }
}

static void query_sqlite_free_source(struct query_pool *p)
{
    struct query_sqlite *s = query_sqlite_of(p);
    free(s->path);
    free(s);
}

int query_sqlite_open(const struct query_options *opt, struct loop *loop,
                      struct lookup_metrics *metrics, struct query_source **out, struct err *e)
{
    static const struct query_backend_ops ops = {.run = query_sqlite_run,
                                                 .abandoned = abandoned,
                                                 .close = close_source,
                                                 .free = query_sqlite_free_source};
    struct query_sqlite *s = xcalloc(1, sizeof *s);
    (void)e;
    query_pool_init(&s->pool, &ops, &opt->pool, loop, metrics);
    s->path = xstrdup(opt->path);
    s->work.data = s;
    metrics->database_up = 1; /* until it is missed */
    atomic_init(&s->stop, false);
    *out = &s->pool.base;
    return 0;
}
