/* See bench_options.h. One table of options; then what does not fit together is refused, so that a
 * run that starts is a run that can be trusted. */
#include "bench/bench_options.h"

#include "base/slice.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

const char *const bench_mode_names[BENCH_MODE_COUNT] = {
    [BENCH_FAN_OUT] = "fan-out", [BENCH_TOPICS] = "topics",   [BENCH_REPLAY] = "replay",
    [BENCH_CHURN] = "churn",     [BENCH_PUBLISH] = "publish", [BENCH_IDLE] = "idle",
    [BENCH_STORM] = "storm",
};

const char bench_options_help[] =
    "  --port N              of the server (8080)\n"
    "  --host ADDRESS        of the server, a number; nothing but 127.0.0.1 unless you say so\n"
    "  --connections N       subscribers; with churn, how many at a time\n"
    "  --topics N            subscribers are spread over them (topics: one for each)\n"
    "  --size BYTES          of a payload, 80 or more (100)\n"
    "  --rate N              events a second; 0, the default: as many as get through\n"
    "  --window N            events on their way to all their subscribers at a time, when the\n"
    "                        rate is 0; 0: no bound\n"
    "  --publishers N        connections that publish; a topic keeps to one of them\n"
    "  --pipeline N          requests that may wait for their answer on each of them\n"
    "  --seconds S           how long to measure (5)\n"
    "  --warmup S            before that, without counting (0.5; 0 with --events)\n"
    "  --events N            end after so many events\n"
    "  --preload N           events of each topic to replay (1000; storm: 100)\n"
    "  --slow N              of the subscribers read nothing while it is measured (fan-out)\n"
    "  --spread S            time within which all subscribers of a storm come back (1)\n"
    "  --restart-command C   what ends the streams of a storm, for sh; without it the\n"
    "                        subscribers do\n"
    "  --settle S            between the last connect and the first event (0.3)\n"
    "  --drain S             wait so long without progress for what is missing (3)\n"
    "  --subscribe-path P    {topic} stands for a topic no other run uses, {n} for its number,\n"
    "                        {connection} for the number of the subscriber\n"
    "  --publish-path P      (/events?topic=bench/{topic}; replay: and last_event_id=earliest)\n"
    "  --header 'NAME: V'    sent with every request; repeat it for several\n"
    "  --pid N               process of the server: its CPU and memory, children included\n"
    "  --json                print one JSON object\n"
    "  --help                this text\n";

enum kind { KIND_COUNT, KIND_REAL, KIND_TEXT, KIND_HEADER, KIND_FLAG };

struct option {
    const char *name;
    enum kind kind;
    size_t offset;
    double min, max;
};

#define AT(member) offsetof(struct bench_options, member)
static const struct option options[] = {
    {"--port", KIND_COUNT, AT(port), 1, 65535},
    {"--host", KIND_TEXT, AT(host), 0, 0},
    {"--connections", KIND_COUNT, AT(connections), 1, 1000000},
    {"--topics", KIND_COUNT, AT(topics), 1, 1000000},
    {"--size", KIND_COUNT, AT(size), BENCH_SIZE_MIN, 16 * 1024 * 1024},
    {"--rate", KIND_REAL, AT(rate), 0, 10e6},
    {"--window", KIND_COUNT, AT(window), 0, 1000000},
    {"--publishers", KIND_COUNT, AT(publishers), 1, 10000},
    {"--pipeline", KIND_COUNT, AT(pipeline), 1, 10000},
    {"--seconds", KIND_REAL, AT(seconds), 0.01, 3600},
    {"--warmup", KIND_REAL, AT(warmup), 0, 3600},
    {"--events", KIND_COUNT, AT(events), 1, 1e9},
    {"--preload", KIND_COUNT, AT(preload), 1, 10e6},
    {"--slow", KIND_COUNT, AT(slow), 0, 1000000},
    {"--spread", KIND_REAL, AT(spread), 0, 600},
    {"--restart-command", KIND_TEXT, AT(restart_command), 0, 0},
    {"--settle", KIND_REAL, AT(settle), 0, 600},
    {"--drain", KIND_REAL, AT(drain), 0.01, 600},
    {"--subscribe-path", KIND_TEXT, AT(subscribe_path), 0, 0},
    {"--publish-path", KIND_TEXT, AT(publish_path), 0, 0},
    {"--header", KIND_HEADER, AT(headers), 0, 0},
    {"--pid", KIND_COUNT, AT(pid), 1, 4194304},
    {"--json", KIND_FLAG, AT(json), 0, 0},
    {"--help", KIND_FLAG, AT(help), 0, 0},
    {"-h", KIND_FLAG, AT(help), 0, 0},
};
#undef AT

__attribute__((format(printf, 1, 2))) static int refuse(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("tidegate-bench: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs("\n(see: tidegate-bench --help)\n", stderr);
    va_end(ap);
    return UV_EINVAL;
}

static void set_defaults(struct bench_options *o, enum bench_mode mode)
{
    static const struct {
        uint64_t connections, topics, publishers, pipeline, window;
    } by_mode[BENCH_MODE_COUNT] = {
        [BENCH_FAN_OUT] = {100, 1, 1, 16, 16}, [BENCH_TOPICS] = {1000, 1000, 16, 8, 512},
        [BENCH_REPLAY] = {50, 1, 1, 16, 0},    [BENCH_CHURN] = {64, 1, 1, 1, 0},
        [BENCH_PUBLISH] = {1, 16, 16, 1, 0},   [BENCH_IDLE] = {1000, 1, 1, 1, 0},
        [BENCH_STORM] = {1000, 1, 1, 16, 0},
    };
    *o = (struct bench_options){
        .mode = mode,
        .host = "127.0.0.1",
        .port = 8080,
        .subscribe_path = mode == BENCH_REPLAY
                              ? "/events?topic=bench/{topic}&last_event_id=earliest"
                              : "/events?topic=bench/{topic}",
        .publish_path = "/events?topic=bench/{topic}",
        .connections = by_mode[mode].connections,
        .topics = by_mode[mode].topics,
        .publishers = by_mode[mode].publishers,
        .pipeline = by_mode[mode].pipeline,
        .window = by_mode[mode].window,
        .size = 100,
        .preload = mode == BENCH_STORM ? 100 : 1000,
        .spread = 1,
        .seconds = 5,
        .warmup = -1, /* check() knows what fits */
        .settle = 0.3,
        .drain = 3,
    };
}

static int set_number(struct bench_options *o, const struct option *opt, const char *text)
{
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    bool whole = opt->kind == KIND_REAL || value == floor(value);
    bool inside = value >= opt->min && value <= opt->max; /* false for what is not a number */
    if (errno || end == text || *end || !inside || !whole) {
        return refuse("%s %s: expected %s from %.*g to %.*g", opt->name, text,
                      opt->kind == KIND_REAL ? "a number" : "a whole number", 10, opt->min, 10,
                      opt->max);
    }
    void *slot = (char *)o + opt->offset;
    if (opt->kind == KIND_REAL) {
        *(double *)slot = value;
    } else {
        *(uint64_t *)slot = (uint64_t)value;
    }
    return 0;
}

static int add_header(struct bench_options *o, const char *text)
{
    if (o->header_count == BENCH_HEADERS_MAX) {
        return refuse("--header: at most %d", BENCH_HEADERS_MAX);
    }
    if (!strchr(text, ':') || strpbrk(text, "\r\n")) {
        return refuse("--header %s: expected NAME: VALUE on one line", text);
    }
    o->headers[o->header_count++] = text;
    return 0;
}

static int set_option(struct bench_options *o, const struct option *opt, const char *value)
{
    if (opt->kind == KIND_HEADER) {
        return add_header(o, value);
    }
    if (opt->kind == KIND_TEXT) {
        *(const char **)(void *)((char *)o + opt->offset) = value;
        return 0;
    }
    return set_number(o, opt, value);
}

static const struct option *find_option(const char *word, size_t len)
{
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (strlen(options[i].name) == len && memcmp(options[i].name, word, len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

/* `words[*i]` should be an option; moves *i to its last word. */
static int parse_option(struct bench_options *o, char **words, size_t n, size_t *i)
{
    const char *word = words[*i], *equals = strchr(word, '=');
    const struct option *opt = find_option(word, equals ? (size_t)(equals - word) : strlen(word));
    if (!opt) {
        return refuse("%s: unknown option", word);
    }
    if (opt->kind == KIND_FLAG) {
        *(bool *)(void *)((char *)o + opt->offset) = true;
        return equals ? refuse("%s takes no value", opt->name) : 0;
    }
    if (!equals && *i + 1 == n) {
        return refuse("%s needs a value", opt->name);
    }
    return set_option(o, opt, equals ? equals + 1 : words[++*i]);
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
    return refuse("--host %s: expected an IPv4 or IPv6 address", o->host);
}

/* What would make the run meaningless, or more than a process can hold. */
static int check(struct bench_options *o)
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
    if (o->slow && (o->mode != BENCH_FAN_OUT || o->slow >= o->connections)) {
        return refuse("--slow: for fan-out, fewer than --connections");
    }
    if (o->restart_command && o->mode != BENCH_STORM) {
        return refuse("--restart-command: for storm");
    }
    if (o->pipeline * (o->size + REQUEST_HEAD) > OUT_MAX) {
        return refuse("--pipeline %llu of %llu bytes: more than 64 MiB on one connection",
                      (unsigned long long)o->pipeline, (unsigned long long)o->size);
    }
    if (!o->local && o->connections > CONNECTIONS_ELSEWHERE) {
        return refuse("--connections %llu: above 20,000 the target must be in 127.0.0.0/8, where "
                      "many source addresses are to be had",
                      (unsigned long long)o->connections);
    }
    const char *paths[] = {o->subscribe_path, o->publish_path};
    for (size_t i = 0; i < 2; i++) {
        if (*paths[i] != '/' || strlen(paths[i]) > 1024 || strpbrk(paths[i], " \r\n")) {
            return refuse("%s: expected a path: it begins with /, without spaces", paths[i]);
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
    bool helping = n && (strcmp(words[0], "--help") == 0 || strcmp(words[0], "-h") == 0);
    if (!helping && (n == 0 || !find_mode(words[0], &mode))) {
        return refuse("%s%sexpected a mode: fan-out, topics, replay, churn, publish, idle or "
                      "storm",
                      n ? words[0] : "", n ? ": " : "");
    }
    set_defaults(out, mode);
    for (size_t i = helping ? 0 : 1; i < n; i++) {
        int rc = parse_option(out, words, n, &i);
        if (rc) {
            return rc;
        }
    }
    return out->help ? 0 : check(out);
}
