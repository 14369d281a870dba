/* The publishers: connections with pipelined requests. A topic keeps to one connection, so that its
 * events have an order that a broker must keep. */
#ifndef BENCH_BENCH_PUB_H
#define BENCH_BENCH_PUB_H

#include "bench/bench_run.h"

/* `per_topic`: most events of each topic. */
void bench_pubs_init(struct bench *b);
void bench_pubs_open(struct bench *b);
bool bench_pubs_ready(const struct bench *b);
/* After bench_pubs_close(): they may be opened again. */
bool bench_pubs_idle(const struct bench *b);
/* From now on, `events` in all, `per_topic` at most of each topic. */
void bench_pubs_start(struct bench *b, uint64_t events, uint64_t per_topic);
/* Sends what rate, window and pipelines let through: once a turn. */
void bench_pubs_pump(struct bench *b);
/* Answers that are outstanding. */
uint64_t bench_pubs_waiting(const struct bench *b);
/* At the end: what has no answer may never have been published, so nobody has lost it. */
void bench_pubs_forgive_unanswered(struct bench *b);
void bench_pubs_close(struct bench *b);
/* When no handle is left. */
void bench_pubs_clear(struct bench *b);

#endif
