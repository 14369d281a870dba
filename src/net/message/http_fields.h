/* Lines of a head or of trailers, byte by byte: what the parts of the request parser share.
 * Private to http_parser.c, http_head.c, http_body.c. */
#ifndef NET_MESSAGE_HTTP_FIELDS_H
#define NET_MESSAGE_HTTP_FIELDS_H

#include "net/message/http_request.h"

/* Which bytes may stand where. */
enum {
    BYTE_TOKEN = 1,  /* RFC 9110 5.6.2: method, field name */
    BYTE_TARGET = 2, /* visible ASCII but '#': a fragment is never sent (RFC 9112 3.2) */
    BYTE_VALUE = 4,  /* RFC 9110 5.5: visible, SP, HTAB, obs-text */
};
extern const unsigned char http_byte_class[256];

static inline bool http_byte_is(char c, unsigned byte_class)
{
    return (http_byte_class[(unsigned char)c] & byte_class) != 0;
}

/* What the parser stands in front of. */
enum http_step {
    HTTP_STEP_START, /* 0, as http_request_init() leaves it: the request line, or an empty line before it */
    HTTP_STEP_START_LF,
    HTTP_STEP_METHOD,
    HTTP_STEP_TARGET,
    HTTP_STEP_VERSION,
    HTTP_STEP_VERSION_LF,
    HTTP_STEP_FIELD, /* a field line, or the empty line that ends them */
    HTTP_STEP_NAME,
    HTTP_STEP_VALUE,
    HTTP_STEP_VALUE_LF,
    HTTP_STEP_END_LF,
    HTTP_STEP_FIELDS_DONE,
    HTTP_STEP_FIXED_BODY,
    HTTP_STEP_CHUNK_SIZE,
    HTTP_STEP_CHUNK_EXT,
    HTTP_STEP_CHUNK_SIZE_LF,
    HTTP_STEP_CHUNK_DATA,
    HTTP_STEP_CHUNK_CR,
    HTTP_STEP_CHUNK_LF,
};

/* The piece of input at hand; `p` moves. */
struct http_input {
    const char *p, *start, *end;
    size_t base; /* bytes of the head that came in earlier pieces */
};

static inline size_t http_input_offset(const struct http_input *in)
{
    return in->base + (size_t)(in->p - in->start);
}

/* A word of the head while the head may still move: `p` holds an offset. */
static inline struct slice http_span(size_t from, size_t to)
{
    return slice_of((const char *)(uintptr_t)from, to - from);
}

/* `text` is a constant. The first failure stays. */
void http_fail(struct http_request *rq, int status, const char *text);
/* Room for one more field, whose spans the caller sets; false: it has failed. */
bool http_fields_add_header(struct http_request *rq);
/* Moves over bytes of that class; false when the input ended there. */
bool http_scan(struct http_input *in, unsigned byte_class);
/* Expects LF, then goes to `next`. */
void http_expect_lf(struct http_request *rq, struct http_input *in, unsigned next);
/* Fails with what is wrong about the byte at `in->p`: a bare LF, or else `text`. */
void http_refuse_byte(struct http_request *rq, const struct http_input *in, const char *text);
/* One step through field lines: consumes input, changes rq->step, or fails. Fields of the head are
 * stored as spans, trailers are only checked. Ends in HTTP_STEP_FIELDS_DONE. */
void http_fields_step(struct http_request *rq, struct http_input *in);

#endif
