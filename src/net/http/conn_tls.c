/* See conn_tls.h. In this order: what connections share, sending, receiving, the handshake.
 *
 * Records are made in one buffer for all connections and sent at once; only what a socket does not take of them
 * is copied, at most CHUNK_BYTES and the records' frames, and becomes the connection's one write in flight. */
#include "net/http/conn_tls.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "net/proxy_header.h"
#include "net/tls/tls_pool.h"

#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_BYTES = 4 * TLS_RECORD_BYTES, /* plain text encrypted before the socket is asked again */
    OUT_MAX_BYTES = 512 * 1024,    /* of ciphertext for one chunk, and what else OpenSSL says */
    PENDING_MAX_BYTES = 64 * 1024, /* the end of the handshake, answers to KeyUpdates */
    PLAIN_BYTES = LOOP_READ_BUFFER_BYTES + TLS_RECORD_BYTES,
};

/* ---------------------------------------------------------------- what connections share */

struct conn_tls_service {
    struct tls_pool *pool;
    struct strbuf out;             /* ciphertext, during a call */
    char record[TLS_RECORD_BYTES]; /* plain text of one record, during a call */
    char plain[PLAIN_BYTES];       /* what was decrypted, during a call */
    struct {
        struct log_pace pace;
        uint64_t left_out;
    } failures[TLS_FAILURE_COUNT];
};

/* In one piece with the struct tls_conn behind it: each open connection has one. */
struct conn_tls {
    struct conn_layer layer;
    struct strbuf *pending; /* ciphertext that waits for the write in flight; NULL: none */
};

static struct conn_tls *conn_tls_of(const struct conn *c)
{
    return container_of(c->layer, struct conn_tls, layer);
}

static struct tls_conn *conn_tls_conn(const struct conn *c)
{
    return tls_conn_behind(conn_tls_of(c), sizeof(struct conn_tls));
}

static int conn_tls_pend(struct conn_tls *l, const struct strbuf *out)
{
    if (out->len == 0) {
        return 0;
    }
    if (!l->pending) {
        l->pending = xmalloc(sizeof *l->pending);
        strbuf_init(l->pending, PENDING_MAX_BYTES);
    }
    return strbuf_append(l->pending, out->data, out->len);
}

static void conn_tls_drop_pending(struct conn_tls *l)
{
    if (l->pending) {
        strbuf_clear(l->pending);
        free(l->pending);
        l->pending = NULL;
    }
}

static void conn_tls_stepped(struct tls_handshake *h, void *owner);

void conn_tls_open(struct http_server *s)
{
    if (s->tls) {
        return;
    }
    s->tls = xcalloc(1, sizeof *s->tls);
    strbuf_init(&s->tls->out, OUT_MAX_BYTES);
    s->tls->pool =
        tls_pool_new(s->loop, &s->metrics->tls_waiting, &s->metrics->tls_active, conn_tls_stepped);
}

void conn_tls_close(struct http_server *s)
{
    if (s->tls) {
        tls_pool_close(s->tls->pool);
    }
}

void conn_tls_clear(struct http_server *s)
{
    if (s->tls) {
        tls_pool_free(s->tls->pool);
        strbuf_clear(&s->tls->out);
        free(s->tls);
        s->tls = NULL;
    }
}

/* ---------------------------------------------------------------- sending */

/* Where the plain text of a write is: `out` of the connection first, then `bufs`. */
struct conn_tls_cursor {
    struct slice head;
    const uv_buf_t *bufs;
    unsigned count;
    size_t offset; /* in bufs[0] */
};

static struct slice conn_tls_here(const struct conn_tls_cursor *at)
{
    if (at->head.n) {
        return at->head;
    }
    return at->count ? slice_of(at->bufs->base + at->offset, at->bufs->len - at->offset)
                     : slice_of(NULL, 0);
}

static void conn_tls_advance(struct conn_tls_cursor *at, size_t n)
{
    if (at->head.n) {
        at->head = slice_of(at->head.p + n, at->head.n - n);
        return;
    }
    at->offset += n;
    while (at->count && at->offset == at->bufs->len) {
        at->bufs++;
        at->count--;
        at->offset = 0;
    }
}

/* The plain text of the next record: where it lies if it lies in one piece, else copied together. */
static struct slice conn_tls_gather(struct conn_tls_service *s, struct conn_tls_cursor *at)
{
    struct slice here = conn_tls_here(at);
    if (here.n >= TLS_RECORD_BYTES || (at->count == 0 && here.n)) {
        here.n = here.n < TLS_RECORD_BYTES ? here.n : TLS_RECORD_BYTES;
        conn_tls_advance(at, here.n);
        return here;
    }
    size_t n = 0;
    while (n < TLS_RECORD_BYTES && (here.n || at->count)) {
        size_t room = TLS_RECORD_BYTES - n;
        size_t len = here.n < room ? here.n : room;
        if (len) {
            memcpy(s->record + n, here.p, len);
        }
        n += len;
        conn_tls_advance(at, len);
        here = conn_tls_here(at);
    }
    return slice_of(s->record, n);
}

/* Sends what is in the shared buffer; the rest becomes the write in flight. 0 or a negative UV_E*. */
static int conn_tls_send(struct conn *c, struct strbuf *out)
{
    uv_buf_t buf = uv_buf_init(out->data, (unsigned)out->len);
    c->server->metrics->writes++;
    ssize_t n = conn_send(c, &buf, 1);
    if (n < 0 && n != UV_EAGAIN) {
        return (int)n;
    }
    n = n < 0 ? 0 : n;
    c->server->metrics->bytes_out += (uint64_t)n;
    if ((size_t)n < out->len) {
        conn_write_start(c,
                         memcpy(xmalloc(out->len - (size_t)n), out->data + n, out->len - (size_t)n),
                         NULL, 0, out->len - (size_t)n);
    }
    return 0;
}

static ssize_t conn_tls_write(struct conn *c, const uv_buf_t *bufs, unsigned count)
{
    struct conn_tls *l = conn_tls_of(c);
    struct conn_tls_service *s = c->server->tls;
    struct conn_tls_cursor at = {.head = strbuf_slice(&c->out), .bufs = bufs, .count = count};
    size_t head = c->out.len, total = 0;
    int rc = 0;
    conn_tls_advance(&at, 0); /* past empty buffers */
    while (rc == 0 && !c->write) {
        size_t chunk = 0;
        strbuf_reset(&s->out);
        rc = l->pending ? strbuf_append(&s->out, l->pending->data, l->pending->len) : 0;
        while (rc == 0 && chunk < CHUNK_BYTES) {
            struct slice plain = conn_tls_gather(s, &at);
            if (plain.n == 0) {
                break;
            }
            rc = tls_conn_seal(conn_tls_conn(c), plain.p, plain.n, &s->out);
            chunk += plain.n;
        }
        if (rc || s->out.len == 0) {
            break;
        }
        conn_tls_drop_pending(l);
        c->layer_waits = false;
        total += chunk;
        rc = conn_tls_send(c, &s->out);
    }
    if (rc) {
        return rc;
    }
    if (total >= head) {
        strbuf_clear(&c->out);
        return (ssize_t)(total - head);
    }
    strbuf_consume(&c->out, total);
    return 0;
}

/* ---------------------------------------------------------------- receiving */

/* Ciphertext that belongs to no write: at once, or behind the one in flight. */
static int conn_tls_answer(struct conn *c, const struct strbuf *out)
{
    int rc = conn_tls_pend(conn_tls_of(c), out);
    if (rc == 0 && out->len) {
        c->layer_waits = true;
        loop_defer(c->server->loop, &c->flush);
    }
    return rc;
}

/* The last ciphertext of a connection. A socket that is full has no room for a farewell. */
static void conn_tls_send_last(struct conn *c, const struct strbuf *out)
{
    if (out->len) {
        uv_buf_t buf = uv_buf_init(out->data, (unsigned)out->len);
        ssize_t n = conn_send(c, &buf, 1);
        c->server->metrics->bytes_out += n > 0 ? (uint64_t)n : 0;
    }
}

/* Says why, unless that would come into the middle of something else. */
static void conn_tls_broke(struct conn *c, const struct strbuf *out)
{
    struct conn_tls *l = conn_tls_of(c);
    c->server->metrics->tls_broken++;
    if (!c->write && conn_tls_pend(l, out) == 0 && l->pending) {
        conn_tls_send_last(c, l->pending);
    }
}

static int conn_tls_decrypt(struct conn *c, const char *data, size_t n, struct slice *plain)
{
    struct conn_tls_service *s = c->server->tls;
    size_t got;
    strbuf_reset(&s->out);
    int rc =
        tls_conn_open(conn_tls_conn(c), slice_of(data, n), s->plain, PLAIN_BYTES, &got, &s->out);
    *plain = slice_of(s->plain, got);
    if (rc == UV_EPROTO) {
        conn_tls_broke(c, &s->out);
        return rc;
    }
    int answered = conn_tls_answer(c, &s->out);
    return rc ? rc : answered;
}

static void conn_tls_end(struct conn *c)
{
    struct conn_tls_service *s = c->server->tls;
    strbuf_reset(&s->out);
    tls_conn_end(conn_tls_conn(c), &s->out);
    conn_tls_send_last(c, &s->out);
}

static void conn_tls_free(struct conn *c)
{
    struct conn_tls *l = conn_tls_of(c);
    struct tls_conn *tls = conn_tls_conn(c);
    c->layer = NULL;
    c->server->metrics->tls_compact -= tls_conn_is_compact(tls);
    tls_conn_clear(tls);
    conn_tls_drop_pending(l);
    free(l);
}

static const struct tls_facts *conn_tls_facts(const struct conn *c)
{
    return tls_conn_facts(conn_tls_conn(c));
}

static const struct conn_layer_ops conn_tls_ops = {.write = conn_tls_write,
                                                   .decrypt = conn_tls_decrypt,
                                                   .end = conn_tls_end,
                                                   .facts = conn_tls_facts,
                                                   .free = conn_tls_free};

/* ---------------------------------------------------------------- the handshake */

struct tls_hello {
    struct conn conn;
    struct tls_handshake *handshake;
    bool begun;  /* bytes have come */
    bool failed; /* and that has been counted */
};

static struct tls_hello *tls_hello_of(const struct conn *c)
{
    return container_of((struct conn *)(uintptr_t)c, struct tls_hello, conn);
}

static void tls_hello_count(struct conn *c, enum tls_failure_kind kind, const char *text)
{
    struct conn_tls_service *s = c->server->tls;
    char peer[ADDRESS_TEXT_MAX];
    tls_hello_of(c)->failed = true;
    c->server->metrics->tls_failures[kind]++;
    if (!log_pace_take(&s->failures[kind].pace, loop_now(c->server->loop))) {
        s->failures[kind].left_out++;
        return;
    }
    peer_address_text(&c->peer, peer);
    log_info("tls", "handshake failed",
             LOG_F(log_str("reason", tls_failure_name(kind)), log_str("peer", peer),
                   log_str("error", text), log_uint("not_logged", s->failures[kind].left_out)));
    s->failures[kind].left_out = 0;
}

/* A client that speaks HTTP to this port gets an answer in HTTP. */
static void tls_hello_answer_http(struct conn *c)
{
    static const char detail[] = "this port speaks HTTPS: use https:// in the URL";
    if (http_response_refusal(400, slice_of(detail, sizeof detail - 1), &c->out)) {
        conn_close(c, CLOSE_NO_MEMORY);
    } else {
        net_metrics_count_answer(c->server->metrics, 400);
        conn_close_when_written(c, CLOSE_TLS_HANDSHAKE);
    }
}

/* The first byte of a handshake record is 22. */
static bool tls_hello_is_tls(struct conn *c, const char *data, size_t len)
{
    enum { HANDSHAKE_RECORD = 22, ALERT_RECORD = 21 };
    char first = *data;
    if (first == HANDSHAKE_RECORD || first == ALERT_RECORD) {
        return true;
    }
    if (proxy_header_begins(data, len)) {
        tls_hello_count(c, TLS_FAILURE_NOT_TLS,
                        "the PROXY protocol is not expected here: set proxy_protocol = true");
        conn_close(c, CLOSE_TLS_HANDSHAKE);
    } else if (first >= 'A' && first <= 'Z') {
        tls_hello_count(c, TLS_FAILURE_PLAIN_HTTP, "HTTP without TLS: clients must use https://");
        tls_hello_answer_http(c);
    } else {
        tls_hello_count(c, TLS_FAILURE_NOT_TLS, "the first byte is none of TLS");
        conn_close(c, CLOSE_TLS_HANDSHAKE);
    }
    return false;
}

static size_t tls_hello_take(struct conn *c, const char *data, size_t len)
{
    struct tls_hello *t = tls_hello_of(c);
    if (tls_handshake_busy(t->handshake)) {
        return 0;
    }
    if (!t->begun) {
        t->begun = true;
        if (!tls_hello_is_tls(c, data, len)) {
            return len;
        }
    }
    tls_handshake_feed(t->handshake, slice_of(data, len));
    return len;
}

static void tls_hello_eof(struct conn *c)
{
    const struct tls_hello *t = tls_hello_of(c);
    if (t->begun && !t->failed) {
        tls_hello_count(c, TLS_FAILURE_CLOSED, "the client closed the connection");
    }
    conn_close(c, t->begun ? CLOSE_TLS_HANDSHAKE : CLOSE_CLIENT_CLOSED);
}

static void tls_hello_progress(struct conn *c)
{
    const struct tls_hello *t = tls_hello_of(c);
    if (c->backlog.len && !c->close_when_written && !tls_handshake_busy(t->handshake)) {
        size_t used = tls_hello_take(c, c->backlog.data, c->backlog.len);
        strbuf_consume(&c->backlog, used);
    }
}

static bool tls_hello_wants_bytes(const struct conn *c)
{
    return !c->close_when_written && !tls_handshake_busy(tls_hello_of(c)->handshake);
}

static bool tls_hello_idle(const struct conn *c)
{
    return !tls_handshake_busy(tls_hello_of(c)->handshake);
}

static enum conn_wait tls_hello_waits_for(const struct conn *c)
{
    (void)c;
    return CONN_WAIT_HEAD;
}

static void tls_hello_refuse(struct conn *c, int status, const char *text)
{
    (void)status, (void)text; /* there is no way to say so before the handshake */
    conn_close(c, CLOSE_REFUSED_REQUEST);
}

static void tls_hello_closed(struct conn *c, enum close_reason why)
{
    struct tls_hello *t = tls_hello_of(c);
    if (why == CLOSE_HEAD_TIMEOUT && !t->failed) {
        tls_hello_count(c, TLS_FAILURE_TIMEOUT, "not finished within limits.head_timeout_s");
    }
    tls_handshake_free(t->handshake);
    t->handshake = NULL;
}

static void tls_hello_init(struct conn *c)
{
    (void)c;
}

static void tls_hello_writable(struct conn *c)
{
    (void)c;
}

static const struct conn_protocol tls_hello_protocol = {.name = "tls",
                                                        .size = sizeof(struct tls_hello),
                                                        .init = tls_hello_init,
                                                        .take = tls_hello_take,
                                                        .eof = tls_hello_eof,
                                                        .writable = tls_hello_writable,
                                                        .progress = tls_hello_progress,
                                                        .wants_bytes = tls_hello_wants_bytes,
                                                        .idle = tls_hello_idle,
                                                        .waits_for = tls_hello_waits_for,
                                                        .refuse = tls_hello_refuse,
                                                        .closed = tls_hello_closed};

int conn_tls_start(struct conn *c, struct tls_context *context)
{
    struct tls_handshake *h = tls_handshake_new(c->server->tls->pool, context, c);
    if (!h) {
        return UV_ENOMEM;
    }
    conn_set_protocol(c, &tls_hello_protocol);
    tls_hello_of(c)->handshake = h;
    return 0;
}

/* The handshake is done: from now on the layer is between the socket and what is spoken. */
static void tls_hello_done(struct conn *c, struct tls_handshake *h)
{
    struct net_metrics *m = c->server->metrics;
    struct conn_tls *l = tls_conn_settle(h->tls, sizeof *l);
    const struct tls_conn *tls = tls_conn_behind(l, sizeof *l);
    const struct tls_facts *facts = tls_conn_facts(tls);
    h->tls = NULL;
    l->layer.ops = &conn_tls_ops;
    m->tls_handshakes++;
    m->tls_resumed += tls_facts_resumed(facts);
    m->tls_compact += tls_conn_is_compact(tls);
    conn_set_protocol(c, tls_facts_h2(facts) ? c->server->opt.h2 : c->server->protocol);
    c->layer = &l->layer;
    c->backlog.max = PLAIN_BYTES;         /* one read may decrypt to more than was read */
    int rc = conn_tls_answer(c, &c->out); /* of the handshake, not encrypted again */
    strbuf_clear(&c->out);
    rc = rc ? rc : conn_tls_answer(c, &h->out);
    /* what came with the end of the handshake: requests, most often */
    struct strbuf behind = c->backlog;
    strbuf_init(&c->backlog, PLAIN_BYTES);
    if (rc) {
        conn_close(c, CLOSE_NO_MEMORY);
    }
    if (!c->closing && h->rest.n) {
        conn_received(c, h->rest.p, h->rest.n);
    }
    if (!c->closing && behind.len) {
        conn_received(c, behind.data, behind.len);
    }
    strbuf_clear(&behind);
    tls_handshake_free(h);
    conn_progress(c);
}

static void conn_tls_stepped(struct tls_handshake *h, void *owner)
{
    struct conn *c = owner;
    REQUIRE(!c->closing);
    if (h->result == 1) {
        tls_hello_done(c, h);
        return;
    }
    int rc = h->out.len ? strbuf_append(&c->out, h->out.data, h->out.len) : 0;
    if (h->result < 0) {
        bool explained = h->result == UV_EPROTO;
        tls_hello_count(c, explained ? h->failure.kind : TLS_FAILURE_OTHER,
                        explained ? h->failure.text : uv_strerror(h->result));
        strbuf_clear(&c->backlog);
        conn_close_when_written(c, CLOSE_TLS_HANDSHAKE);
    } else {
        loop_defer(c->server->loop, &c->flush);
    }
    if (rc) {
        conn_close(c, CLOSE_NO_MEMORY);
    }
    conn_progress(c);
}
