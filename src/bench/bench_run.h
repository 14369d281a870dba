/* One run of `tidegate-bench`: what its parts share. Private to bench/. */
#ifndef BENCH_BENCH_RUN_H
#define BENCH_BENCH_RUN_H

#include "base/strbuf.h"
#include "bench/bench_options.h"
#include "bench/measure/bench_hist.h"
#include "bench/measure/bench_proc.h"
#include "bench/wire/bench_conn.h"

struct bench_counts {
    /* subscribers */
    uint64_t opened, failed; /* answered 200; anything else */
    uint64_t cut;            /* open, then ended by the server */
    uint64_t reads, bytes;   /* of their sockets; of TLS, what was inside */
    /* events, per subscriber */
    uint64_t delivered; /* once, in order or late */
    uint64_t late, doubled;
    uint64_t misrouted; /* of a topic that was not subscribed to */
    uint64_t damaged;   /* not the size it was sent with, or never sent */
    uint64_t gaps;      /* announced losses */
    uint64_t strange;   /* events nobody in this run sent */
    uint64_t stale;     /* in a snapshot, and not the newest of its topic */
    uint64_t replayed;  /* subscribers that have all of their history, or snapshot */
    /* publishes */
    uint64_t published, acked, refused;
};

struct bench_topic {
    uint64_t sent;
    uint64_t forgiven; /* refused, or never answered: nobody need have got them */
    uint32_t subs;     /* open ones */
};

/* What is read at the ends of the measurement. */
struct bench_sample {
    uint64_t at_ns, own_cpu_ns, machine_busy_ns;
    struct bench_proc server;
    struct bench_counts counts;
};

/* See bench_storm.h. */
struct bench_storm {
    bool cutting; /* streams end, and are to come back */
    uv_process_t command;
    bool command_ended;
    uint64_t events; /* of each topic, so far */
    uint64_t from_ns, live_all_ns;
    uint64_t live;    /* are back, with everything */
    uint64_t retries; /* did not get a stream at once */
    struct bench_hist answer, live_after;
};

/* See bench_slow.h. */
struct bench_slow {
    uint64_t received, gaps, ended;
    uint64_t pss_from, pss_most, pss_to, sampled_ns;
};

struct bench {
    const struct bench_options *o;
    uv_loop_t loop;
    struct bench_net net;
    struct strbuf fields; /* of every request */
    struct strbuf wanted; /* of those that subscribe */
    uint32_t run;         /* tells this run's events from others */

    struct bench_topic *topics; /* owned, o->topics of them */
    struct bench_sub *subs;     /* owned, o->connections */
    struct bench_link *links;   /* owned; with HTTP/2, link_count of them */
    uint64_t link_count;
    uint64_t sub_next;      /* those below have been told to open */
    uint64_t sub_most;      /* and no others shall for now */
    uint64_t opening;       /* of them, those without an answer */
    struct bench_pub *pubs; /* owned, o->publishers */
    uint64_t pub_next;

    bool publishing, reopening, measuring;
    uint64_t events_left; /* may still be published */
    int64_t undelivered;  /* published, not delivered: once per subscriber */
    int64_t window;       /* most of them; 0: no bound */
    uint64_t rate_from_ns, rate_sent;
    uint64_t behind_ns;     /* most that publishing fell behind the rate */
    uint64_t progress_ns;   /* something was opened, delivered or acknowledged */
    uint64_t delivery_ns;   /* the last delivery */
    uint64_t connect_ns[2]; /* from, to */

    struct bench_counts counts;
    struct bench_hist latency, ack, first_byte, replay;
    struct bench_sample empty, filled; /* memory: before and after what takes it */
    struct bench_sample linked;        /* idle, with HTTP/2: each connection has one stream */
    struct bench_sample from, to;      /* the measurement */
    struct bench_sample after;         /* memory: when all was delivered */
    uint64_t lost;
    struct bench_storm storm;
    struct bench_slow slow;

    bool enough;     /* the user wants what was measured so far */
    bool stop;       /* end at once: `error` says why, or the user wanted it */
    char error[256]; /* the first thing that went wrong */
};

/* What stands for {run}, {topic}, {n} and {connection} in a path. */
struct bench_place {
    uint32_t topic, connection;
};

/* Fields that say what a subscriber wants. */
static inline const char *bench_accept(const struct bench_options *o)
{
    return o->gzip ? "Accept: text/event-stream\r\nAccept-Encoding: gzip\r\n"
                   : "Accept: text/event-stream\r\n";
}
/* Keeps the first one. */
__attribute__((format(printf, 2, 3))) void bench_note(struct bench *b, const char *fmt, ...);
/* Appends `path`, filled in. 0, or UV_ENOBUFS or UV_ENOMEM. */
int bench_path_append(struct bench *b, struct strbuf *out, const char *path, struct bench_place at);
/* Appends the head of a request, but for its last empty line. 0, or UV_ENOBUFS or
 * UV_ENOMEM. */
int bench_request_append(struct bench *b, struct strbuf *out, const char *method, const char *path,
                         struct bench_place at);

#endif
