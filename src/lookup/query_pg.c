/* Look-ups of policies in PostgreSQL: a few connections of their own, so that they and the event
 * store never wait for each other. A connection has one query at a time; what waits, waits in the
 * pool.
 *
 * Three things bound a query that has no caller any more: the session's statement_timeout, a
 * little later the client's own limit (the server is silent), and the session is read only. It is
 * not cancelled: libpq 15 does that by a new connection, not encrypted, in a call that blocks
 * without a limit, and `timeout_ms` is short. */
#include "base/alloc.h"
#include "base/container_of.h"
#include "lookup/query_backends.h"
#include "lookup/query_sql.h"
#include "pg/pg_client.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    CONNECTIONS_MAX = 64,
    CONNECT_TIMEOUT_MS = 3000,
    SILENCE_MS = 1000,
    ROW_SLACK = 256 << 10, /* what libpq holds of the rows behind it, TLS */
};

/* pg_type.dat */
enum {
    OID_BOOL = 16,
    OID_BYTEA = 17,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    OID_OID = 26,
    OID_FLOAT4 = 700,
    OID_FLOAT8 = 701,
};

struct query_pg;

struct pg_slot {
    struct query_pg *owner;
    struct pg_client *client; /* NULL: closed */
    struct query_job *job;    /* what it works on; NULL: none */
    bool ready;
};

struct query_pg {
    struct query_pool pool;
    struct pg_conninfo conninfo; /* owned */
    char setup[384];
    struct pg_slot slots[CONNECTIONS_MAX];
    unsigned slot_count, ready_count, open_count;
};

static struct query_pg *query_pg_of(struct query_pool *p)
{
    return container_of(p, struct query_pg, pool);
}

/* ---------------------------------------------------------------- cells */

static unsigned query_pg_hex(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a') + 10;
}

/* bytea_output = hex: "\x" and two digits a byte. Decoded in place: libpq's memory is ours until
 * the row is let go of. */
static struct slice unhex(char *text, size_t n)
{
    size_t bytes = n > 2 ? (n - 2) / 2 : 0;
    for (size_t i = 0; i < bytes; i++) {
        text[i] = (char)(query_pg_hex(text[2 + 2 * i]) << 4 | query_pg_hex(text[3 + 2 * i]));
    }
    return slice_of(text, bytes);
}

static struct query_value query_pg_cell_of(const PGresult *res, int column)
{
    struct query_value v = {.type = QUERY_NULL};
    if (PQgetisnull(res, 0, column)) {
        return v;
    }
    char *text = PQgetvalue(res, 0, column);
    size_t n = (size_t)PQgetlength(res, 0, column);
    switch (PQftype(res, column)) {
    case OID_BOOL:
        v.type = QUERY_BOOL;
        v.boolean = *text == 't';
        break;
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
    case OID_OID:
        v.type = QUERY_INTEGER;
        v.integer = strtoll(text, NULL, 10);
        break;
    case OID_FLOAT4:
    case OID_FLOAT8:
        v.type = QUERY_NUMBER;
        v.number = strtod(text, NULL);
        break;
    case OID_BYTEA:
        v.type = QUERY_TEXT;
        v.text = unhex(text, n);
        break;
    default: /* numeric, timestamps, uuid, json: as the server writes them, nothing is lost */
        v.type = QUERY_TEXT;
        v.text = slice_of(text, n);
        break;
    }
    return v;
}

static void take_columns(struct query_job *job, const PGresult *res)
{
    for (int i = 0; i < PQnfields(res) && job->e.code == 0; i++) {
        (void)query_rows_add_column(&job->rows, slice_str(PQfname(res, i)), &job->e);
    }
}

/* Once there is an error the rest is read and dropped: it ends with the statement's time limit. */
static void on_row(void *ctx, uint64_t token, const PGresult *res)
{
    const struct pg_slot *slot = ctx;
    struct query_job *job = slot->job;
    (void)token;
    if (job->rows.columns == 0) {
        take_columns(job, res);
    }
    if (job->e.code == 0) {
        struct query_value cells[QUERY_COLUMNS_MAX]; /* there are no more columns */
        for (int i = 0; i < (int)job->rows.columns; i++) {
            cells[i] = query_pg_cell_of(res, i);
        }
        query_pool_row(job, cells, job->rows.columns);
    }
}

/* ---------------------------------------------------------------- jobs */

/* That many characters of UTF-8. */
static size_t bytes_of(const char *text, size_t characters)
{
    const char *p = text;
    while (*p && characters > 0) {
        p++;
        characters -= ((unsigned char)*p & 0xc0) != 0x80;
    }
    return (size_t)(p - text);
}

static void query_pg_fail(struct query_job *job, const struct pg_fault *f)
{
    if (strcmp(f->sqlstate, "57014") == 0) { /* query_canceled: statement_timeout */
        (void)err_set(&job->e, UV_ETIMEDOUT, "the database did not answer in time");
    } else if (f->code == UV_EMSGSIZE) {
        (void)err_set(&job->e, UV_EMSGSIZE, "more than %zu bytes: ask for fewer rows or columns",
                      job->rows.max_bytes);
    } else if (f->code == UV_EIO) {
        (void)err_set(&job->e, UV_EINVAL, "%s", f->text);
        if (f->position) {
            query_sql_place(job->query->sql, bytes_of(job->query->sql, f->position - 1), &job->e);
        }
    } else {
        (void)err_set(&job->e, f->code == UV_ECANCELED ? UV_ECANCELED : UV_ECONNRESET, "%s",
                      f->text);
    }
}

static void query_pg_on_done(void *ctx, uint64_t token, const PGresult *res,
                             const struct pg_fault *f)
{
    struct pg_slot *slot = ctx;
    struct query_job *job = slot->job;
    (void)token;
    slot->job = NULL;
    if (f) {
        query_pg_fail(job, f);
    } else if (job->e.code == 0 && job->rows.columns == 0) {
        take_columns(job, res); /* no rows: the names are with the end */
    }
    query_pool_done(job);
}

static void add_arg(struct pg_args *args, const struct query_value *v)
{
    char text[64];
    switch (v->type) {
    case QUERY_NULL:
        pg_args_text(args, (struct slice){0});
        return;
    case QUERY_TEXT:
        pg_args_text(args, v->text);
        return;
    case QUERY_BOOL:
        pg_args_text(args, slice_str(v->boolean ? "true" : "false"));
        return;
    case QUERY_INTEGER:
        (void)snprintf(text, sizeof text, "%lld", (long long)v->integer);
        break;
    case QUERY_NUMBER:
        (void)snprintf(text, sizeof text, "%.17g", v->number);
        break;
    }
    pg_args_text(args, slice_str(text));
}

static struct pg_slot *query_pg_free_slot(struct query_pg *s)
{
    for (unsigned i = 0; i < s->slot_count; i++) {
        if (s->slots[i].ready && !s->slots[i].job) {
            return &s->slots[i];
        }
    }
    return NULL;
}

static bool query_pg_run(struct query_pool *p, struct query_job *job)
{
    struct query_pg *s = query_pg_of(p);
    struct pg_slot *slot = query_pg_free_slot(s);
    struct pg_args args;
    struct pg_look_up look_up = {.st = {.name = job->query->key, .sql = job->query->sql},
                                 .row = job->only_prepare ? NULL : on_row};
    if (!slot) {
        return false;
    }
    pg_args_init(&args, job->arg_text.max * 2);
    for (size_t i = 0; i < job->arg_count; i++) {
        add_arg(&args, &job->args[i]);
    }
    if (args.rc) {
        (void)err_set(&job->e, UV_EINVAL, "%s",
                      args.rc == UV_EINVAL ? "PostgreSQL takes no text with a NUL byte"
                                           : "out of memory");
        pg_args_clear(&args);
        query_pool_settle(job);
        return true;
    }
    slot->job = job;
    if (pg_client_look_up(slot->client, &look_up, &args, query_pg_on_done, slot, 0)) {
        slot->job = NULL;
        slot->ready = false; /* it is breaking: lost() follows */
        s->ready_count--;
        return query_pg_run(p, job);
    }
    return true;
}

/* ---------------------------------------------------------------- connections */

static void query_pg_on_ready(void *ctx)
{
    struct pg_slot *slot = ctx;
    slot->ready = true;
    slot->owner->ready_count++;
    query_pool_back(&slot->owner->pool);
}

static void on_lost(void *ctx, const struct err *e)
{
    struct pg_slot *slot = ctx;
    struct query_pg *s = slot->owner;
    s->ready_count -= slot->ready;
    slot->ready = false;
    if (s->ready_count == 0) {
        query_pool_away(&s->pool, e);
    }
}

static void on_client_closed(void *ctx)
{
    struct pg_slot *slot = ctx;
    slot->client = NULL;
    if (--slot->owner->open_count == 0) {
        query_pool_closed(&slot->owner->pool);
    }
}

static void query_pg_close_all(struct query_pool *p)
{
    struct query_pg *s = query_pg_of(p);
    for (unsigned i = 0; i < s->slot_count; i++) {
        s->slots[i].ready = false;
        pg_client_close(s->slots[i].client, on_client_closed, &s->slots[i]);
    }
}

static void query_pg_free_source(struct query_pool *p)
{
    struct query_pg *s = query_pg_of(p);
    pg_conninfo_clear(&s->conninfo);
    free(s);
}

int query_pg_open(const struct query_options *opt, struct loop *loop,
                  struct lookup_metrics *metrics, struct query_source **out, struct err *e)
{
    static const struct query_backend_ops ops = {
        .run = query_pg_run, .close = query_pg_close_all, .free = query_pg_free_source};
    static const struct pg_client_events events = {.ready = query_pg_on_ready, .lost = on_lost};
    struct query_pg *s = xcalloc(1, sizeof *s);
    int rc = pg_conninfo_parse_reader(&s->conninfo, opt->conninfo, e);
    if (rc) {
        free(s);
        return rc;
    }
    query_pool_init(&s->pool, &ops, &opt->pool, loop, metrics);
    (void)snprintf(s->setup, sizeof s->setup,
                   "SET default_transaction_read_only = on; SET statement_timeout = %u; "
                   "SET datestyle = 'ISO'; SET bytea_output = 'hex'; "
                   /* a look-up may come once an hour; servers before 14 have no such setting */
                   "SELECT set_config(name, '0', false) FROM pg_settings"
                   " WHERE name = 'idle_session_timeout'",
                   opt->pool.timeout_ms);
    struct pg_client_options client = {.conninfo = &s->conninfo,
                                       .role = "policy",
                                       .setup = s->setup,
                                       .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                       .answer_timeout_ms = opt->pool.timeout_ms + SILENCE_MS,
                                       /* bytea comes with two digits a byte */
                                       .row_bytes = 2 * opt->pool.bytes + ROW_SLACK};
    s->slot_count = opt->connections < CONNECTIONS_MAX ? opt->connections : CONNECTIONS_MAX;
    s->open_count = s->slot_count;
    for (unsigned i = 0; i < s->slot_count; i++) {
        s->slots[i].owner = s;
        s->slots[i].client = pg_client_new(loop_uv(loop), &client, &events, &s->slots[i]);
    }
    *out = &s->pool.base;
    return 0;
}
