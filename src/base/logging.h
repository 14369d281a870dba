/* The one process-wide thing: lines on stderr, in logfmt or as JSON objects.
 *
 *   log_warn("store", "commit failed", LOG_F(log_str("path", p), log_int("code", rc)));
 *   log_info("server", "draining", NULL);
 *
 * Values are quoted and escaped, so that foreign bytes cannot forge a line. Never log a credential. */
#ifndef BASE_LOGGING_H
#define BASE_LOGGING_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

enum log_kind { LOG_KIND_STR, LOG_KIND_INT, LOG_KIND_UINT, LOG_KIND_FLOAT };

struct log_field {
    const char *key; /* NULL ends the array */
    enum log_kind kind;
    union {
        struct slice str;
        int64_t i;
        uint64_t u;
        double f;
    } v;
};

#define LOG_F(...)                                                                                 \
    (const struct log_field[])                                                                     \
    {                                                                                              \
        __VA_ARGS__,                                                                               \
        {                                                                                          \
            .key = NULL                                                                            \
        }                                                                                          \
    }

static inline struct log_field log_slice(const char *key, struct slice s)
{
    return (struct log_field){.key = key, .kind = LOG_KIND_STR, .v.str = s};
}

static inline struct log_field log_str(const char *key, const char *text)
{
    return log_slice(key, slice_str(text));
}

static inline struct log_field log_int(const char *key, int64_t i)
{
    return (struct log_field){.key = key, .kind = LOG_KIND_INT, .v.i = i};
}

static inline struct log_field log_uint(const char *key, uint64_t u)
{
    return (struct log_field){.key = key, .kind = LOG_KIND_UINT, .v.u = u};
}

static inline struct log_field log_float(const char *key, double f)
{
    return (struct log_field){.key = key, .kind = LOG_KIND_FLOAT, .v.f = f};
}

void log_set_level(enum log_level level);
/* From now on lines are JSON objects with the same keys. */
void log_set_json(bool on);
/* From now on every line of this process has worker=NUMBER; 0: no line has. */
void log_set_worker(unsigned number);
/* Takes lines, each with its newline, instead of standard error; on the thread that logs. NULL: standard error
 * again. For programs that are no broker: specs show the lines of what failed alone. */
typedef void (*log_sink)(const char *line, size_t n);
void log_set_sink(log_sink sink);
/* "debug" "info" "warn" "error"; false when the name is none of them. */
bool log_level_parse(const char *name, enum log_level *out);
/* `fields` may be NULL. One write(2) per line: lines of several threads never mix. */
void log_write(enum log_level level, const char *subsystem, const char *msg,
               const struct log_field *fields);

static inline void log_debug(const char *subsystem, const char *msg, const struct log_field *f)
{
    log_write(LOG_LEVEL_DEBUG, subsystem, msg, f);
}
static inline void log_info(const char *subsystem, const char *msg, const struct log_field *f)
{
    log_write(LOG_LEVEL_INFO, subsystem, msg, f);
}
static inline void log_warn(const char *subsystem, const char *msg, const struct log_field *f)
{
    log_write(LOG_LEVEL_WARN, subsystem, msg, f);
}
static inline void log_error(const char *subsystem, const char *msg, const struct log_field *f)
{
    log_write(LOG_LEVEL_ERROR, subsystem, msg, f);
}

#endif
