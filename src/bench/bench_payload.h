/* What is published: a mark, and bytes around it. */
#ifndef BENCH_BENCH_PAYLOAD_H
#define BENCH_BENCH_PAYLOAD_H

#include "base/strbuf.h"
#include "bench/bench_options.h"
#include "bench/wire/bench_mark.h"

size_t bench_payload_size(const struct bench_options *o, const struct bench_mark *m);
/* So many bytes. 0, or UV_ENOBUFS or UV_ENOMEM. */
int bench_payload_append(const struct bench_options *o, struct strbuf *out,
                         const struct bench_mark *m);

#endif
