/* Reads HTTP/1.1 responses (RFC 9112) in the pieces in which they come: status, and the body out of
 * whichever framing the server chose, so that brokers other than ours can be measured. Pure,
 * fuzzed. */
#ifndef BENCH_WIRE_BENCH_HTTP_H
#define BENCH_WIRE_BENCH_HTTP_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum { BENCH_HTTP_LINE = 96, BENCH_HTTP_HEAD_MAX = 64 * 1024 };

enum bench_http_found {
    BENCH_HTTP_MORE, /* the input is used up */
    BENCH_HTTP_HEAD, /* a head is complete: `status` is known */
    BENCH_HTTP_BODY, /* a piece of the body */
    BENCH_HTTP_END,  /* the response is complete; another may follow */
    BENCH_HTTP_BAD,  /* this is not HTTP; asking again gives the same */
};

/* All zero at first. */
struct bench_http {
    unsigned step;
    int status;
    bool chunked, has_length;
    bool gzip;           /* the body is compressed */
    uint64_t left;       /* of the body, or of the chunk */
    uint32_t head_bytes; /* of lines, since the last body byte */
    uint32_t line_bytes; /* of the line so far; the first are in `line` */
    char line[BENCH_HTTP_LINE];
};

/* Consumes from `in`. `body` is set with BENCH_HTTP_BODY and points into `in`. */
enum bench_http_found bench_http_next(struct bench_http *h, struct slice *in, struct slice *body);

#endif
