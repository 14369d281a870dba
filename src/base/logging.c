#include "base/logging.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* A line is cut at this length, with "..." to say so: a log line must stay one atomic write. */
enum { LINE_MAX_BYTES = 4096, CHARACTER_MAX_BYTES = 6 }; /* of a character, or an escape */

static _Atomic int threshold = LOG_LEVEL_INFO;
static _Atomic unsigned worker;
static atomic_bool as_json;
static _Atomic(log_sink) line_sink;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

struct line {
    size_t n;
    bool json, cut;
    size_t value; /* where the text of the field begins that is being put; 0: it is no text */
    char text[LINE_MAX_BYTES];
};

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

void log_set_json(bool on)
{
    atomic_store_explicit(&as_json, on, memory_order_relaxed);
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
    if (l->cut) {
        return;
    }
    if (n > room) {
        l->cut = true;
        n = n > CHARACTER_MAX_BYTES ? room : 0; /* no part of a character, or of an escape */
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

/* What a terminal would obey, or show in another order: controls of C1, and those of bidirectional text
 * (The Unicode Standard, 23.2, 23.9). `c` is one well-formed character. */
static bool logging_is_control(struct slice c)
{
    static const struct {
        unsigned first, last;
    } ranges[] = {{0x80, 0x9f},     {0x61c, 0x61c},   {0x200e, 0x200f},
                  {0x2028, 0x202e}, {0x2066, 0x2069}, {0xfeff, 0xfeff}};
    unsigned code = c.n == 2 ? (unsigned char)c.p[0] & 0x1fU : (unsigned char)c.p[0] & 0xfU;
    for (size_t i = 1; i < c.n; i++) {
        code = code << 6 | ((unsigned char)c.p[i] & 0x3fU);
    }
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if ((c.n == 2 || c.n == 3) && code >= ranges[i].first && code <= ranges[i].last) {
            return true;
        }
    }
    return false;
}

static void logging_put_character(struct line *l, struct slice c, bool valid)
{
    char esc[8];
    if (*c.p == '"' || *c.p == '\\') {
        logging_put(l, (char[]){'\\', *c.p}, 2);
    } else if (*c.p == '\n') {
        logging_put(l, "\\n", 2);
    } else if (!valid || (unsigned char)*c.p < ' ' || *c.p == 0x7f || logging_is_control(c)) {
        for (size_t i = 0; i < c.n;
             i++) { /* JSON has no escape for a byte: the same text is in it */
            int n = snprintf(esc, sizeof esc, l->json ? "\\\\x%02x" : "\\x%02x",
                             (unsigned)(unsigned char)c.p[i]);
            logging_put(l, esc, n > 0 ? (size_t)n : 0);
        }
    } else {
        logging_put(l, c.p, c.n);
    }
}

static void logging_put_value(struct line *l, struct slice s)
{
    if (!l->json && logging_is_plain(s)) {
        logging_put(l, s.p, s.n);
        return;
    }
    logging_put(l, "\"", 1);
    l->value = l->n;
    for (size_t i = 0; i < s.n;) {
        bool valid;
        size_t n = utf8_step(s.p + i, s.n - i, &valid);
        logging_put_character(l, slice_of(s.p + i, n), valid);
        i += n;
    }
    logging_put(l, "\"", 1);
}

static void put_field(struct line *l, const struct log_field *f)
{
    char num[40];
    int n = 0;
    l->value = 0;
    if (l->json) {
        logging_put(l, l->n > 1 ? ",\"" : "\"", l->n > 1 ? 2 : 1);
        logging_put(l, f->key, strlen(f->key));
        logging_put(l, "\":", 2);
    } else {
        logging_put(l, l->n ? " " : "", l->n ? 1 : 0);
        logging_put(l, f->key, strlen(f->key));
        logging_put(l, "=", 1);
    }
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
        n = l->json && !isfinite(f->v.f) ? snprintf(num, sizeof num, "null")
                                         : snprintf(num, sizeof num, "%.6g", f->v.f);
        break;
    }
    logging_put(l, num, n > 0 ? (size_t)n : 0);
}

/* A field that does not fit goes as a whole, but for a text of which a part does. */
static void put_or_cut(struct line *l, const struct log_field *f)
{
    size_t before = l->n;
    if (l->cut) {
        return;
    }
    put_field(l, f);
    if (l->cut && l->json && l->value == 0) {
        l->n = before;
    }
}

static void put_time(struct line *l)
{
    struct timespec ts;
    struct tm tm;
    char stamp[64];
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(stamp + n, sizeof stamp - n, ".%03ldZ", ts.tv_nsec / 1000000);
    put_field(l, &(struct log_field){.key = "ts", .v.str = slice_str(stamp)});
}

void log_write(enum log_level level, const char *subsystem, const char *msg,
               const struct log_field *fields)
{
    if (!log_enabled(level)) {
        return;
    }
    struct line l = {.n = 0, .json = atomic_load_explicit(&as_json, memory_order_relaxed)};
    if (l.json) {
        l.text[l.n++] = '{';
    }
    put_time(&l);
    put_field(&l, LOG_F(log_str("level", level_names[level])));
    unsigned number = atomic_load_explicit(&worker, memory_order_relaxed);
    if (number) {
        put_field(&l, LOG_F(log_uint("worker", number)));
    }
    put_field(&l, LOG_F(log_str("sub", subsystem)));
    put_field(&l, LOG_F(log_str("msg", msg)));
    for (; fields && fields->key; fields++) {
        put_or_cut(&l, fields);
    }
    if (l.cut && !(l.json && l.value == 0)) {
        memcpy(l.text + l.n, "...\"", 4);
        l.n += 4;
    }
    if (l.json) {
        l.text[l.n++] = '}';
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
