#include "base/logging.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* A line is cut at this length, with "..." to say so: a log line must stay one atomic write. */
enum { LINE_MAX_BYTES = 4096 };

static _Atomic int threshold = LOG_LEVEL_INFO;
static _Atomic unsigned worker;
static _Atomic(log_sink) line_sink;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

struct line {
    size_t n;
    char text[LINE_MAX_BYTES];
};

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

void log_set_worker(unsigned number)
{
    atomic_store_explicit(&worker, number, memory_order_relaxed);
}

void log_set_sink(log_sink sink)
{
    atomic_store_explicit(&line_sink, sink, memory_order_release);
}

static bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&threshold, memory_order_relaxed);
}

bool log_level_parse(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

static void logging_put(struct line *l, const char *p, size_t n)
{
    size_t room = sizeof l->text - l->n - 8; /* 8: the ellipsis, a closing quote, the newline */
    if (n > room) {
        n = room;
    }
    memcpy(l->text + l->n, p, n);
    l->n += n;
}

static bool logging_is_plain(struct slice s)
{
    if (s.n == 0) {
        return false;
    }
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7f) {
            return false;
        }
    }
    return true;
}

static void logging_put_value(struct line *l, struct slice s)
{
    if (logging_is_plain(s)) {
        logging_put(l, s.p, s.n);
        return;
    }
    logging_put(l, "\"", 1);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        char esc[8];
        if (c == '"' || c == '\\') {
            logging_put(l, (char[]){'\\', (char)c}, 2);
        } else if (c == '\n') {
            logging_put(l, "\\n", 2);
        } else if (c < ' ' || c == 0x7f) {
            logging_put(l, esc, (size_t)snprintf(esc, sizeof esc, "\\x%02x", c));
        } else {
            logging_put(l, (const char *)&s.p[i], 1);
        }
    }
    logging_put(l, "\"", 1);
}

static void put_field(struct line *l, const struct log_field *f)
{
    char num[40];
    int n = 0;
    logging_put(l, " ", 1);
    logging_put(l, f->key, strlen(f->key));
    logging_put(l, "=", 1);
    switch (f->kind) {
    case LOG_KIND_STR:
        logging_put_value(l, f->v.str);
        return;
    case LOG_KIND_INT:
        n = snprintf(num, sizeof num, "%" PRId64, f->v.i);
        break;
    case LOG_KIND_UINT:
        n = snprintf(num, sizeof num, "%" PRIu64, f->v.u);
        break;
    case LOG_KIND_FLOAT:
        n = snprintf(num, sizeof num, "%.6g", f->v.f);
        break;
    }
    logging_put(l, num, n > 0 ? (size_t)n : 0);
}

void log_write(enum log_level level, const char *subsystem, const char *msg,
               const struct log_field *fields)
{
    if (!log_enabled(level)) {
        return;
    }
    struct line l = {.n = 0};
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    char stamp[64];
    size_t n = strftime(stamp, sizeof stamp, "ts=%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(stamp + n, sizeof stamp - n, ".%03ldZ", ts.tv_nsec / 1000000);
    logging_put(&l, stamp, n);
    put_field(&l, LOG_F(log_str("level", level_names[level])));
    unsigned number = atomic_load_explicit(&worker, memory_order_relaxed);
    if (number) {
        put_field(&l, LOG_F(log_uint("worker", number)));
    }
    put_field(&l, LOG_F(log_str("sub", subsystem)));
    put_field(&l, LOG_F(log_str("msg", msg)));
    for (; fields && fields->key; fields++) {
        put_field(&l, fields);
    }
    if (l.n >= sizeof l.text - 8) {
        memcpy(l.text + l.n, "...\"", 4);
        l.n += 4;
    }
    l.text[l.n++] = '\n';
    log_sink sink = atomic_load_explicit(&line_sink, memory_order_acquire);
    if (sink) {
        sink(l.text, l.n);
        return;
    }
    /* A log that cannot be written has nowhere to complain. */
    ssize_t ignored = write(STDERR_FILENO, l.text, l.n);
    (void)ignored;
}
