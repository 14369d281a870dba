/* With HTTP/2: the connections that subscribers share. Subscriber i is a stream of connection i modulo their number. */
#ifndef BENCH_BENCH_LINK_H
#define BENCH_BENCH_LINK_H

#include "bench/bench_subscriber.h"

void bench_links_init(struct bench *b);
/* Asks for its stream, now or when its connection is open, which is opened if need be. */
void bench_link_subscribe(struct bench_sub *s);
/* Gives its stream up. */
void bench_link_leave(struct bench_sub *s);
/* Sends what was made since; once a turn. */
void bench_links_flush(struct bench *b);
void bench_links_close(struct bench *b);
/* When no handle is left. */
void bench_links_clear(struct bench *b);

#endif
