/* One subscriber, for bench_sub.c and for what carries its stream: an HTTP/1.1 connection of its own (bench_sub.c), or
 * one of HTTP/2 that it shares (bench_link.c). Private to them. */
#ifndef BENCH_BENCH_SUBSCRIBER_H
#define BENCH_BENCH_SUBSCRIBER_H

#include "bench/bench_run.h"
#include "bench/measure/bench_order.h"
#include "bench/wire/bench_gzip.h"
#include "bench/wire/bench_h2.h"
#include "bench/wire/bench_http.h"
#include "bench/wire/bench_sse.h"

struct bench_sub {
    struct bench_conn conn; /* of HTTP/1.1 */
    struct bench_h2_stream stream;
    struct bench *b;
    uint32_t topic;
    bool answered;     /* with 200 */
    bool ended;        /* was opened, or not, and is over */
    bool slow;         /* one of those that stop reading */
    bool excused;      /* slow, and told that something is missing */
    bool live;         /* back from a storm, with everything; or at the end of a snapshot */
    uint64_t again_ns; /* when it tries to come back, in the time of the storm */
    uint64_t asked_ns;
    struct bench_http http;
    struct bench_gzip gzip;
    struct bench_sse sse;
    struct bench_order order;
    uint64_t *
        newest; /* owned; see bench_newest.h: of each topic, how many it has seen the end of; NULL: not so */
};

/* The head of its answer is there. False: it is over. */
bool bench_sub_take_head(struct bench_sub *s, int status, bool gzip, uint64_t now);
/* A piece of the body. False: it is over. */
bool bench_sub_take_body(struct bench_sub *s, struct slice body, uint64_t now);
/* It will not be opened, or was and has ended. */
void bench_sub_over(struct bench_sub *s, const char *why);

#endif
