#include "bench/bench_sub.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "bench/bench_link.h"
#include "bench/bench_newest.h"

#include <stdlib.h>

enum {
    OPENING_MAX = 256,
    REQUEST_MAX = 64 * 1024,
    RETRY_NS = 100000000,
    INFLATED_BYTES = 64 * 1024,
};

static struct bench_sub *sub_of(struct bench_conn *c)
{
    return container_of(c, struct bench_sub, conn);
}

/* ---------------------------------------------------------------- events */

static uint64_t bench_sub_missing(const struct bench_sub *s)
{
    const struct bench_topic *t = &s->b->topics[s->topic];
    if (s->newest) {
        return bench_newest_missing(s);
    }
    uint64_t n = bench_order_missing(&s->order, t->sent);
    return n > t->forgiven ? n - t->forgiven : 0;
}

/* Has it everything now that it missed in the storm? */
static void look_whether_live(struct bench_sub *s, uint64_t now)
{
    if (s->b->storm.cutting && s->answered && !s->live && bench_sub_missing(s) == 0) {
        s->live = true;
        s->b->storm.live++;
        s->b->progress_ns = now;
        bench_hist_add(&s->b->storm.live_after, now - s->b->storm.from_ns);
    }
}

static void take_event(struct bench_sub *s, const struct bench_sse_event *ev, uint64_t now)
{
    struct bench *b = s->b;
    struct bench_counts *n = &b->counts;
    const struct bench_mark *m = &ev->mark;
    if (ev->position) {
        return;
    }
    if (s->newest) {
        bench_newest_take(s, ev, now);
        return;
    }
    if (ev->gap && s->slow) {
        s->excused = true;
        b->slow.gaps++;
        return;
    }
    if (!ev->marked || m->run != b->run) {
        n->gaps += ev->gap;
        n->strange += !ev->gap;
        return;
    }
    if (m->topic != s->topic) {
        n->misrouted++;
        return;
    }
    if (m->seq >= b->topics[s->topic].sent || m->sent_ns > now) {
        n->damaged++;
        return;
    }
    n->damaged += ev->whole && ev->data_bytes != b->o->size;
    switch (bench_order_take(&s->order, m->seq)) {
    case BENCH_ORDER_DOUBLED:
        n->doubled++;
        return;
    case BENCH_ORDER_LATE:
        n->late++;
        break;
    case BENCH_ORDER_GOOD:
        break;
    }
    if (s->slow) {
        b->slow.received++;
        b->progress_ns = now;
        return;
    }
    n->delivered++;
    b->undelivered--;
    b->delivery_ns = b->progress_ns = now;
    if (b->measuring && m->sent_ns >= b->from.at_ns) {
        bench_hist_add(&b->latency, now - m->sent_ns);
    }
    if (b->o->mode == BENCH_REPLAY && bench_order_missing(&s->order, b->o->preload) == 0) {
        n->replayed++;
        bench_hist_add(&b->replay, now - s->asked_ns);
    }
    look_whether_live(s, now);
}

/* ---------------------------------------------------------------- streams */

static void answered(struct bench_sub *s, uint64_t now)
{
    struct bench *b = s->b;
    s->answered = true;
    b->progress_ns = now;
    if (b->storm.cutting) {
        bench_hist_add(&b->storm.answer, now - s->asked_ns);
        look_whether_live(s, now);
        return;
    }
    b->opening--;
    b->counts.opened++;
    b->topics[s->topic].subs += s->slow || s->newest ? 0 : 1;
    bench_hist_add(&b->first_byte, now - s->asked_ns);
}

static void bench_sub_close(struct bench_sub *s)
{
    if (s->b->o->h2) {
        bench_link_leave(s);
    } else {
        bench_conn_close(&s->conn);
    }
}

void bench_sub_over(struct bench_sub *s, const char *why)
{
    struct bench *b = s->b;
    s->ended = true;
    bench_sub_close(s);
    b->progress_ns = uv_hrtime();
    if (b->storm.cutting) { /* it comes back */
        b->storm.live -= s->live ? 1 : 0;
        s->live = s->answered = false;
        if (b->storm.from_ns) {
            b->storm.retries++;
            s->again_ns = b->progress_ns - b->storm.from_ns + RETRY_NS;
        }
    } else if (s->answered && s->slow && !s->newest) {
        s->excused = true;
        s->answered = false;
        b->slow.ended++;
    } else if (s->answered) {
        bench_note(b, "a stream ended: %s", why);
        b->counts.cut++;
        if (!s->newest) {
            b->topics[s->topic].subs--;
            b->undelivered -= (int64_t)bench_sub_missing(s);
        }
    } else {
        bench_note(b, "subscribe: %s", why);
        b->counts.failed++;
        b->opening--;
    }
}

bool bench_sub_take_head(struct bench_sub *s, int status, bool gzip, uint64_t now)
{
    const struct bench_options *o = s->b->o;
    char text[32];
    if (status != 200) {
        snprintf(text, sizeof text, "status %d", status);
        bench_sub_over(s, text);
        return false;
    }
    if (gzip != o->gzip) {
        bench_sub_over(s, gzip ? "the answer is compressed" : "the answer is not compressed");
        return false;
    }
    if (gzip && bench_gzip_begin(&s->gzip)) {
        bench_sub_over(s, uv_strerror(UV_ENOMEM));
        return false;
    }
    answered(s, now);
    if (o->mode == BENCH_CHURN) {
        s->b->topics[s->topic].subs--;
        bench_sub_close(s);
        return false;
    }
    return true;
}

static void bench_sub_take_text(struct bench_sub *s, struct slice text, uint64_t now)
{
    struct bench_sse_event ev;
    while (bench_sse_next(&s->sse, &text, &ev)) {
        take_event(s, &ev, now);
    }
}

bool bench_sub_take_body(struct bench_sub *s, struct slice body, uint64_t now)
{
    char plain[INFLATED_BYTES];
    size_t n = 0;
    if (!s->gzip.z) {
        bench_sub_take_text(s, body, now);
        return true;
    }
    do {
        if (!bench_gzip_next(&s->gzip, &body, plain, sizeof plain, &n)) {
            bench_sub_over(s, "what it sends is not gzip");
            return false;
        }
        bench_sub_take_text(s, slice_of(plain, n), now);
    } while (body.n || n == sizeof plain);
    return true;
}

/* ---------------------------------------------------------------- HTTP/1.1 */

static void bench_sub_on_data(struct bench_conn *c, struct slice bytes)
{
    struct bench_sub *s = sub_of(c);
    struct slice body;
    uint64_t now = uv_hrtime();
    s->b->counts.reads++;
    s->b->counts.bytes += bytes.n;
    for (;;) {
        switch (bench_http_next(&s->http, &bytes, &body)) {
        case BENCH_HTTP_MORE:
            return;
        case BENCH_HTTP_HEAD:
            if (!bench_sub_take_head(s, s->http.status, s->http.gzip, now)) {
                return;
            }
            break;
        case BENCH_HTTP_BODY:
            if (!bench_sub_take_body(s, body, now)) {
                return;
            }
            break;
        case BENCH_HTTP_END:
            bench_sub_over(s, "the response is complete");
            return;
        case BENCH_HTTP_BAD:
            bench_sub_over(s, "the answer is not HTTP/1.1");
            return;
        }
    }
}

static void bench_sub_on_opened(struct bench_conn *c)
{
    struct bench_sub *s = sub_of(c);
    struct bench_place at = {s->topic, (uint32_t)(s - s->b->subs)};
    struct strbuf out;
    strbuf_init(&out, REQUEST_MAX);
    int rc = bench_request_append(s->b, &out, "GET", s->b->o->subscribe_path, at);
    if (rc == 0 && s->b->storm.cutting && s->sse.last_id) {
        rc = strbuf_printf(&out, "Last-Event-ID: %llu\r\n", (unsigned long long)s->sse.last_id);
    }
    rc = rc ? rc : strbuf_append_str(&out, bench_accept(s->b->o));
    rc = rc ? rc : strbuf_append(&out, "\r\n", 2);
    if (rc == 0) {
        int n = bench_conn_write(c, strbuf_slice(&out));
        rc = n < 0 ? n : (size_t)n == out.len ? 0 : UV_ENOBUFS;
    }
    strbuf_clear(&out);
    if (rc) {
        bench_sub_over(s, uv_strerror(rc));
    }
}

static void bench_sub_on_ended(struct bench_conn *c, int rc)
{
    bench_sub_over(sub_of(c), rc == UV_EOF ? "the server closed the connection" : uv_strerror(rc));
}

static void open_sub(struct bench_sub *s);

static void bench_sub_on_closed(struct bench_conn *c)
{
    struct bench_sub *s = sub_of(c);
    if (s->b->reopening && s->answered) {
        s->b->opening++;
        open_sub(s);
    }
}

static const struct bench_conn_ops conn_ops = {bench_sub_on_opened, bench_sub_on_data,
                                               bench_sub_on_ended, bench_sub_on_closed};

static void open_sub(struct bench_sub *s)
{
    s->answered = s->ended = false;
    s->http = (struct bench_http){.step = 0};
    s->sse = (struct bench_sse){.last_id = s->sse.last_id}; /* what was cut comes again */
    s->sse.id = s->sse.last_id;
    s->asked_ns = uv_hrtime();
    if (s->b->o->h2) {
        bench_link_subscribe(s);
    } else {
        bench_conn_open(&s->conn, &s->b->net, &conn_ops);
    }
}

/* ---------------------------------------------------------------- all of them */

void bench_subs_init(struct bench *b)
{
    b->sub_most = b->o->connections;
    bench_links_init(b);
    b->subs = xcalloc(b->o->connections, sizeof *b->subs);
    for (uint64_t i = 0; i < b->o->connections; i++) {
        b->subs[i].b = b;
        b->subs[i].topic = (uint32_t)(i % b->o->topics);
        b->subs[i].slow = i < b->o->slow;
        if (bench_newest_counts(b->o->mode)) {
            bench_newest_init(&b->subs[i]);
        }
        b->subs[i].again_ns =
            (uint64_t)((double)i / (double)b->o->connections * b->o->spread * 1e9);
    }
}

void bench_subs_open_more(struct bench *b)
{
    while (b->sub_next < b->sub_most && b->opening < OPENING_MAX) {
        b->opening++;
        open_sub(&b->subs[b->sub_next++]);
    }
}

bool bench_subs_idle(const struct bench *b)
{
    for (uint64_t i = 0; i < b->o->connections; i++) {
        if (b->subs[i].conn.state != BENCH_CONN_IDLE) {
            return false;
        }
    }
    return true;
}

void bench_subs_return(struct bench *b, uint64_t ns)
{
    for (uint64_t i = 0; i < b->o->connections; i++) {
        struct bench_sub *s = &b->subs[i];
        if (s->conn.state == BENCH_CONN_IDLE && s->again_ns <= ns) {
            open_sub(s);
        }
    }
}

void bench_subs_pause_slow(struct bench *b, bool on)
{
    for (uint64_t i = 0; i < b->o->slow; i++) {
        bench_conn_pause(&b->subs[i].conn, on);
    }
}

uint64_t bench_subs_slow_missing(const struct bench *b)
{
    uint64_t n = 0, most = b->o->mode == BENCH_CONFLATE ? b->o->connections : b->o->slow;
    for (uint64_t i = 0; i < most; i++) {
        n += b->subs[i].excused ? 0 : bench_sub_missing(&b->subs[i]);
    }
    return n;
}

void bench_subs_count_lost(struct bench *b)
{
    /* of those whose answer is outstanding nobody can say whether they should have had it */
    for (uint64_t i = 0; i < b->sub_next; i++) {
        const struct bench_sub *s = &b->subs[i];
        bool owed = (s->answered || b->storm.cutting) && !s->excused;
        b->lost += owed && b->o->mode != BENCH_CHURN ? bench_sub_missing(s) : 0;
    }
}

void bench_subs_close(struct bench *b)
{
    b->reopening = false;
    for (uint64_t i = 0; i < b->sub_next; i++) {
        bench_conn_close(&b->subs[i].conn);
    }
    bench_links_close(b);
}

void bench_subs_clear(struct bench *b)
{
    for (uint64_t i = 0; b->subs && i < b->o->connections; i++) {
        bench_order_clear(&b->subs[i].order);
        bench_newest_clear(&b->subs[i]);
        bench_gzip_clear(&b->subs[i].gzip);
        bench_conn_clear(&b->subs[i].conn);
    }
    bench_links_clear(b);
    free(b->subs);
}
