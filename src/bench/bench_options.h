/* What `tidegate-bench` was asked to do. */
#ifndef BENCH_BENCH_OPTIONS_H
#define BENCH_BENCH_OPTIONS_H

#include "base/program/options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { BENCH_HEADERS_MAX = 16, BENCH_SIZE_MIN = 80 };

enum bench_mode {
    BENCH_FAN_OUT,
    BENCH_TOPICS,
    BENCH_REPLAY,
    BENCH_CHURN,
    BENCH_PUBLISH,
    BENCH_IDLE,
    BENCH_STORM,
    BENCH_SNAPSHOT,
    BENCH_CONFLATE,
    BENCH_MODE_COUNT,
};

extern const char *const bench_mode_names[BENCH_MODE_COUNT];

/* Publishes first, and measures what those get that come then. */
static inline bool bench_reads_history(enum bench_mode mode)
{
    return mode == BENCH_REPLAY || mode == BENCH_SNAPSHOT;
}

/* Texts are borrowed from the words they were read from. */
struct bench_options {
    enum bench_mode mode;
    bool help, json;
    bool tls, resume, h2, gzip, orders;
    const char *host;
    uint64_t port;
    struct sockaddr_storage to;
    bool local; /* host is in 127.0.0.0/8 */
    const char *subscribe_path, *publish_path;
    const char *headers[BENCH_HEADERS_MAX];
    size_t header_count;
    uint64_t connections, topics, publishers, pipeline, window;
    uint64_t size, events, preload;
    uint64_t streams; /* with h2: subscribers on a connection */
    uint64_t slow;    /* subscribers that read nothing while it is measured */
    double rate, seconds, warmup, settle, drain, spread;
    const char *restart_command; /* NULL: the subscribers themselves end their streams */
    uint64_t pid;                /* 0: the server's processes are not looked at */
};

/* `words` are those behind the name of the program. 0, or EX_USAGE after a message on stderr. */
int bench_options_parse(struct bench_options *out, char **words, size_t n);

extern const struct option_row bench_option_rows[];

#endif
