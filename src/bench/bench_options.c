/* See bench_options.h. One table of options (base/program/options.h); then what does not fit together is refused, so that a
 * run that starts is a run that can be trusted. */
#include "bench/bench_options.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <uv.h>

const char *const bench_mode_names[BENCH_MODE_COUNT] = {
    [BENCH_FAN_OUT] = "fan-out", [BENCH_TOPICS] = "topics",     [BENCH_REPLAY] = "replay",
    [BENCH_CHURN] = "churn",     [BENCH_PUBLISH] = "publish",   [BENCH_IDLE] = "idle",
    [BENCH_STORM] = "storm",     [BENCH_SNAPSHOT] = "snapshot", [BENCH_CONFLATE] = "conflate",
};

#define AT(member) offsetof(struct bench_options, member)
const struct option_row bench_option_rows[] = {
    OPTION_ROW("--port", "N", "of the server (8080)", OPTION_COUNT, AT(port), .min = 1,
               .max = 65535),
    OPTION_ROW("--host", "ADDRESS", "of the server, a number (127.0.0.1)", OPTION_TEXT, AT(host)),
    OPTION_ROW("--tls", NULL, "TLS to the server, whose certificate is not verified", OPTION_FLAG,
               AT(tls)),
    OPTION_ROW("--resume", NULL, "with --tls: who connects again shows the ticket of last time",
               OPTION_FLAG, AT(resume)),
    OPTION_ROW("--h2", NULL,
               "subscribers speak HTTP/2, without TLS by prior knowledge; publishers HTTP/1.1",
               OPTION_FLAG, AT(h2)),
    OPTION_ROW("--streams-per-connection", "N",
               "with --h2: how many of the subscribers share a connection (1)", OPTION_COUNT,
               AT(streams), .min = 1, .max = 1000),
    OPTION_ROW("--gzip", NULL, "subscribers ask for compressed streams, and insist on them",
               OPTION_FLAG, AT(gzip)),
    OPTION_ROW("--orders", NULL, "payloads are orders in JSON, some 380 bytes, instead of --size",
               OPTION_FLAG, AT(orders)),
    OPTION_ROW("--connections", "N", "subscribers; with churn, how many at a time", OPTION_COUNT,
               AT(connections), .min = 1, .max = 1000000),
    OPTION_ROW("--topics", "N", "subscribers are spread over them (topics: one for each)",
               OPTION_COUNT, AT(topics), .min = 1, .max = 1000000),
    OPTION_ROW("--size", "BYTES", "of a payload, 80 or more (100)", OPTION_COUNT, AT(size),
               .min = BENCH_SIZE_MIN, .max = 16 * 1024 * 1024),
    OPTION_ROW("--rate", "N", "events a second; 0, the default: as many as get through",
               OPTION_REAL, AT(rate), .min = 0, .max = 10e6),
    OPTION_ROW(
        "--window", "N",
        "events on their way to all their subscribers at a time, when the rate is 0; 0: no bound",
        OPTION_COUNT, AT(window), .min = 0, .max = 1000000),
    OPTION_ROW("--publishers", "N", "connections that publish; a topic keeps to one of them",
               OPTION_COUNT, AT(publishers), .min = 1, .max = 10000),
    OPTION_ROW("--pipeline", "N", "requests that may wait for their answer on each of them",
               OPTION_COUNT, AT(pipeline), .min = 1, .max = 10000),
    OPTION_ROW("--seconds", "S", "how long to measure (5); an interrupt ends it", OPTION_REAL,
               AT(seconds), .min = 0.01, .max = 3600),
    OPTION_ROW("--warmup", "S", "before that, without counting (0.5; 0 with --events)", OPTION_REAL,
               AT(warmup), .min = 0, .max = 3600),
    OPTION_ROW("--events", "N", "end after N events", OPTION_COUNT, AT(events), .min = 1,
               .max = 1e9),
    OPTION_ROW("--preload", "N", "events of each topic to replay (1000; storm: 100; snapshot: 2)",
               OPTION_COUNT, AT(preload), .min = 1, .max = 10e6),
    OPTION_ROW("--slow", "N",
               "subscribers that read nothing during the measurement (fan-out; conflate: half)",
               OPTION_COUNT, AT(slow), .min = 0, .max = 1000000),
    OPTION_ROW("--spread", "S", "time within which all subscribers of a storm reconnect (1)",
               OPTION_REAL, AT(spread), .min = 0, .max = 600),
    OPTION_ROW("--restart-command", "C",
               "what ends the streams of a storm, for sh; without it the subscribers do",
               OPTION_TEXT, AT(restart_command)),
    OPTION_ROW("--settle", "S", "between the last connect and the first event (0.3)", OPTION_REAL,
               AT(settle), .min = 0, .max = 600),
    OPTION_ROW("--drain", "S", "wait S seconds without progress for missing events (3)",
               OPTION_REAL, AT(drain), .min = 0.01, .max = 600),
    OPTION_ROW(
        "--subscribe-path", "P",
        "{topic} stands for a topic no other run uses, {run} for the run, {n} for the number of the topic, {connection} for that of the subscriber",
        OPTION_TEXT, AT(subscribe_path)),
    OPTION_ROW("--publish-path", "P",
               "(/events?topic=bench/{topic}; replay: and last_event_id=earliest)", OPTION_TEXT,
               AT(publish_path)),
    OPTION_ROW("--header", "'NAME: V'", "sent with every request; repeat it for several",
               OPTION_LIST, AT(headers), .max = BENCH_HEADERS_MAX, .count_at = AT(header_count),
               .many = "headers"),
    OPTION_ROW("--pid", "N", "process of the server: its CPU and memory, children included",
               OPTION_COUNT, AT(pid), .min = 1, .max = 4194304),
    OPTION_ROW("--json", NULL, "print one JSON object", OPTION_FLAG, AT(json)),
    OPTION_ROW("--help", NULL, "this text", OPTION_HELP, AT(help)),
    {.name = NULL},
};
#undef AT

static const struct options bench_options = {"tidegate-bench", NULL, bench_option_rows};

static void set_defaults(struct bench_options *o, enum bench_mode mode)
{
    static const struct {
        uint64_t connections, topics, publishers, pipeline, window;
    } by_mode[BENCH_MODE_COUNT] = {
        [BENCH_FAN_OUT] = {100, 1, 1, 16, 16},   [BENCH_TOPICS] = {1000, 1000, 16, 8, 512},
        [BENCH_REPLAY] = {50, 1, 1, 16, 0},      [BENCH_CHURN] = {64, 1, 1, 1, 0},
        [BENCH_PUBLISH] = {1, 16, 16, 1, 0},     [BENCH_IDLE] = {1000, 1, 1, 1, 0},
        [BENCH_STORM] = {1000, 1, 1, 16, 0},     [BENCH_SNAPSHOT] = {50, 10000, 16, 16, 0},
        [BENCH_CONFLATE] = {100, 100, 1, 16, 0},
    };
    bool newest = mode == BENCH_SNAPSHOT || mode == BENCH_CONFLATE;
    *o = (struct bench_options){
        .mode = mode,
        .host = "127.0.0.1",
        .port = 8080,
        .subscribe_path = mode == BENCH_REPLAY
                              ? "/events?topic=bench/{topic}&last_event_id=earliest"
                          : newest ? "/events?topic=bench/{run}/*"
                                   : "/events?topic=bench/{topic}",
        .publish_path = newest ? "/events?topic=bench/{run}/{n}" : "/events?topic=bench/{topic}",
        .connections = by_mode[mode].connections,
        .topics = by_mode[mode].topics,
        .publishers = by_mode[mode].publishers,
        .pipeline = by_mode[mode].pipeline,
        .window = by_mode[mode].window,
        .streams = 1,
        .size = 100,
        .preload = mode == BENCH_STORM      ? 100
                   : mode == BENCH_SNAPSHOT ? 2
                                            : 1000,
        .slow = mode == BENCH_CONFLATE ? 50 : 0,
        .rate = mode == BENCH_CONFLATE ? 1000 : 0,
        .spread = 1,
        .seconds = 5,
        .warmup = -1, /* bench_options_check() knows what fits */
        .settle = 0.3,
        .drain = 3,
    };
}

static int read_host(struct bench_options *o)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&o->to;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&o->to;
    if (uv_ip4_addr(o->host, (int)o->port, v4) == 0) {
        o->local = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
        return 0;
    }
    if (uv_ip6_addr(o->host, (int)o->port, v6) == 0) {
        return 0;
    }
    return options_refuse(&bench_options, "--host", "%s: expected an IPv4 or IPv6 address",
                          o->host);
}

/* What would make the run meaningless, or more than a process can hold. */
static int bench_options_check(struct bench_options *o)
{
    enum { OUT_MAX = 64 * 1024 * 1024, REQUEST_HEAD = 4096, CONNECTIONS_ELSEWHERE = 20000 };
    int rc = read_host(o);
    if (rc) {
        return rc;
    }
    if (o->warmup < 0) {
        o->warmup = o->events ? 0 : 0.5;
    }
    if (o->mode == BENCH_TOPICS) {
        o->topics = o->connections;
    }
    if (o->publishers > o->topics) {
        o->publishers = o->topics; /* a topic has an order on one connection only */
    }
    bool slow = o->mode == BENCH_FAN_OUT || o->mode == BENCH_CONFLATE;
    if (o->slow && (!slow || o->slow >= o->connections)) {
        return options_refuse(&bench_options, "--slow",
                              "for fan-out and conflate, fewer than --connections");
    }
    if (o->mode == BENCH_CONFLATE && o->rate <= 0) {
        return options_refuse(&bench_options, "--rate",
                              "above 0 for conflate: what is left out is not waited for");
    }
    if (o->resume && !o->tls) {
        return options_refuse(&bench_options, "--resume", "with --tls");
    }
    bool held = o->mode == BENCH_FAN_OUT || o->mode == BENCH_TOPICS || o->mode == BENCH_REPLAY ||
                o->mode == BENCH_IDLE;
    if (o->h2 && (!held || o->slow || o->resume)) {
        return options_refuse(&bench_options, "--h2",
                              "for fan-out, topics, replay and idle, without --slow and --resume");
    }
    if (o->streams > 1 && !o->h2) {
        return options_refuse(&bench_options, "--streams-per-connection", "with --h2");
    }
    if (o->restart_command && o->mode != BENCH_STORM) {
        return options_refuse(&bench_options, "--restart-command", "for storm");
    }
    if (o->pipeline * (o->size + REQUEST_HEAD) > OUT_MAX) {
        return options_refuse(&bench_options, "--pipeline",
                              "%llu of %llu bytes: more than 64 MiB on one connection",
                              (unsigned long long)o->pipeline, (unsigned long long)o->size);
    }
    if (!o->local && o->connections > CONNECTIONS_ELSEWHERE) {
        return options_refuse(&bench_options, "--connections",
                              "%llu: above 20,000 the target must be in 127.0.0.0/8, where "
                              "many source addresses are to be had",
                              (unsigned long long)o->connections);
    }
    for (size_t i = 0; i < o->header_count; i++) {
        if (!strchr(o->headers[i], ':') || strpbrk(o->headers[i], "\r\n")) {
            return options_refuse(&bench_options, "--header",
                                  "%s: expected NAME: VALUE on one line", o->headers[i]);
        }
    }
    const char *paths[] = {o->subscribe_path, o->publish_path};
    for (size_t i = 0; i < 2; i++) {
        if (*paths[i] != '/' || strlen(paths[i]) > 1024 || strpbrk(paths[i], " \r\n")) {
            return options_refuse(&bench_options, paths[i],
                                  "expected a path: it begins with /, without spaces");
        }
    }
    return 0;
}

static bool find_mode(const char *word, enum bench_mode *out)
{
    for (unsigned m = 0; m < BENCH_MODE_COUNT; m++) {
        if (strcmp(word, bench_mode_names[m]) == 0) {
            *out = (enum bench_mode)m;
            return true;
        }
    }
    return false;
}

int bench_options_parse(struct bench_options *out, char **words, size_t n)
{
    enum bench_mode mode = BENCH_FAN_OUT;
    size_t none = 0;
    bool helping = n && (strcmp(words[0], "--help") == 0 || strcmp(words[0], "-h") == 0);
    if (!helping && (n == 0 || !find_mode(words[0], &mode))) {
        return options_refuse(&bench_options, n ? words[0] : "MODE",
                              "expected a mode: fan-out, topics, replay, churn, publish, idle, "
                              "storm, snapshot or conflate");
    }
    set_defaults(out, mode);
    int rc = options_parse(&bench_options, out, words + !helping, n - !helping, words, &none);
    return rc || out->help ? rc : bench_options_check(out);
}
