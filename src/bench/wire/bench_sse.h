/* Reads an event stream (HTML standard, 9.2.6) in the pieces in which it comes, without copying:
 * all it keeps of a line that is cut is its head. LF and CRLF end lines; a lone CR, which no known
 * server writes, does not. Pure, fuzzed. */
#ifndef BENCH_WIRE_BENCH_SSE_H
#define BENCH_WIRE_BENCH_SSE_H

#include "base/slice.h"
#include "bench/wire/bench_mark.h"

#include <stdbool.h>
#include <stdint.h>

enum { BENCH_SSE_HEAD = 128 };

struct bench_sse_event {
    struct bench_mark mark;
    bool marked;
    bool whole;          /* the mark stands at the start of the data: nobody wrapped it */
    bool gap;            /* event: gap */
    bool position;       /* event: position */
    bool live;           /* event: live */
    uint64_t data_bytes; /* of the data lines, without line ends */
};

/* All zero at first. */
struct bench_sse {
    struct bench_sse_event event; /* the one being read */
    bool has_data;
    uint64_t id, last_id; /* where they are numbers; the second one of the last complete block */
    char last;            /* of the line so far */
    uint64_t line_bytes;  /* of a line that began in an earlier piece */
    char head[BENCH_SSE_HEAD];
};

/* Consumes from `in` up to the end of the next event. False: `in` is used up. */
bool bench_sse_next(struct bench_sse *s, struct slice *in, struct bench_sse_event *out);

#endif
