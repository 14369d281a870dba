#include "bench/wire/bench_http.h"

#include <string.h>

enum step {
    STEP_STATUS,
    STEP_FIELD,
    STEP_FIXED, /* a body of known length */
    STEP_REST,  /* a body that ends with the connection */
    STEP_CHUNK, /* the line with a chunk's size */
    STEP_CHUNK_DATA,
    STEP_CHUNK_END, /* the empty line behind a chunk */
    STEP_TRAILER,
    STEP_BAD,
};

static enum bench_http_found bad(struct bench_http *h)
{
    h->step = STEP_BAD;
    return BENCH_HTTP_BAD;
}

/* The next line, without its end, cut to BENCH_HTTP_LINE bytes; MORE, BAD, or HEAD for "here". */
static enum bench_http_found bench_http_take_line(struct bench_http *h, struct slice *in,
                                                  struct slice *line)
{
    const char *lf = memchr(in->p, '\n', in->n);
    size_t n = lf ? (size_t)(lf - in->p) : in->n;
    if (n >= BENCH_HTTP_HEAD_MAX || h->head_bytes + n >= BENCH_HTTP_HEAD_MAX) {
        return bad(h);
    }
    if (h->line_bytes < BENCH_HTTP_LINE) {
        size_t room = BENCH_HTTP_LINE - h->line_bytes;
        memcpy(h->line + h->line_bytes, in->p, n < room ? n : room);
    }
    h->line_bytes += (uint32_t)n;
    h->head_bytes += (uint32_t)n + 1;
    if (!lf) {
        *in = slice_of(in->p + n, 0);
        return BENCH_HTTP_MORE;
    }
    *in = slice_of(lf + 1, in->n - n - 1);
    *line = slice_of(h->line, h->line_bytes < BENCH_HTTP_LINE ? h->line_bytes : BENCH_HTTP_LINE);
    if (line->n && line->n == h->line_bytes && line->p[line->n - 1] == '\r') {
        line->n--;
    }
    h->line_bytes = 0;
    return BENCH_HTTP_HEAD;
}

static int bench_http_hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Leading digits of `text`, what follows them is for others to judge. False when there are none, or
 * too many. */
static bool bench_http_take_number(struct slice *text, unsigned base, uint64_t *out)
{
    uint64_t n = 0;
    size_t i = 0;
    for (; i < text->n; i++) {
        int digit = bench_http_hex_digit(text->p[i]);
        if (digit < 0 || (unsigned)digit >= base) {
            break;
        }
        if (n >> 56) {
            return false;
        }
        n = n * base + (unsigned)digit;
    }
    *text = slice_of(text->p + i, text->n - i);
    *out = n;
    return i > 0;
}

static bool read_status(struct bench_http *h, struct slice line)
{
    uint64_t status = 0;
    if (line.n < 12 || memcmp(line.p, "HTTP/1.", 7) != 0 || line.p[8] != ' ') {
        return false;
    }
    struct slice rest = slice_of(line.p + 9, line.n - 9);
    if (!bench_http_take_number(&rest, 10, &status) || status < 100 || status > 999) {
        return false;
    }
    h->status = (int)status;
    h->chunked = h->has_length = h->gzip = false;
    h->left = 0;
    return true;
}

static bool read_field(struct bench_http *h, struct slice line)
{
    const char *colon = memchr(line.p, ':', line.n);
    if (!colon) {
        return true; /* a long name, or none: nothing we need */
    }
    struct slice name = slice_of(line.p, (size_t)(colon - line.p));
    struct slice value = slice_of(colon + 1, line.n - name.n - 1);
    while (value.n && (*value.p == ' ' || *value.p == '\t')) {
        value = slice_of(value.p + 1, value.n - 1);
    }
    if (slice_is_nocase(name, "content-length")) {
        h->has_length = true;
        return bench_http_take_number(&value, 10, &h->left);
    }
    if (slice_is_nocase(name, "content-encoding")) {
        h->gzip = slice_is_nocase(value, "gzip");
    }
    if (slice_is_nocase(name, "transfer-encoding")) {
        h->chunked = value.n >= 7 && strncasecmp(value.p + value.n - 7, "chunked", 7) == 0;
    }
    return true;
}

/* RFC 9112, section 6.3. */
static enum bench_http_found end_head(struct bench_http *h)
{
    h->head_bytes = 0;
    if (h->status < 200) {
        h->step = STEP_STATUS; /* interim: the answer follows */
        return BENCH_HTTP_MORE;
    }
    if (h->status == 204 || h->status == 304) {
        h->left = 0;
        h->step = STEP_FIXED;
    } else if (h->chunked) {
        h->step = STEP_CHUNK;
    } else {
        h->step = h->has_length ? STEP_FIXED : STEP_REST;
    }
    return BENCH_HTTP_HEAD;
}

/* One line of anything but a body. MORE: go on. */
static enum bench_http_found read_line(struct bench_http *h, struct slice line)
{
    uint64_t size = 0;
    switch ((enum step)h->step) {
    case STEP_STATUS:
        h->step = STEP_FIELD;
        return read_status(h, line) ? BENCH_HTTP_MORE : bad(h);
    case STEP_FIELD:
        if (line.n == 0) {
            return end_head(h);
        }
        return read_field(h, line) ? BENCH_HTTP_MORE : bad(h);
    case STEP_CHUNK:
        if (!bench_http_take_number(&line, 16, &size)) {
            return bad(h);
        }
        h->left = size;
        h->head_bytes = 0;
        h->step = size ? STEP_CHUNK_DATA : STEP_TRAILER;
        return BENCH_HTTP_MORE;
    case STEP_CHUNK_END:
        h->step = STEP_CHUNK;
        return line.n == 0 ? BENCH_HTTP_MORE : bad(h);
    case STEP_TRAILER:
        if (line.n == 0) {
            h->step = STEP_STATUS;
            h->head_bytes = 0;
            return BENCH_HTTP_END;
        }
        return BENCH_HTTP_MORE;
    case STEP_FIXED:
    case STEP_REST:
    case STEP_CHUNK_DATA:
    case STEP_BAD:
        break;
    }
    return bad(h);
}

static enum bench_http_found take_body(struct bench_http *h, struct slice *in, struct slice *body)
{
    size_t n = in->n;
    if (h->step != STEP_REST) {
        n = h->left < n ? (size_t)h->left : n;
        h->left -= n;
    }
    *body = slice_of(in->p, n);
    *in = slice_of(in->p + n, in->n - n);
    return BENCH_HTTP_BODY;
}

enum bench_http_found bench_http_next(struct bench_http *h, struct slice *in, struct slice *body)
{
    for (;;) {
        bool in_body = h->step == STEP_FIXED || h->step == STEP_REST || h->step == STEP_CHUNK_DATA;
        if (h->step == STEP_BAD) {
            return BENCH_HTTP_BAD;
        }
        if (in_body && h->left == 0 && h->step != STEP_REST) {
            bool chunk = h->step == STEP_CHUNK_DATA;
            h->step = chunk ? STEP_CHUNK_END : STEP_STATUS;
            if (!chunk) {
                return BENCH_HTTP_END;
            }
            continue;
        }
        if (in->n == 0) {
            return BENCH_HTTP_MORE;
        }
        if (in_body) {
            return take_body(h, in, body);
        }
        struct slice line;
        enum bench_http_found found = bench_http_take_line(h, in, &line);
        if (found == BENCH_HTTP_HEAD) {
            found = read_line(h, line);
            if (found == BENCH_HTTP_MORE) {
                continue;
            }
        }
        return found;
    }
}
