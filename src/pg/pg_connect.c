/* Getting connected: names looked up on a pool thread, one address after the other, each with its
 * own time limit (libpq would wait for ever for the first one), back-off with full jitter.
 *
 * Rules of libpq, "Asynchronous connection": the socket may change with every PQconnectPoll(), so
 * each step has a poll handle of its own, closed before the next step. */
#include "base/alloc.h"
#include "base/logging.h"
#include "pg/pg_client_state.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

enum { BACKOFF_MIN_MS = 50, BACKOFF_MAX_MS = 5000, HEALTHY_MS = 30000 };

static void pg_connect_try_address(struct pg_client *c);
static void pg_connect_try_host(struct pg_client *c);
static void pg_connect_step(struct pg_client *c);

/* ---------------------------------------------------------------- poll handles */

static void pg_connect_on_poll_closed(uv_handle_t *h)
{
    struct pg_poll *p = h->data;
    struct pg_client *c = p->client;
    free(p);
    pg_client_handle_closed(c);
}

void pg_poll_drop(struct pg_client *c)
{
    if (c->poll) {
        (void)uv_poll_stop(&c->poll->handle);
        uv_close((uv_handle_t *)&c->poll->handle, pg_connect_on_poll_closed);
        c->poll = NULL;
    }
}

int pg_poll_begin(struct pg_client *c, int events, uv_poll_cb cb)
{
    if (!c->poll) {
        struct pg_poll *p = xcalloc(1, sizeof *p);
        int rc = uv_poll_init(c->loop, &p->handle, PQsocket(c->conn));
        if (rc) {
            free(p);
            return rc;
        }
        p->client = c;
        p->handle.data = p;
        c->poll = p;
        c->handles++;
    }
    if (c->poll->events == events) {
        return 0; /* starting it again would cost two system calls */
    }
    c->poll->events = events;
    return uv_poll_start(&c->poll->handle, events, cb);
}

/* ---------------------------------------------------------------- attempts */

void pg_connect_forget(struct pg_client *c)
{
    pg_poll_drop(c);
    if (c->conn) {
        PQfinish(c->conn);
        c->conn = NULL;
    }
}

static void pg_connect_on_wait_over(uv_timer_t *t)
{
    pg_connect_start(t->data);
}

void pg_connect_wait(struct pg_client *c)
{
    uint32_t random = 0;
    if (c->ready_at && uv_now(c->loop) - c->ready_at >= HEALTHY_MS) {
        c->attempts = 0;
    }
    c->ready_at = 0;
    unsigned shift = c->attempts < 7 ? c->attempts : 7;
    uint32_t most = (uint32_t)BACKOFF_MIN_MS << shift;
    most = most < BACKOFF_MAX_MS ? most : BACKOFF_MAX_MS;
    c->attempts++;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random) {
        random = most / 2;
    }
    c->state = PG_WAITING;
    pg_client_timer(c, random % most + 1, pg_connect_on_wait_over);
}

/* A silent server (no power, no route) costs the whole time limit at each look, while the one that
 * takes over waits behind it. So the last one that was silent comes last in each pass. */
static void pg_connect_avoid_silent(struct pg_client *c)
{
    size_t n = c->opt.conninfo->host_count;
    if (!c->avoided || n == 1) {
        return;
    }
    if (c->tried + 1 == n) {
        c->host = c->avoided - 1;
    } else if (c->host == c->avoided - 1) {
        pg_connect_elsewhere(c);
    }
}

/* The next address of this host, else the next host, else the pass was in vain. */
static void pg_connect_try_next(struct pg_client *c)
{
    pg_connect_forget(c);
    c->address = c->address ? c->address->ai_next : NULL;
    if (c->address) {
        pg_connect_try_address(c);
        return;
    }
    if (c->found) {
        uv_freeaddrinfo(c->found);
        c->found = NULL;
    }
    pg_connect_elsewhere(c);
    if (++c->tried < c->opt.conninfo->host_count) {
        pg_connect_avoid_silent(c);
        pg_connect_try_host(c);
        return;
    }
    struct err e = c->last;
    c->fresh = false;
    c->state = PG_BROKEN;
    pg_client_fail_all(c, UV_ENOTCONN, UV_ENOTCONN, e.text);
    if (c->state == PG_CLOSED) {
        return;
    }
    if (!c->opt.once) {
        pg_connect_wait(c);
    }
    c->events.lost(c->ctx, &e);
}

/* Where "28P01: " stands in a text of a connection with verbose errors, else NULL: "... FATAL:  28P01:
 * password authentication failed". Only the words around it depend on the server's language. */
static const char *pg_connect_sqlstate(const char *why, size_t n)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    enum { STATE = 5 };
    for (size_t i = 2; i + STATE + 2 <= n; i++) {
        if (why[i - 1] == ' ' && why[i - 2] == ' ' && strspn(why + i, digits) == STATE &&
            why[i + STATE] == ':' && why[i + STATE + 1] == ' ') {
            return why + i;
        }
    }
    return NULL;
}

/* The server answers, and will not let us in before somebody changes something. */
static int pg_connect_kind(struct pg_client *c, const char *state)
{
    bool wants_password = c->conn && PQconnectionNeedsPassword(c->conn);
    if (wants_password || (state && strncmp(state, "28", 2) == 0)) {
        return UV_EACCES;
    }
    return state && strncmp(state, "3D000", 5) == 0 ? UV_ENOENT : UV_ENOTCONN;
}

static const char *pg_connect_advice(int kind, const char *why)
{
    if (kind == UV_ENOTCONN &&
        (strstr(why, "Connection refused") || strstr(why, "No such file or directory"))) {
        return ": is PostgreSQL running, and are host and port of conninfo right?";
    }
    return kind == UV_EACCES   ? ": check user, password and passfile of conninfo, and pg_hba.conf"
           : kind == UV_ENOENT ? ": correct dbname of conninfo, or make the database"
                               : "";
}

static void pg_connect_attempt_failed(struct pg_client *c, const char *why)
{
    const struct pg_host *h = &c->opt.conninfo->hosts[c->host];
    size_t n = strcspn(why, "\n"); /* libpq's texts have several lines */
    const char *state = pg_connect_sqlstate(why, n);
    size_t before = state ? (size_t)(state - why) - 1 : n; /* one of the two blanks */
    const char *after = state ? state + strlen("28P01: ") : why + n;
    struct err e = {0};
    int kind = pg_connect_kind(c, state);
    (void)uv_timer_stop(&c->timer);
    (void)err_set(&e, kind, "PostgreSQL at %s:%s: %.*s%.*s%s", h->host, h->port, (int)before, why,
                  (int)(n - (size_t)(after - why)), after, pg_connect_advice(kind, why));
    log_debug("store", "cannot connect",
              LOG_F(log_str("role", c->opt.role), log_str("error", e.text)));
    if (c->last.code == 0 ||
        c->last.code == UV_ENOTCONN) { /* else a server has said what is wrong */
        c->last = e;
    }
    pg_connect_try_next(c);
}

void pg_connect_refuse(struct pg_client *c, const char *why)
{
    pg_connect_attempt_failed(c, why);
}

void pg_connect_elsewhere(struct pg_client *c)
{
    c->host = (c->host + 1) % c->opt.conninfo->host_count;
}

void pg_connect_silent(struct pg_client *c)
{
    c->silent = c->host + 1;
    pg_connect_elsewhere(c);
}

static void pg_connect_on_connect_timeout(uv_timer_t *t)
{
    struct pg_client *c = t->data;
    if (!pg_client_was_away(c, pg_connect_on_connect_timeout)) {
        c->silent = c->host + 1;
        pg_connect_attempt_failed(c, "does not answer");
    }
}

static void pg_connect_on_step(uv_poll_t *h, int status, int events)
{
    struct pg_poll *p = h->data;
    (void)status; /* libpq finds out by itself */
    (void)events;
    pg_connect_step(p->client);
}

static void pg_connect_wait_for(struct pg_client *c, int events)
{
    int rc = pg_poll_begin(c, events, pg_connect_on_step);
    if (rc) {
        pg_connect_attempt_failed(c, uv_strerror(rc));
    }
}

static void pg_connect_step(struct pg_client *c)
{
    pg_poll_drop(c);
    switch (PQconnectPoll(c->conn)) {
    case PGRES_POLLING_READING:
        pg_connect_wait_for(c, UV_READABLE);
        return;
    case PGRES_POLLING_WRITING:
        pg_connect_wait_for(c, UV_WRITABLE);
        return;
    case PGRES_POLLING_OK:
        if (PQsetnonblocking(c->conn, 1) != 0) {
            pg_connect_attempt_failed(c, PQerrorMessage(c->conn));
            return;
        }
        if (c->found) {
            uv_freeaddrinfo(c->found);
            c->found = c->address = NULL;
        }
        pg_client_connected(c);
        return;
    case PGRES_POLLING_FAILED:
    case PGRES_POLLING_ACTIVE:
        break;
    }
    pg_connect_attempt_failed(c, PQerrorMessage(c->conn));
}

/* Notices of the server must not go to stderr past the log. The reason why it ends an idle session
 * comes as one, and the end of the connection after it. */
static void pg_connect_on_notice(void *ctx, const PGresult *res)
{
    struct pg_client *c = ctx;
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    text = text ? text : "";
    if (pg_notice_ends_session(res)) {
        (void)snprintf(c->words, sizeof c->words, "%s", text);
    }
    log_debug("store", "notice of the server",
              LOG_F(log_str("role", c->opt.role), log_str("text", text)));
}

static void pg_connect_start_libpq(struct pg_client *c, const char *hostaddr)
{
    enum { OWN = 5 };
    const struct pg_conninfo *info = c->opt.conninfo;
    const struct pg_host *h = &info->hosts[c->host];
    const char *keys[PG_CONNINFO_PARAMS_MAX + OWN] = {"host", "port", "application_name"};
    char name[64];
    (void)snprintf(name, sizeof name, "tidegate %s", c->opt.role);
    const char *values[PG_CONNINFO_PARAMS_MAX + OWN] = {h->host, h->port, name};
    size_t n = 3;
    if (hostaddr) {
        keys[n] = "hostaddr";
        values[n++] = hostaddr;
    }
    for (size_t i = 0; i < info->param_count; i++) {
        keys[n] = info->keys[i];
        values[n++] = info->values[i];
    }
    c->state = PG_CONNECTING;
    c->conn = PQconnectStartParams(keys, values, 0);
    if (!c->conn || PQstatus(c->conn) == CONNECTION_BAD) {
        pg_connect_attempt_failed(c, c->conn ? PQerrorMessage(c->conn) : "no memory");
        return;
    }
    (void)PQsetNoticeReceiver(c->conn, pg_connect_on_notice, c);
    (void)PQsetErrorVerbosity(c->conn, PQERRORS_VERBOSE); /* with the SQLSTATE of a refusal */
    c->words[0] = '\0';
    c->excused = false;
    pg_client_timer(c, c->opt.connect_timeout_ms, pg_connect_on_connect_timeout);
    pg_connect_wait_for(c, UV_WRITABLE);
}

static void pg_connect_try_address(struct pg_client *c)
{
    char text[INET6_ADDRSTRLEN] = "";
    int rc = c->address->ai_family == AF_INET6
                 ? uv_ip6_name((const struct sockaddr_in6 *)(const void *)c->address->ai_addr, text,
                               sizeof text)
                 : uv_ip4_name((const struct sockaddr_in *)(const void *)c->address->ai_addr, text,
                               sizeof text);
    if (rc) {
        pg_connect_attempt_failed(c, uv_strerror(rc));
        return;
    }
    pg_connect_start_libpq(c, text);
}

static void pg_connect_on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct pg_client *c = req->data;
    free(req);
    c->resolve = NULL;
    if (c->state == PG_CLOSED) {
        uv_freeaddrinfo(found);
        pg_client_handle_closed(c);
        return;
    }
    c->handles--;
    if (status) {
        pg_connect_attempt_failed(c, uv_strerror(status));
        return;
    }
    c->found = c->address = found;
    pg_connect_try_address(c);
}

static void pg_connect_try_host(struct pg_client *c)
{
    const struct pg_host *h = &c->opt.conninfo->hosts[c->host];
    if (h->is_socket || h->hostaddr) {
        pg_connect_start_libpq(c, h->hostaddr);
        return;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    c->state = PG_RESOLVING;
    c->resolve = xmalloc(sizeof *c->resolve);
    c->resolve->data = c;
    int rc = uv_getaddrinfo(c->loop, c->resolve, pg_connect_on_resolved, h->host, NULL, &hints);
    if (rc) {
        free(c->resolve);
        c->resolve = NULL;
        pg_connect_attempt_failed(c, uv_strerror(rc));
        return;
    }
    c->handles++;
}

void pg_connect_start(struct pg_client *c)
{
    c->tried = 0;
    c->last = (struct err){0};
    c->address = NULL;
    c->avoided = c->silent;
    pg_connect_avoid_silent(c);
    pg_connect_try_host(c);
}
