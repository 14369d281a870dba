/* Statements over one connection: see pg_client.h. Getting connected is in pg_connect.c.
 *
 * Rules of libpq, "Asynchronous command processing", in non-blocking mode: whenever the socket is
 * readable PQconsumeInput(), then PQflush() again, for the server may wait for us to read before it
 * reads; notifications are drained after each PQconsumeInput(). */
#include "pg/pg_client.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "pg/pg_client_state.h"
#include "pg/pg_socket.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

static void pg_client_run_queued(struct pg_client *c);
static void pg_client_on_socket(uv_poll_t *h, int status, int events);

/* ---------------------------------------------------------------- timer, end of handles */

void pg_client_timer(struct pg_client *c, uint64_t ms, uv_timer_cb cb)
{
    c->due = uv_now(c->loop) + ms;
    REQUIRE(uv_timer_start(&c->timer, cb, ms, 0) == 0);
}

/* Timers come before sockets in a turn of the loop. One second chance per statement: a loop that is
 * always late must not wait for ever. */
bool pg_client_was_away(struct pg_client *c, uv_timer_cb cb)
{
    enum { AWAY_MS = 50, CHANCE_MS = 1000 };
    if (c->excused || uv_now(c->loop) < c->due + AWAY_MS) {
        return false;
    }
    c->excused = true;
    pg_client_timer(c, CHANCE_MS, cb);
    return true;
}

void pg_client_handle_closed(struct pg_client *c)
{
    c->handles--;
    if (c->state == PG_CLOSED && c->handles == 0) {
        void (*closed)(void *ctx) = c->closed;
        void *ctx = c->closed_ctx;
        free(c);
        closed(ctx);
    }
}

/* ---------------------------------------------------------------- completing */

static void pg_client_job_complete(struct pg_client *c, struct pg_job *job, const PGresult *res,
                                   const struct pg_fault *f)
{
    c->pending--;
    if (job->done) {
        job->done(job->ctx, job->token, res, f);
    }
    pg_args_clear(&job->args);
    free(job);
}

/* Everything accepted fails: what ran with `running_code`, what waited with `code`. */
void pg_client_fail_all(struct pg_client *c, int running_code, int code, const char *why)
{
    struct list jobs;
    struct pg_job *running = c->running;
    list_init(&jobs);
    list_splice_tail(&jobs, &c->queue);
    c->running = NULL;
    PQclear(c->result);
    c->result = NULL;
    if (running) {
        /* preparing changes nothing on the server */
        struct pg_fault f = {.code = c->step == PG_STEP_RUN ? running_code : code, .text = why};
        c->pending += running->done ? 0 : 1; /* the setup was not counted */
        pg_client_job_complete(c, running, NULL, &f);
    }
    while (!list_empty(&jobs)) {
        struct pg_job *job = list_first(&jobs, struct pg_job, node);
        struct pg_fault f = {.code = code, .text = why};
        list_del(&job->node);
        pg_client_job_complete(c, job, NULL, &f);
    }
}

/* What runs fails with UV_ECONNRESET, unless the client itself did not want its answer. */
static void pg_client_disconnect(struct pg_client *c, int code, const char *why)
{
    struct err e = {0};
    char text[512];
    /* what the server said explains more than that the socket was closed then */
    why = code == UV_ECONNRESET && c->words[0] ? c->words : why;
    (void)snprintf(text, sizeof text, "%.*s", (int)strcspn(why, "\n"), why); /* libpq's buffer */
    (void)err_set(&e, code, "PostgreSQL at %s: %s", c->opt.conninfo->shown, text);
    c->last = e;
    c->fresh = false;
    pg_connect_forget(c);
    c->state = PG_BROKEN; /* refuses what the callbacks ask */
    pg_client_fail_all(c, code == UV_EMSGSIZE ? code : UV_ECONNRESET, UV_ENOTCONN, e.text);
    if (c->state == PG_CLOSED) {
        return;
    }
    if (!c->opt.once) {
        pg_connect_wait(c);
    }
    c->events.lost(c->ctx, &e);
}

static void pg_client_on_broken(uv_timer_t *t)
{
    struct pg_client *c = t->data;
    pg_client_disconnect(c, UV_ENOTCONN, c->last.text);
}

/* In the next turn of the loop: the caller must not be called back from here. */
static void pg_client_break_later(struct pg_client *c, const char *why)
{
    (void)err_set(&c->last, UV_ENOTCONN, "%.*s", (int)strcspn(why, "\n"), why);
    c->state = PG_BROKEN;
    pg_poll_drop(c);
    pg_client_timer(c, 0, pg_client_on_broken);
}

static void pg_client_on_silence(uv_timer_t *t)
{
    struct pg_client *c = t->data;
    if (!pg_client_was_away(c, pg_client_on_silence)) {
        pg_connect_silent(c);
        pg_client_disconnect(c, UV_ETIMEDOUT, "no answer in time, connection given up");
    }
}

static void pg_client_on_slow(uv_timer_t *t)
{
    struct pg_client *c = t->data;
    if (pg_client_was_away(c, pg_client_on_slow)) {
        return;
    }
    pg_client_timer(c, c->opt.answer_timeout_ms - c->opt.slow_ms, pg_client_on_silence);
    c->events.slow(c->ctx);
}

static void pg_client_await_answer(struct pg_client *c)
{
    c->excused = false;
    if (c->state == PG_READY && c->opt.slow_ms && c->events.slow) {
        pg_client_timer(c, c->opt.slow_ms, pg_client_on_slow);
    } else {
        pg_client_timer(c, c->opt.answer_timeout_ms, pg_client_on_silence);
    }
}

/* ---------------------------------------------------------------- sending */

static bool pg_client_is_prepared(const struct pg_client *c, const char *name)
{
    for (unsigned i = 0; i < c->prepared_count; i++) {
        if (strcmp(c->prepared[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* The step that comes next for a statement. */
static enum pg_step pg_client_next_step(const struct pg_client *c, const struct pg_job *job)
{
    if (job->only_prepare) {
        return PG_STEP_PREPARE;
    }
    if (!job->st.name || (pg_client_is_prepared(c, job->st.name) && !c->forget)) {
        return PG_STEP_RUN;
    }
    return c->forget || c->prepared_count == PG_PREPARED_MAX ? PG_STEP_FORGET : PG_STEP_PREPARE;
}

static int pg_client_send_prepared(struct pg_client *c, struct pg_job *job)
{
    const char *values[PG_ARGS_MAX] = {0};
    int lengths[PG_ARGS_MAX], formats[PG_ARGS_MAX];
    bool binary = !job->row;
    for (int i = 0; i < job->args.n; i++) {
        /* a value of no bytes still has an address */
        values[i] = job->args.v[i].len < 0
                        ? NULL
                        : (job->args.data.data ? job->args.data.data + job->args.v[i].at : "");
        lengths[i] = job->args.v[i].len;
        formats[i] = binary;
    }
    return PQsendQueryPrepared(c->conn, job->st.name, job->args.n, values, lengths, formats,
                               binary) &&
           (binary || PQsetSingleRowMode(c->conn));
}

static int pg_client_send_job(struct pg_client *c, struct pg_job *job)
{
    c->step = pg_client_next_step(c, job);
    if (!job->st.name) {
        return PQsendQuery(c->conn, job->st.sql);
    }
    switch (c->step) {
    case PG_STEP_FORGET:
        return PQsendQuery(c->conn, "DEALLOCATE ALL");
    case PG_STEP_PREPARE:
        /* the one without a name is replaced by the next one */
        return PQsendPrepare(c->conn, job->only_prepare ? "" : job->st.name, job->st.sql, 0, NULL);
    case PG_STEP_RUN:
        break;
    }
    return pg_client_send_prepared(c, job);
}

/* After queueing bytes, and after reading. False: the connection is broken. */
static bool pg_client_flush(struct pg_client *c)
{
    int rc = PQflush(c->conn);
    if (rc < 0) {
        return false;
    }
    return pg_poll_begin(c, rc ? UV_READABLE | UV_WRITABLE : UV_READABLE, pg_client_on_socket) == 0;
}

static void pg_client_start_running(struct pg_client *c)
{
    c->row_from = c->opt.row_bytes ? pg_socket_consumed(PQsocket(c->conn)) : 0;
    if (!pg_client_send_job(c, c->running) || !pg_client_flush(c)) {
        pg_client_break_later(c, c->words[0] ? c->words : PQerrorMessage(c->conn));
        return;
    }
    pg_client_await_answer(c);
}

/* Sends the next statement if none runs. */
static void pg_client_run_queued(struct pg_client *c)
{
    if (c->state == PG_READY && !c->running && !list_empty(&c->queue)) {
        c->running = list_first(&c->queue, struct pg_job, node);
        list_del(&c->running->node);
        pg_client_start_running(c);
    }
}

/* ---------------------------------------------------------------- receiving */

static void pg_client_setup_done(struct pg_client *c, const PGresult *res)
{
    if (!res || !pg_result_good(res)) {
        pg_connect_elsewhere(c);
        pg_client_disconnect(c, UV_EIO, PQresultErrorMessage(res));
        return;
    }
    const char *refused = c->events.refuse ? c->events.refuse(c->ctx, res) : NULL;
    if (refused) {
        pg_connect_refuse(c, refused);
        return;
    }
    c->state = PG_READY;
    c->fresh = false;
    c->silent = c->silent == c->host + 1 ? 0 : c->silent;
    c->ready_at = uv_now(c->loop);
    c->events.ready(c->ctx);
}

/* The prepared statement does not fit any more: a table has changed ("cached plan must not change result
 * type"), or another program made the session forget it. Nothing was done, so it is sent again. */
static bool pg_client_is_stale(const struct pg_client *c, const PGresult *res)
{
    const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
    return c->step == PG_STEP_RUN && c->running->st.name && !c->running->again && state &&
           (strcmp(state, "0A000") == 0 || strcmp(state, "26000") == 0);
}

/* A step towards the statement is done; true: there is another one. */
static bool pg_client_advance(struct pg_client *c, const PGresult *res)
{
    struct pg_job *job = c->running;
    bool good = res && pg_result_good(res);
    if (pg_client_is_stale(c, res)) {
        job->again = true;
        c->forget = true;
        return true;
    }
    if (!good || c->step == PG_STEP_RUN) {
        return false;
    }
    if (c->step == PG_STEP_FORGET) {
        c->prepared_count = 0;
        c->forget = false;
        return true;
    }
    if (job->only_prepare) {
        return false;
    }
    REQUIRE(c->prepared_count < PG_PREPARED_MAX);
    c->prepared[c->prepared_count++] = job->st.name;
    return true;
}

/* The last of the statement's results is in. */
static void pg_client_running_done(struct pg_client *c)
{
    struct pg_job *job = c->running;
    PGresult *res = c->result;
    if (pg_result_ends_session(res) ||
        (PQstatus(c->conn) == CONNECTION_BAD && !(res && pg_result_good(res)))) {
        const char *why = res ? PQresultErrorMessage(res) : PQerrorMessage(c->conn);
        pg_client_disconnect(c, UV_ECONNRESET, why); /* frees `res`, after it has copied the text */
        return;
    }
    c->result = NULL;
    (void)uv_timer_stop(&c->timer);
    if (pg_client_advance(c, res)) {
        PQclear(res);
        pg_client_start_running(c);
        return;
    }
    c->running = NULL;
    if (c->state == PG_SETTING_UP) {
        free(job);
        pg_client_setup_done(c, res);
    } else if (res && pg_result_good(res)) {
        pg_client_job_complete(c, job, res, NULL);
    } else {
        struct pg_fault f;
        char text[256];
        pg_fault_read(&f, text, sizeof text, res);
        pg_client_job_complete(c, job, NULL, &f);
    }
    PQclear(res);
    pg_client_run_queued(c);
}

/* Of several results the first error counts, else the last. False: COPY and the like, which we
 * never ask for. */
static bool pg_client_take_result(struct pg_client *c, PGresult *res)
{
    ExecStatusType st = PQresultStatus(res);
    if (st == PGRES_COPY_IN || st == PGRES_COPY_OUT || st == PGRES_COPY_BOTH) {
        PQclear(res);
        return false;
    }
    if (st == PGRES_SINGLE_TUPLE) {
        c->row_came = true;
        c->running->row(c->running->ctx, c->running->token, res);
        PQclear(res);
        return true;
    }
    if (!c->result || pg_result_good(c->result)) {
        PQclear(c->result);
        c->result = res;
    } else {
        PQclear(res);
    }
    return true;
}

static bool pg_client_is_connected(const struct pg_client *c)
{
    return c->state == PG_READY || c->state == PG_SETTING_UP;
}

/* False: the connection is gone. */
static bool pg_client_receive_notifications(struct pg_client *c)
{
    PGnotify *note;
    while ((note = PQnotifies(c->conn))) {
        if (c->events.notified) {
            c->events.notified(c->ctx, note->extra);
        }
        PQfreemem(note);
        if (!pg_client_is_connected(c)) {
            return false;
        }
    }
    return true;
}

static void pg_client_receive(struct pg_client *c)
{
    PGconn *conn = c->conn;
    if (!pg_client_receive_notifications(c)) {
        return;
    }
    while (c->conn == conn && c->running && !PQisBusy(conn)) {
        PGresult *res = PQgetResult(conn);
        if (!res) {
            pg_client_running_done(c);
        } else if (!pg_client_take_result(c, res)) {
            pg_client_disconnect(c, UV_EPROTO, "unexpected COPY");
        }
        if (!pg_client_is_connected(c)) {
            return;
        }
    }
    if (c->conn == conn) { /* what came behind a result is parsed only now */
        (void)pg_client_receive_notifications(c);
    }
}

/* libpq keeps a row until all of it is there: has it taken in too much since the last one? */
static bool pg_client_is_bearable(struct pg_client *c)
{
    uint64_t consumed = c->opt.row_bytes ? pg_socket_consumed(PQsocket(c->conn)) : 0;
    if (c->row_came) {
        c->row_from = consumed;
        c->row_came = false;
    }
    return consumed <= c->row_from || /* row_from may be a little too large */
           consumed - c->row_from <= c->opt.row_bytes;
}

static void pg_client_on_socket(uv_poll_t *h, int status, int events)
{
    struct pg_client *c = ((struct pg_poll *)h->data)->client;
    if (status < 0 || events & UV_READABLE) {
        /* an error of the socket comes behind what can still be read */
        bool alive = PQconsumeInput(c->conn) != 0 && (status == 0 || PQconsumeInput(c->conn) != 0);
        PGconn *conn = c->conn;
        if (!alive) { /* libpq has closed the socket: the next one may get its number */
            pg_poll_drop(c);
        }
        pg_client_receive(c); /* also what came before the end: it may say why */
        if (c->conn != conn || !pg_client_is_connected(c)) {
            return;
        }
        if (!alive || PQstatus(conn) == CONNECTION_BAD) {
            pg_client_disconnect(c, UV_ECONNRESET, PQerrorMessage(conn));
            return;
        }
        if (status < 0) { /* nothing more would be told of this socket */
            pg_client_disconnect(c, UV_ECONNRESET, "the connection was reset");
            return;
        }
        if (!pg_client_is_bearable(c)) {
            pg_client_disconnect(c, UV_EMSGSIZE, "a row is too large, connection given up");
            return;
        }
    }
    if (!pg_client_flush(c)) {
        pg_client_disconnect(c, UV_ECONNRESET, PQerrorMessage(c->conn));
    }
}

void pg_client_connected(struct pg_client *c)
{
    struct pg_job *job = xcalloc(1, sizeof *job);
    job->st.sql = c->opt.setup ? c->opt.setup : "";
    c->state = PG_SETTING_UP;
    c->prepared_count = 0;
    c->forget = false;
    c->running = job;
    pg_client_start_running(c);
}

/* ---------------------------------------------------------------- for users */

static void pg_client_on_begin(uv_timer_t *t)
{
    pg_connect_start(t->data);
}

struct pg_client *pg_client_new(uv_loop_t *loop, const struct pg_client_options *opt,
                                const struct pg_client_events *events, void *ctx)
{
    struct pg_client *c = xcalloc(1, sizeof *c);
    c->loop = loop;
    c->opt = *opt;
    c->events = *events;
    c->ctx = ctx;
    list_init(&c->queue);
    REQUIRE(opt->slow_ms < opt->answer_timeout_ms);
    REQUIRE(uv_timer_init(loop, &c->timer) == 0);
    c->timer.data = c;
    c->handles = 1;
    c->state = PG_WAITING;
    c->fresh = true;
    pg_client_timer(c, 0, pg_client_on_begin);
    return c;
}

static int pg_client_enqueue(struct pg_client *c, const struct pg_job *asked, struct pg_args *args)
{
    int rc = pg_client_takes(c) ? 0 : UV_ENOTCONN;
    rc = rc == 0 && args ? args->rc : rc;
    if (rc) {
        if (args) {
            pg_args_clear(args);
        }
        return rc;
    }
    REQUIRE(asked->done);
    struct pg_job *job = xmalloc(sizeof *job);
    *job = *asked;
    if (args) {
        job->args = *args;
        *args = (struct pg_args){0};
    }
    list_add_tail(&c->queue, &job->node);
    c->pending++;
    pg_client_run_queued(c);
    return 0;
}

int pg_client_ask(struct pg_client *c, const struct pg_statement *st, struct pg_args *args,
                  pg_done_cb done, void *ctx, uint64_t token)
{
    struct pg_job job = {.st = *st, .done = done, .ctx = ctx, .token = token};
    return pg_client_enqueue(c, &job, args);
}

int pg_client_look_up(struct pg_client *c, const struct pg_look_up *l, struct pg_args *args,
                      pg_done_cb done, void *ctx, uint64_t token)
{
    struct pg_job job = {.st = l->st,
                         .done = done,
                         .ctx = ctx,
                         .token = token,
                         .row = l->row,
                         .only_prepare = l->row == NULL};
    return pg_client_enqueue(c, &job, args);
}

bool pg_client_takes(const struct pg_client *c)
{
    return c->state == PG_READY || (c->fresh && c->state < PG_READY);
}

bool pg_client_ready(const struct pg_client *c)
{
    return c->state == PG_READY;
}

unsigned pg_client_pending(const struct pg_client *c)
{
    return c->pending;
}

void pg_client_drop(struct pg_client *c, const char *why)
{
    if (c->state == PG_READY) {
        pg_client_break_later(c, why);
    }
}

void pg_client_leave(struct pg_client *c, const char *why)
{
    if (c->state == PG_READY) {
        pg_connect_silent(c);
        pg_client_break_later(c, why);
    }
}

void pg_client_wake(struct pg_client *c)
{
    if (c->state == PG_WAITING) {
        pg_client_timer(c, 0, pg_client_on_begin);
    }
}

int pg_client_server_version(const struct pg_client *c)
{
    return c->conn ? PQserverVersion(c->conn) : 0;
}

static void pg_client_on_timer_closed(uv_handle_t *h)
{
    struct pg_client *c = h->data;
    pg_client_fail_all(c, UV_ECANCELED, UV_ECANCELED, "closing");
    pg_client_handle_closed(c);
}

void pg_client_close(struct pg_client *c, void (*closed)(void *ctx), void *ctx)
{
    REQUIRE(c->state != PG_CLOSED);
    c->state = PG_CLOSED;
    c->closed = closed;
    c->closed_ctx = ctx;
    pg_connect_forget(c);
    if (c->found) {
        uv_freeaddrinfo(c->found);
        c->found = c->address = NULL;
    }
    if (c->resolve) {
        (void)uv_cancel((uv_req_t *)c->resolve); /* completes either way */
    }
    uv_close((uv_handle_t *)&c->timer, pg_client_on_timer_closed);
}

/* ---------------------------------------------------------------- cells */

int32_t pg_cell_int4(const PGresult *res, int row, int column)
{
    uint32_t v = 0;
    if (PQgetlength(res, row, column) == (int)sizeof v) {
        memcpy(&v, PQgetvalue(res, row, column), sizeof v);
    }
    return (int32_t)ntohl(v);
}

int64_t pg_cell_int8(const PGresult *res, int row, int column)
{
    uint32_t v[2] = {0};
    if (PQgetlength(res, row, column) == (int)sizeof v) {
        memcpy(v, PQgetvalue(res, row, column), sizeof v);
    }
    return (int64_t)((uint64_t)ntohl(v[0]) << 32 | ntohl(v[1]));
}

bool pg_cell_bool(const PGresult *res, int row, int column)
{
    return PQgetlength(res, row, column) == 1 && *PQgetvalue(res, row, column);
}

struct slice pg_cell_text(const PGresult *res, int row, int column)
{
    if (PQgetisnull(res, row, column)) {
        return (struct slice){0};
    }
    return slice_of(PQgetvalue(res, row, column), (size_t)PQgetlength(res, row, column));
}
