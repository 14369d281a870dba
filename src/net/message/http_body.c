/* Bodies into rq->body. Chunk extensions and trailers are checked, bounded and dropped: nothing
 * here uses them, and unbounded ones are a way to send a lot for a small body. */
#include "net/message/http_body.h"

#include "base/text/hex.h"
#include "net/message/http_fields.h"

enum {
    CHUNK_LINE_MAX_BYTES = 256,        /* one size line with its extensions */
    CHUNK_EXTENSIONS_MAX_BYTES = 4096, /* all extensions of one body */
};

void http_body_start(struct http_request *rq)
{
    if (rq->chunked) {
        rq->state = HTTP_BODY;
        rq->step = HTTP_STEP_CHUNK_SIZE;
    } else if (rq->body_left > 0) {
        rq->state = HTTP_BODY;
        rq->step = HTTP_STEP_FIXED_BODY;
    } else {
        rq->state = HTTP_COMPLETE;
    }
}

/* True when the counted bytes are all there. */
static bool take_data(struct http_request *rq, struct http_input *in)
{
    size_t n = (size_t)(in->end - in->p);
    if (n > rq->body_left) {
        n = (size_t)rq->body_left;
    }
    if (rq->method == HTTP_POST && strbuf_append(&rq->body, in->p, n) != 0) {
        http_fail(rq, 503, "memory is short");
        return false;
    }
    rq->body_bytes += n;
    in->p += n;
    rq->body_left -= n;
    return rq->body_left == 0;
}

/* One byte of a size line, within its bound. */
static bool count_line_byte(struct http_request *rq)
{
    if (rq->chunk_line_bytes++ < CHUNK_LINE_MAX_BYTES) {
        return true;
    }
    http_fail(rq, 400, "a chunk size line is too long");
    return false;
}

static void step_size(struct http_request *rq, struct http_input *in)
{
    int digit = hex_value(*in->p);
    if (digit < 0) {
        /* No sign, no "0x", no white space; an extension needs a size before it. */
        if (rq->chunk_line_bytes == 0 || (*in->p != ';' && *in->p != '\r')) {
            http_refuse_byte(rq, in, "a chunk size must be hexadecimal digits only");
            return;
        }
        rq->step = *in->p == ';' ? HTTP_STEP_CHUNK_EXT : HTTP_STEP_CHUNK_SIZE_LF;
        in->p++;
        return;
    }
    if (!count_line_byte(rq)) {
        return;
    }
    if (rq->body_left >> 60) {
        http_fail(rq, 400, "a chunk size does not fit into 64 bits");
        return;
    }
    rq->body_left = rq->body_left << 4 | (unsigned)digit;
    in->p++;
}

static void step_extension(struct http_request *rq, struct http_input *in)
{
    if (*in->p == '\r') {
        in->p++;
        rq->step = HTTP_STEP_CHUNK_SIZE_LF;
        return;
    }
    if (!http_byte_is(*in->p, BYTE_VALUE)) {
        http_refuse_byte(rq, in, "a control character in a chunk extension");
        return;
    }
    if (!count_line_byte(rq)) {
        return;
    }
    if (rq->chunk_ext_bytes++ == CHUNK_EXTENSIONS_MAX_BYTES) {
        http_fail(rq, 400, "too many bytes of chunk extensions");
        return;
    }
    in->p++;
}

static void step_size_lf(struct http_request *rq, struct http_input *in)
{
    http_expect_lf(rq, in, rq->body_left ? HTTP_STEP_CHUNK_DATA : HTTP_STEP_FIELD);
    rq->chunk_line_bytes = 0;
    if (rq->state != HTTP_FAILED && rq->body_left > rq->limits->body_bytes - rq->body_bytes) {
        http_fail(rq, 413, "the request body is too long");
    }
}

/* Trailers have the bound of a head, all together. */
static void step_trailer(struct http_request *rq, struct http_input *in)
{
    size_t room = rq->limits->head_bytes - rq->trailer_bytes;
    size_t n = (size_t)(in->end - in->p);
    if (room == 0) {
        http_fail(rq, 431, "the trailers are too long");
        return;
    }
    struct http_input part = {.p = in->p, .start = in->p, .end = in->p + (n < room ? n : room)};
    http_fields_step(rq, &part);
    rq->trailer_bytes += (size_t)(part.p - in->p);
    in->p = part.p;
    if (rq->step == HTTP_STEP_FIELDS_DONE) {
        rq->state = HTTP_COMPLETE;
    }
}

static void body_step(struct http_request *rq, struct http_input *in)
{
    switch (rq->step) {
    case HTTP_STEP_FIXED_BODY:
        if (take_data(rq, in)) {
            rq->state = HTTP_COMPLETE;
        }
        break;
    case HTTP_STEP_CHUNK_SIZE:
        step_size(rq, in);
        break;
    case HTTP_STEP_CHUNK_EXT:
        step_extension(rq, in);
        break;
    case HTTP_STEP_CHUNK_SIZE_LF:
        step_size_lf(rq, in);
        break;
    case HTTP_STEP_CHUNK_DATA:
        if (take_data(rq, in)) {
            rq->step = HTTP_STEP_CHUNK_CR;
        }
        break;
    case HTTP_STEP_CHUNK_CR:
        if (*in->p != '\r') {
            http_refuse_byte(rq, in, "a chunk is longer than its size says");
            break;
        }
        in->p++;
        rq->step = HTTP_STEP_CHUNK_LF;
        break;
    case HTTP_STEP_CHUNK_LF:
        http_expect_lf(rq, in, HTTP_STEP_CHUNK_SIZE);
        break;
    default:
        step_trailer(rq, in);
        break;
    }
}

size_t http_body_feed(struct http_request *rq, const char *data, size_t len)
{
    struct http_input in = {.p = data, .start = data, .end = data + len};
    while (in.p < in.end && rq->state == HTTP_BODY) {
        body_step(rq, &in);
    }
    return (size_t)(in.p - data);
}

void http_body_append(struct http_request *rq, const char *data, size_t len)
{
    if (rq->state == HTTP_FAILED) {
        return;
    }
    if (len > rq->limits->body_bytes - rq->body_bytes) {
        http_fail(rq, 413, "the request body is too long");
    } else if (rq->method == HTTP_POST && strbuf_append(&rq->body, data, len) != 0) {
        http_fail(rq, 503, "memory is short");
    } else {
        rq->body_bytes += len;
    }
}

void http_body_count(struct http_request *rq)
{
    if (rq->state != HTTP_FAILED && !http_body_share_grow(&rq->share, rq->body.len)) {
        http_fail(rq, 503, HTTP_BODIES_FULL);
    }
}
