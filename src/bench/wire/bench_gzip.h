/* A response body that is one gzip member, read as it comes. */
#ifndef BENCH_WIRE_BENCH_GZIP_H
#define BENCH_WIRE_BENCH_GZIP_H

#include "base/slice.h"

/* All zero at first. */
struct bench_gzip {
    struct z_stream_s *z; /* owned; NULL: not begun */
};

/* 0, or UV_ENOMEM. What was read before is forgotten. */
int bench_gzip_begin(struct bench_gzip *g);
/* Consumes from `in` and writes up to `size` plain bytes to `out`; *n of them, 0: more of the input is
 * needed. False: it is not gzip, is damaged, or goes on behind its end. */
bool bench_gzip_next(struct bench_gzip *g, struct slice *in, char *out, size_t size, size_t *n);
void bench_gzip_clear(struct bench_gzip *g);

#endif
