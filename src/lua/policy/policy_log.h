/* Errors of policies in the log: the first of a kind in full, equal ones (hook and message) within
 * the interval only counted and reported as "repeated once", "repeated N times" when it ends. */
#ifndef LUA_POLICY_POLICY_LOG_H
#define LUA_POLICY_POLICY_LOG_H

#include "base/hash.h"
#include "lua/load/lua_policy_file.h"
#include "net/loop.h"
#include "policy/metrics.h"

enum { POLICY_LOG_KINDS = 64 }; /* different errors shown within one interval */

/* A failure of a hook. Borrowed. */
struct policy_failure {
    enum policy_hook hook;
    bool transient;       /* the policy refused temporarily: not an error */
    bool given_up;        /* transient because its hook waited too long, or too many did */
    bool refused;         /* what was to be published is at fault: not an error */
    const char *function; /* name of the filter or format; may be NULL */
    const char *request;  /* NULL, or empty: none */
    uint64_t event;       /* 0: none */
    struct slice topic;   /* of what was to be published; absent: none */
    size_t index;         /* of it, in a batch of `batch` */
    size_t batch;         /* 0: none */
    const char *client;   /* its address; NULL: none */
    struct slice who;    /* what operators may see of whom authenticate has found; empty: nothing */
    struct slice params; /* of the audience; absent: none */
    const char *where;   /* "geo.lua:14" */
    const char *text;    /* the message */
    const char *traceback; /* may be empty or NULL */
};

struct policy_log_entry {
    struct deadline until; /* armed: the entry is in use */
    struct policy_log *log;
    uint64_t kind; /* hash of hook and message */
    uint64_t repeated;
    enum policy_hook hook;
    char text[200]; /* the start of the message */
};

struct policy_log {
    struct loop *loop;
    struct deadline_class *interval; /* NULL: everything is shown */
    struct hash_key key;
    const char *policy;                                        /* file name; borrowed */
    char version[13];                                          /* the first digits of the hash */
    void (*failed)(void *ctx, const struct policy_failure *f); /* instead of lines; NULL: lines */
    void *ctx;
    uint64_t not_shown; /* further kinds, when all entries are in use */
    struct policy_log_entry entries[POLICY_LOG_KINDS];
};

void policy_log_init(struct policy_log *log, struct loop *loop, unsigned interval_s,
                     const char *policy, const char *version);
/* Logs the errors that were only counted so far. */
void policy_log_clear(struct policy_log *log);
void policy_log_write(struct policy_log *log, const struct policy_failure *f);
/* Logs that a filter or format was disabled, regardless of the interval. */
void policy_log_quarantine(const struct policy_log *log, enum policy_hook hook,
                           const struct lua_function *fn);

/* Count an error of a hook, and one that exceeded its CPU budget. */
void policy_log_count(struct policy_metrics *m, enum policy_hook hook);
void policy_log_count_overdue(struct policy_metrics *m, enum policy_hook hook);

#endif
