#include "bench/bench_pub.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "bench/bench_payload.h"
#include "bench/wire/bench_http.h"

#include <stdlib.h>

enum { OUT_MAX = 80 * 1024 * 1024 };

struct request {
    uint64_t sent_ns;
    uint32_t topic;
};

struct bench_pub {
    struct bench_conn conn;
    struct bench *b;
    bool ready;
    uint32_t first_topic, topic; /* its topics: every b->o->publishers-th from the first on */
    uint64_t left;               /* may still be sent */
    struct bench_http http;
    struct strbuf out;        /* what the kernel has not taken */
    struct request *requests; /* owned; a ring of b->o->pipeline, those without an answer */
    uint64_t oldest, waiting;
};

static struct bench_pub *pub_of(struct bench_conn *c)
{
    return container_of(c, struct bench_pub, conn);
}

/* The run cannot go on: what was sent may or may not have been stored. */
static void bench_pub_fail(struct bench_pub *p, const char *why)
{
    bench_note(p->b, "a publishing connection ended: %s", why);
    p->b->stop = true;
    bench_conn_close(&p->conn);
}

/* ---------------------------------------------------------------- answers */

static void take_answer(struct bench_pub *p, uint64_t now)
{
    struct bench *b = p->b;
    const struct request *rq = &p->requests[p->oldest];
    p->oldest = (p->oldest + 1) % b->o->pipeline;
    p->waiting--;
    b->progress_ns = now;
    if (p->http.status / 100 == 2) {
        b->counts.acked++;
        if (b->measuring && rq->sent_ns >= b->from.at_ns) {
            bench_hist_add(&b->ack, now - rq->sent_ns);
        }
        return;
    }
    struct bench_topic *t = &b->topics[rq->topic];
    bench_note(b, "publish: status %d", p->http.status);
    b->counts.refused++;
    t->forgiven++;
    b->undelivered -= t->subs;
}

static void bench_pub_on_data(struct bench_conn *c, struct slice bytes)
{
    struct bench_pub *p = pub_of(c);
    struct slice body;
    uint64_t now = uv_hrtime();
    for (;;) {
        switch (bench_http_next(&p->http, &bytes, &body)) {
        case BENCH_HTTP_MORE:
            return;
        case BENCH_HTTP_HEAD:
        case BENCH_HTTP_BODY:
            break;
        case BENCH_HTTP_END:
            if (p->waiting == 0) {
                bench_pub_fail(p, "an answer to nothing");
                return;
            }
            take_answer(p, now);
            break;
        case BENCH_HTTP_BAD:
            bench_pub_fail(p, "the answer is not HTTP/1.1");
            return;
        }
    }
}

static void bench_pub_on_opened(struct bench_conn *c)
{
    pub_of(c)->ready = true;
    pub_of(c)->b->progress_ns = uv_hrtime();
}

static void bench_pub_on_ended(struct bench_conn *c, int rc)
{
    bench_pub_fail(pub_of(c), rc == UV_EOF ? "the server closed it" : uv_strerror(rc));
}

static const struct bench_conn_ops conn_ops = {bench_pub_on_opened, bench_pub_on_data,
                                               bench_pub_on_ended, NULL};

/* ---------------------------------------------------------------- requests */

static void send_one(struct bench_pub *p)
{
    struct bench *b = p->b;
    struct bench_topic *t = &b->topics[p->topic];
    struct bench_place at = {p->topic, (uint32_t)(p - b->pubs)};
    struct bench_mark mark = {b->run, p->topic, t->sent, uv_hrtime()};
    int rc = bench_request_append(b, &p->out, "POST", b->o->publish_path, at);
    rc = rc ? rc
            : strbuf_printf(&p->out, "Content-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
                            bench_payload_size(b->o, &mark));
    rc = rc ? rc : bench_payload_append(b->o, &p->out, &mark);
    if (rc) {
        bench_pub_fail(p, uv_strerror(rc));
        return;
    }
    p->requests[(p->oldest + p->waiting) % b->o->pipeline] =
        (struct request){mark.sent_ns, p->topic};
    p->waiting++;
    p->left--;
    t->sent++;
    b->counts.published++;
    b->events_left--;
    b->rate_sent++;
    b->undelivered += t->subs;
    p->topic += (uint32_t)b->o->publishers;
    if (p->topic >= b->o->topics) {
        p->topic = p->first_topic;
    }
}

static bool may_send(const struct bench_pub *p)
{
    return p->ready && p->conn.state == BENCH_CONN_OPEN && p->left &&
           p->waiting < p->b->o->pipeline;
}

/* One that may send, in turn; NULL: none. */
static struct bench_pub *next_pub(struct bench *b)
{
    for (uint64_t i = 0; i < b->o->publishers; i++) {
        struct bench_pub *p = &b->pubs[b->pub_next];
        b->pub_next = (b->pub_next + 1) % b->o->publishers;
        if (may_send(p)) {
            return p;
        }
    }
    return NULL;
}

static bool window_open(const struct bench *b, const struct bench_pub *p)
{
    return b->window == 0 || b->undelivered <= 0 ||
           b->undelivered + (int64_t)b->topics[p->topic].subs <= b->window;
}

static void flush(struct bench *b)
{
    for (uint64_t i = 0; i < b->o->publishers; i++) {
        struct bench_pub *p = &b->pubs[i];
        if (p->out.len && p->conn.state == BENCH_CONN_OPEN) {
            int n = bench_conn_write(&p->conn, strbuf_slice(&p->out));
            if (n < 0) {
                bench_pub_fail(p, uv_strerror(n));
            } else {
                strbuf_consume(&p->out, (size_t)n);
            }
        }
    }
}

void bench_pubs_pump(struct bench *b)
{
    uint64_t now = uv_hrtime(), due = b->events_left;
    double rate = b->o->rate;
    if (rate > 0 && b->publishing) {
        uint64_t by_now = (uint64_t)((double)(now - b->rate_from_ns) / 1e9 * rate) + 1;
        due = by_now - b->rate_sent < due ? by_now - b->rate_sent : due;
    }
    while (b->publishing && due && !b->stop) {
        struct bench_pub *p = next_pub(b);
        if (!p || !window_open(b, p)) {
            break;
        }
        send_one(p);
        due--;
    }
    if (rate > 0 && b->publishing && due) {
        uint64_t since = b->rate_from_ns + (uint64_t)((double)b->rate_sent / rate * 1e9);
        b->behind_ns = now > since && now - since > b->behind_ns ? now - since : b->behind_ns;
    }
    flush(b);
}

/* ---------------------------------------------------------------- all of them */

void bench_pubs_init(struct bench *b)
{
    b->pubs = xcalloc(b->o->publishers, sizeof *b->pubs);
    for (uint64_t i = 0; i < b->o->publishers; i++) {
        struct bench_pub *p = &b->pubs[i];
        p->b = b;
        p->first_topic = p->topic = (uint32_t)i;
        p->requests = xcalloc(b->o->pipeline, sizeof *p->requests);
        strbuf_init(&p->out, OUT_MAX);
    }
}

void bench_pubs_open(struct bench *b)
{
    for (uint64_t i = 0; i < b->o->publishers; i++) {
        b->pubs[i].ready = false;
        b->pubs[i].http = (struct bench_http){.step = 0};
        bench_conn_open(&b->pubs[i].conn, &b->net, &conn_ops);
    }
}

bool bench_pubs_ready(const struct bench *b)
{
    for (uint64_t i = 0; i < b->o->publishers; i++) {
        if (!b->pubs[i].ready) {
            return false;
        }
    }
    return true;
}

bool bench_pubs_idle(const struct bench *b)
{
    for (uint64_t i = 0; i < b->o->publishers; i++) {
        if (b->pubs[i].conn.state != BENCH_CONN_IDLE) {
            return false;
        }
    }
    return true;
}

void bench_pubs_start(struct bench *b, uint64_t events, uint64_t per_topic)
{
    uint64_t step = b->o->publishers;
    for (uint64_t i = 0; i < step; i++) {
        uint64_t topics = (b->o->topics - i + step - 1) / step;
        b->pubs[i].left = per_topic > UINT64_MAX / topics ? UINT64_MAX : per_topic * topics;
    }
    b->events_left = events;
    b->rate_from_ns = uv_hrtime();
    b->rate_sent = 0;
    b->publishing = true;
}

uint64_t bench_pubs_waiting(const struct bench *b)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < b->o->publishers; i++) {
        n += b->pubs[i].waiting;
    }
    return n;
}

void bench_pubs_forgive_unanswered(struct bench *b)
{
    for (uint64_t i = 0; i < b->o->publishers; i++) {
        const struct bench_pub *p = &b->pubs[i];
        for (uint64_t k = 0; k < p->waiting; k++) {
            b->topics[p->requests[(p->oldest + k) % b->o->pipeline].topic].forgiven++;
        }
    }
}

void bench_pubs_close(struct bench *b)
{
    for (uint64_t i = 0; i < b->o->publishers; i++) {
        bench_conn_close(&b->pubs[i].conn);
    }
}

void bench_pubs_clear(struct bench *b)
{
    for (uint64_t i = 0; b->pubs && i < b->o->publishers; i++) {
        free(b->pubs[i].requests);
        bench_conn_clear(&b->pubs[i].conn);
        strbuf_clear(&b->pubs[i].out);
    }
    free(b->pubs);
}
