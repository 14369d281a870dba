#include "doctor/doctor_stream.h"

#include "remote/client/sse_reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum {
    EVENT_MAX_BYTES = 1024 * 1024,
    ANSWER_MAX_BYTES = 64 * 1024,
    EVENTS = 2,
    PATIENCE_MS = 5000, /* for the first bytes of the stream, and for an event */
    SLOW_MS = 500,
};

struct stream_test {
    const struct remote_target *target;
    const char *topic;
    struct doctor_report *report;
    struct http_fetch *publisher;
    struct sse_reader reader;
    struct strbuf url, answer;
    char mark[64]; /* data of the event that is waited for */
    uint64_t start_ms, begun_ms, published_ms, heard_ms, heartbeat_ms, wait_ms;
    uint64_t patience_ms; /* PATIENCE_MS, or as long as heartbeats are waited for */
    unsigned published, received;
    uint64_t slowest_ms;
    bool position, refused, no_publish, lost;
};

static uint64_t stream_now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* ---------------------------------------------------------------- what comes */

static void stream_on_event(void *ctx, const struct sse_event *ev)
{
    struct stream_test *s = ctx;
    s->heard_ms = stream_now_ms();
    s->position = s->position || slice_is(ev->type, "position");
    /* a format may wrap the data */
    if (s->published > s->received && memmem(ev->data.p, ev->data.n, s->mark, strlen(s->mark))) {
        uint64_t took = s->heard_ms - s->published_ms;
        s->slowest_ms = took > s->slowest_ms ? took : s->slowest_ms;
        s->received++;
    }
}

static void stream_on_retry(void *ctx, uint64_t ms)
{
    (void)ctx;
    (void)ms;
}

static void stream_on_comment(void *ctx, struct slice text)
{
    struct stream_test *s = ctx;
    if (slice_is(text, "heartbeat") && !s->heartbeat_ms) {
        s->heartbeat_ms = stream_now_ms();
    }
}

static bool stream_on_body(void *ctx, struct http_fetch *f, struct slice bytes)
{
    struct stream_test *s = ctx;
    if (!remote_is_stream(f)) {
        size_t room = s->answer.max - s->answer.len;
        s->refused = true;
        return strbuf_append(&s->answer, bytes.p, bytes.n < room ? bytes.n : room) == 0;
    }
    s->begun_ms = s->begun_ms ? s->begun_ms : stream_now_ms();
    return sse_reader_feed(&s->reader, bytes) == 0;
}

/* ---------------------------------------------------------------- what is done */

static bool stream_on_answer(void *ctx, struct http_fetch *f, struct slice bytes)
{
    struct stream_test *s = ctx;
    (void)f;
    return strbuf_append(&s->answer, bytes.p, bytes.n) == 0;
}

static void stream_publish(struct stream_test *s)
{
    struct http_fetch_result res = {.status = 0};
    struct err e = {0};
    char text[600];
    strbuf_reset(&s->url);
    strbuf_reset(&s->answer);
    snprintf(s->mark, sizeof s->mark, "tidegate-doctor-%" PRIu64 "-%d", uv_hrtime(), (int)getpid());
    int rc = strbuf_append(&s->url, s->target->url.data, s->target->url.len);
    rc = rc ? rc : remote_put_param(&s->url, slice_str("topic"), slice_str(s->topic));
    struct http_fetch_request rq = remote_target_request(s->target, "POST", s->url.data);
    char body[96];
    snprintf(body, sizeof body, "\"%s\"", s->mark); /* JSON, for policies that want it */
    rq.body = slice_str(body);
    rq.on_body = stream_on_answer;
    rq.ctx = s;
    s->published_ms = stream_now_ms();
    s->published++;
    rc = rc ? rc : http_fetch_run(s->publisher, &rq, &res, &e);
    if (rc || res.status < 200 || res.status > 299) {
        remote_problem(res.status, strbuf_slice(&s->answer), text, sizeof text);
        doctor_warn(s->report, "publishing",
                    "Name a topic that you may read and write, and a token: --topic, --token. "
                    "Without an event of its own the doctor cannot tell whether events are held "
                    "back.",
                    "refused: %s", rc ? e.text : text);
        s->no_publish = true;
    }
}

/* The steps; asked several times a second. True: all is known. */
static bool stream_step(void *ctx)
{
    struct stream_test *s = ctx;
    uint64_t now = stream_now_ms();
    if (s->refused) {
        return s->answer.len == s->answer.max;
    }
    if (!s->position) {
        return now - s->start_ms > s->patience_ms;
    }
    if (!s->no_publish && s->received == s->published && s->published < EVENTS) {
        stream_publish(s);
        return false;
    }
    if (!s->no_publish && s->received < s->published) {
        s->lost = now - s->published_ms > s->patience_ms;
        return s->lost;
    }
    return s->heartbeat_ms || now - s->heard_ms > s->wait_ms;
}

/* ---------------------------------------------------------------- what it means */

/* `ended`: the stream was over before all was known, which is a failure of its own. */
static void stream_judge_events(struct stream_test *s, bool ended)
{
    static const char advice[] =
        "Switch buffering off in the proxy for this path (nginx: proxy_buffering off), and its "
        "compression, or let it flush each event.";
    static const char lost_advice[] =
        "Name a topic that this client may read and write: --topic. If it is one, switch buffering "
        "off in the proxy for this path (nginx: proxy_buffering off), and its compression, or let "
        "it flush each event.";
    if (s->lost) {
        doctor_fail(s->report, "events", lost_advice,
                    "event %u was published, and did not arrive within %.1f s: something holds the "
                    "stream back, or the policy does not let this client read the topic",
                    s->published, (double)s->patience_ms / 1000);
    } else if (s->no_publish || s->received < EVENTS) {
        /* said already, or it ended before */
    } else if (s->slowest_ms > SLOW_MS) {
        doctor_warn(s->report, "events", advice, "they arrive after up to %" PRIu64 " ms",
                    s->slowest_ms);
    } else {
        doctor_ok(s->report, "events", "%d of %d arrived, the slowest after %" PRIu64 " ms", EVENTS,
                  EVENTS, s->slowest_ms);
    }
    if (s->heartbeat_ms) {
        doctor_ok(s->report, "heartbeat", "came after %.1f s of silence",
                  (double)(s->heartbeat_ms - s->heard_ms) / 1000);
    } else if (!s->lost && !ended) {
        doctor_warn(s->report, "heartbeat",
                    "Wait longer than sse.heartbeat_s with --wait. If it still does not come, the "
                    "proxy holds small pieces back, and clients cannot tell a dead connection.",
                    "none within %.0f s", (double)s->wait_ms / 1000);
    }
}

static void stream_judge_head(struct stream_test *s, const struct http_fetch *f,
                              const struct http_fetch_result *res)
{
    struct slice encoding = http_fetch_header(f, "Content-Encoding");
    struct slice via = http_fetch_header(f, "Via");
    bool tls = strncmp(s->target->url.data, "https:", 6) == 0;
    doctor_ok(s->report, "stream",
              "connected after %.0f ms, first byte after %.0f ms, HTTP/%s%s%.*s",
              res->connect_s * 1000, res->head_s * 1000, res->h2 ? "2" : "1.1",
              via.n ? ", via " : "", (int)via.n, via.n ? via.p : "");
    if (tls && !res->h2) {
        doctor_warn(s->report, "HTTP/2",
                    "Browsers open six connections per name with HTTP/1.1: a seventh tab waits. "
                    "Switch HTTP/2 on in the proxy (nginx: http2 on).",
                    "this address speaks HTTP/1.1 only");
    } else if (tls) {
        doctor_ok(s->report, "HTTP/2", "is spoken");
    }
    if (encoding.n) {
        doctor_ok(s->report, "compression", "the stream is %.*s", (int)encoding.n, encoding.p);
    } else {
        doctor_ok(s->report, "compression", "the stream is not compressed");
    }
}

static void stream_judge(struct stream_test *s, const struct http_fetch *f,
                         const struct http_fetch_result *res, const struct err *e)
{
    char text[1000];
    if (!res->status) {
        doctor_fail(s->report, "stream",
                    "Is this the URL that clients use, and does the broker run?", "%s: %s",
                    remote_target_text(s->target), e->text);
    } else if (s->refused || (!s->begun_ms && e->code)) {
        remote_problem(res->status, strbuf_slice(&s->answer), text, sizeof text);
        doctor_fail(s->report, "stream",
                    res->status == 401 || res->status == 403
                        ? "Name a token that may subscribe: --token, and a topic: --topic."
                        : "Does the proxy pass this path to the broker?",
                    "refused: %s", text);
    } else if (!s->position && res->stopped) {
        doctor_fail(
            s->report, "stream",
            "Switch buffering off in the proxy for this path. If the broker refuses for now, "
            "its log says why; without a position event (sse.prime, sse.position_event) the "
            "doctor cannot tell.",
            "answered after %.0f ms, but the stream has not begun within %.1f s",
            res->head_s * 1000, (double)s->patience_ms / 1000);
    } else {
        if (s->position) {
            stream_judge_head(s, f, res);
            stream_judge_events(s, !res->stopped);
        }
        if (!res->stopped) {
            doctor_fail(s->report, "stream",
                        "The broker's log says whether it ended the stream, and why. If it did "
                        "not, raise the proxy's timeouts above sse.heartbeat_s (nginx: "
                        "proxy_read_timeout).",
                        "%s after %.1f s%s%s", e->code ? "it broke off" : "it ended",
                        (double)(stream_now_ms() - s->start_ms) / 1000, e->code ? ": " : "",
                        e->text);
        }
    }
}

void doctor_stream(const struct remote_target *t, const char *topic, double wait_s,
                   struct doctor_report *r)
{
    static const struct sse_reader_ops ops = {stream_on_event, stream_on_retry, stream_on_comment};
    struct http_fetch_result res = {.status = 0};
    struct err e = {0};
    struct stream_test s = {.target = t, .topic = topic, .report = r};
    struct remote_target reader = *t; /* with a header of its own; shares the rest */
    struct http_fetch *f = http_fetch_new();
    s.publisher = http_fetch_new();
    s.wait_ms = (uint64_t)(wait_s * 1000);
    s.patience_ms = s.wait_ms < PATIENCE_MS ? s.wait_ms : PATIENCE_MS;
    s.start_ms = s.heard_ms = stream_now_ms();
    sse_reader_init(&s.reader, &ops, &s, EVENT_MAX_BYTES);
    strbuf_init(&s.url, HTTP_CLIENT_URL_MAX_BYTES);
    strbuf_init(&s.answer, ANSWER_MAX_BYTES);
    reader.headers[reader.header_count++] =
        (struct http_client_header){slice_str("Accept"), slice_str("text/event-stream")};
    struct strbuf url;
    strbuf_init(&url, HTTP_CLIENT_URL_MAX_BYTES);
    int rc = strbuf_append(&url, t->url.data, t->url.len);
    rc = rc ? rc : remote_put_param(&url, slice_str("topic"), slice_str(topic));
    if (rc == 0 && f && s.publisher) {
        struct http_fetch_request rq = remote_target_request(&reader, "GET", url.data);
        rq.gzip = true;
        rq.on_body = stream_on_body;
        rq.stop = stream_step;
        rq.ctx = &s;
        (void)http_fetch_run(f, &rq, &res, &e);
        stream_judge(&s, f, &res, &e);
    } else {
        doctor_fail(r, "stream", NULL, "out of memory");
    }
    http_fetch_free(f);
    http_fetch_free(s.publisher);
    sse_reader_clear(&s.reader);
    strbuf_clear(&url);
    strbuf_clear(&s.url);
    strbuf_clear(&s.answer);
}
