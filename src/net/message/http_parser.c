/* The way of a request through the parser, and its first line (RFC 9112 3). Between http1.c, which
 * feeds what it read, and the handlers, which get complete requests. A head that arrives in one
 * piece costs one scan, one copy and two allocations; nothing is allocated before a byte came. */
#include "net/message/http_parser.h"

#include "net/message/http_body.h"
#include "net/message/http_fields.h"
#include "net/message/http_head.h"

enum {
    /* Old clients send CRLF behind a body: ignore it (RFC 9112 2.2), but not for ever. */
    EMPTY_LINES_MAX = 2,
    METHOD_MAX_BYTES = 32,
};

static void parser_step_start(struct http_request *rq, struct http_input *in)
{
    if (*in->p == '\r') {
        if (rq->empty_lines++ == EMPTY_LINES_MAX) {
            http_fail(rq, 400, "empty lines where a request line was expected");
            return;
        }
        in->p++;
        rq->step = HTTP_STEP_START_LF;
    } else if (*in->p == 0x16) {
        http_fail(rq, 400, "this looks like TLS; this port speaks plain HTTP");
    } else if (!http_byte_is(*in->p, BYTE_TOKEN)) {
        http_refuse_byte(rq, in,
                         "the method must be a token, the request line METHOD TARGET "
                         "HTTP/1.1");
    } else {
        rq->mark = http_input_offset(in);
        rq->step = HTTP_STEP_METHOD;
    }
}

/* Moves over a word that starts at rq->mark; true at its end. Longer than `max` bytes: `status`. */
static bool parser_scan_word(struct http_request *rq, struct http_input *in, unsigned byte_class,
                             size_t max, struct http_failure too_long)
{
    struct http_input part = *in;
    size_t left = max - (http_input_offset(in) - rq->mark);
    if ((size_t)(in->end - in->p) > left) {
        part.end = in->p + left;
    }
    bool found = http_scan(&part, byte_class);
    in->p = part.p;
    if (!found && in->p < in->end && http_byte_is(*in->p, byte_class)) {
        http_fail(rq, too_long.status, too_long.text);
        return false;
    }
    return in->p < in->end;
}

static void parser_step_method(struct http_request *rq, struct http_input *in)
{
    static const struct http_failure too_long = {501, "the method is longer than any served here"};
    if (!parser_scan_word(rq, in, BYTE_TOKEN, METHOD_MAX_BYTES, too_long)) {
        return;
    }
    if (*in->p != ' ') {
        http_refuse_byte(rq, in,
                         "the method must be a token, the request line METHOD TARGET "
                         "HTTP/1.1");
        return;
    }
    rq->method_span = http_span(rq->mark, http_input_offset(in));
    in->p++;
    rq->mark = http_input_offset(in);
    rq->step = HTTP_STEP_TARGET;
}

static void parser_step_target(struct http_request *rq, struct http_input *in)
{
    static const struct http_failure too_long = {414, "the request target is too long"};
    if (!parser_scan_word(rq, in, BYTE_TARGET, rq->limits->target_bytes, too_long)) {
        return;
    }
    rq->target_span = http_span(rq->mark, http_input_offset(in));
    if (*in->p != ' ') {
        http_refuse_byte(rq, in,
                         *in->p == '#'    ? "a fragment in the request target"
                         : *in->p == '\r' ? "the request line must end with HTTP/1.1"
                                          : "a byte in the request target that must be written as "
                                            "%XX");
        return;
    }
    if (rq->target_span.n == 0) {
        http_fail(rq, 400, "two spaces, or no target, behind the method");
        return;
    }
    in->p++;
    rq->mark = http_input_offset(in);
    rq->step = HTTP_STEP_VERSION;
}

/* One byte of "HTTP/1.x" CR. */
static void parser_step_version(struct http_request *rq, struct http_input *in)
{
    static const char expected[] = "HTTP/1.";
    size_t i = http_input_offset(in) - rq->mark;
    char c = *in->p;
    bool digit = c >= '0' && c <= '9';
    if (i == 5 && digit && c != '1') {
        /* also the connection preface of RFC 9113 3.4 */
        http_fail(rq, 505,
                  c == '2' ? "HTTP/2 is not served here: use HTTP/1.1"
                           : "only HTTP/1.1 and HTTP/1.0 are served");
        return;
    }
    if (i == 7 && digit && c > '1') {
        http_fail(rq, 505, "only HTTP/1.1 and HTTP/1.0 are served");
        return;
    }
    if (!(i < 7 ? c == expected[i] : i == 7 ? digit : c == '\r')) {
        http_refuse_byte(rq, in,
                         "the request line must be METHOD TARGET HTTP/1.1, one space "
                         "between them");
        return;
    }
    if (i == 7) {
        rq->minor = c - '0';
    } else if (i == 8) {
        rq->step = HTTP_STEP_VERSION_LF;
    }
    in->p++;
}

static void parser_head_step(struct http_request *rq, struct http_input *in)
{
    switch (rq->step) {
    case HTTP_STEP_START:
        parser_step_start(rq, in);
        break;
    case HTTP_STEP_START_LF:
        http_expect_lf(rq, in, HTTP_STEP_START);
        break;
    case HTTP_STEP_METHOD:
        parser_step_method(rq, in);
        break;
    case HTTP_STEP_TARGET:
        parser_step_target(rq, in);
        break;
    case HTTP_STEP_VERSION:
        parser_step_version(rq, in);
        break;
    case HTTP_STEP_VERSION_LF:
        http_expect_lf(rq, in, HTTP_STEP_FIELD);
        break;
    default:
        http_fields_step(rq, in);
        break;
    }
}

/* Scans the input where it lies, then keeps what belongs to the head. */
static size_t parser_feed_head(struct http_request *rq, const char *data, size_t len)
{
    size_t room = rq->limits->head_bytes - rq->head.len;
    struct http_input in = {
        .p = data, .start = data, .end = data + (len < room ? len : room), .base = rq->head.len};
    while (in.p < in.end && rq->state == HTTP_HEAD && rq->step != HTTP_STEP_FIELDS_DONE) {
        parser_head_step(rq, &in);
    }
    size_t used = (size_t)(in.p - data);
    if (rq->state == HTTP_HEAD && rq->step != HTTP_STEP_FIELDS_DONE && used < len) {
        bool in_target = rq->step == HTTP_STEP_TARGET;
        http_fail(rq, in_target ? 414 : 431,
                  in_target ? "the request target is too long" : "the request head is too long");
    }
    bool failed = rq->state == HTTP_FAILED;
    if (strbuf_append(&rq->head, data, used) != 0) {
        http_fail(rq, 503, "memory is short"); /* the first failure stays */
    } else if (failed) {
        http_head_salvage(rq);
    }
    if (rq->state == HTTP_HEAD && rq->step == HTTP_STEP_FIELDS_DONE) {
        http_head_complete(rq);
    }
    return used;
}

size_t http_parser_feed(struct http_request *rq, const char *data, size_t len)
{
    size_t used = 0;
    if (len > 0 && rq->state == HTTP_HEAD) {
        used = parser_feed_head(rq, data, len);
    }
    if (used < len && rq->state == HTTP_BODY) {
        used += http_body_feed(rq, data + used, len - used);
    }
    return used;
}
