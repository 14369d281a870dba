/* Any bytes as HTTP requests. Properties: how the input is cut does not matter; what is accepted
 * has the shape it promises; where libhttp-parser accepts a message too, it is the same message. */
#include "http_oracle.h"
#include "net/message/http_parser.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http_limits limits = {
    .target_bytes = 512, .head_bytes = 4096, .headers = 32, .body_bytes = 8192};

#define MUST(x) ((x) ? (void)0 : abort())

static size_t feed_pieces(struct http_request *rq, const char *p, size_t n, size_t piece)
{
    size_t used = 0;
    while (used < n && rq->state != HTTP_COMPLETE && rq->state != HTTP_FAILED) {
        size_t len = n - used < piece ? n - used : piece;
        char *copy = malloc(len); /* of its own, so that the sanitizer sees every overrun */
        MUST(copy != NULL);
        memcpy(copy, p + used, len);
        size_t took = http_parser_feed(rq, copy, len);
        free(copy);
        MUST(took <= len);
        used += took;
        MUST(took == len || rq->state == HTTP_COMPLETE || rq->state == HTTP_FAILED);
    }
    return used;
}

static void same_slice(struct slice a, struct slice b)
{
    MUST((a.p == NULL) == (b.p == NULL) && slice_eq(a, b));
}

static void same_request(const struct http_request *a, const struct http_request *b)
{
    MUST(a->state == b->state);
    MUST(a->fail.status == b->fail.status && a->fail.text == b->fail.text);
    MUST(a->header_count == b->header_count);
    for (size_t i = 0; i < a->header_count; i++) {
        same_slice(a->headers[i].name, b->headers[i].name);
        same_slice(a->headers[i].value, b->headers[i].value);
    }
    MUST(a->method == b->method && a->minor == b->minor && a->keep_alive == b->keep_alive &&
         a->expect_continue == b->expect_continue);
    same_slice(a->method_name, b->method_name);
    same_slice(a->target, b->target);
    same_slice(a->path, b->path);
    same_slice(a->query, b->query);
    same_slice(a->host, b->host);
    same_slice(strbuf_slice(&a->body), strbuf_slice(&b->body));
}

static void check_bounds(const struct http_request *rq)
{
    MUST(rq->head.len <= limits.head_bytes && rq->body.len <= limits.body_bytes);
    MUST(rq->header_count <= limits.headers && rq->target.n <= limits.target_bytes);
    if (rq->state == HTTP_FAILED) {
        MUST(rq->fail.status >= 400 && rq->fail.status < 600 && rq->fail.text);
        return;
    }
    if (rq->state != HTTP_COMPLETE) {
        return;
    }
    MUST(rq->path.n > 0 && (rq->path.p[0] == '/' || slice_is(rq->path, "*")));
    MUST(rq->host.p || rq->minor == 0);
    for (size_t i = 0; i < rq->header_count; i++) {
        struct slice v = rq->headers[i].value;
        MUST(rq->headers[i].name.n > 0);
        MUST(!v.n || (!memchr(v.p, '\r', v.n) && !memchr(v.p, '\n', v.n) && !memchr(v.p, 0, v.n)));
        MUST(!v.n || (v.p[0] != ' ' && v.p[v.n - 1] != ' '));
    }
}

static struct slice text_of(const struct oracle_text *t)
{
    size_t n = t->n;
    /* the oracle leaves white space behind values */
    while (n && (t->bytes[n - 1] == ' ' || t->bytes[n - 1] == '\t')) {
        n--;
    }
    return slice_of(t->bytes, n);
}

static void check_oracle(const struct http_request *rq, size_t used, struct slice input)
{
    static struct oracle oracle;
    oracle_parse(&oracle, input);
    if (!oracle.complete) {
        return;
    }
    MUST(oracle.used == used);
    MUST(slice_is(rq->method_name, oracle.method) && oracle.minor == rq->minor);
    MUST(slice_eq(rq->target, text_of(&oracle.target)));
    MUST(rq->body_bytes == oracle.body.n);
    MUST(rq->method == HTTP_POST
             ? slice_eq(strbuf_slice(&rq->body), slice_of(oracle.body.bytes, oracle.body.n))
             : rq->body.len == 0);
    MUST(rq->header_count == oracle.field_count);
    for (size_t i = 0; i < rq->header_count; i++) {
        MUST(slice_eq(rq->headers[i].name, text_of(&oracle.names[i])));
        MUST(slice_eq(rq->headers[i].value, text_of(&oracle.values[i])));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data;
    /* a train of requests, as a connection would take it apart */
    for (int i = 0; i < 4 && size > 0; i++) {
        struct http_request whole, pieces;
        size_t piece = 1 + data[0] % 64u; /* halves and thirds of small inputs, single bytes */
        http_request_init(&whole, &limits);
        http_request_init(&pieces, &limits);
        size_t used = feed_pieces(&whole, p, size, size);
        MUST(feed_pieces(&pieces, p, size, i == 0 ? 1 : piece) == used);
        same_request(&whole, &pieces);
        http_request_clear(&pieces);
        http_request_init(&pieces, &limits);
        MUST(feed_pieces(&pieces, p, size, size / 2 + 1) == used);
        same_request(&whole, &pieces);
        check_bounds(&whole);
        bool complete = whole.state == HTTP_COMPLETE;
        if (complete) {
            check_oracle(&whole, used, slice_of(p, size));
        }
        http_request_clear(&whole);
        http_request_clear(&pieces);
        if (!complete) {
            break;
        }
        p += used;
        size -= used;
    }
    return 0;
}
