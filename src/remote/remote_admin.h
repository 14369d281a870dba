/* Questions and orders to the admin service of a running broker. */
#ifndef REMOTE_REMOTE_ADMIN_H
#define REMOTE_REMOTE_ADMIN_H

#include "base/program/options.h"
#include "base/slice.h"
#include "net/address.h"
#include "net/client/backend_call.h"
#include "net/loop.h"

#include <jansson.h>
#include <stdbool.h>

/* What the options say. First member of the struct that REMOTE_ADMIN_ROWS are for. */
struct remote_admin_words {
    const char *admin, *conf;
    bool json, help;
};

/* Rows for a struct that begins with a struct remote_admin_words. */
#define REMOTE_ADMIN_ROWS                                                                          \
    OPTION_ROW("--json", NULL, "print the broker's JSON document", OPTION_FLAG,                    \
               offsetof(struct remote_admin_words, json)),                                         \
        REMOTE_PLACE_ROWS
/* The same without --json. */
#define REMOTE_PLACE_ROWS                                                                          \
    OPTION_ROW("--admin", "ADDRESS",                                                               \
               "the broker's admin address. Without it: that of the configuration, or "            \
               "127.0.0.1:8081",                                                                   \
               OPTION_TEXT, offsetof(struct remote_admin_words, admin)),                           \
        OPTION_ROW("--conf", "CONF", "the broker's configuration", OPTION_TEXT,                    \
                   offsetof(struct remote_admin_words, conf)),                                     \
        OPTION_ROW("--help", NULL, "this text", OPTION_HELP,                                       \
                   offsetof(struct remote_admin_words, help))

struct remote_admin {
    const struct options *options;
    struct address where;
    struct loop *loop; /* owned */
};

struct remote_answer {
    int status;
    char *text;  /* owned, NUL-terminated; of any answer */
    json_t *doc; /* owned; NULL: it is no JSON */
};

/* Reads the words of a command. What is no option goes to `rest`, as options_parse() does; `rest` NULL:
 * it is the configuration. 0: go on; else the exit code, or CLI_HELP. */
int remote_admin_words(const struct options *o, struct remote_admin_words *w, char **words,
                       size_t n, char **rest, size_t *rest_n);
/* 0, or the exit code after a message. `a` is to be closed in any case. */
int remote_admin_open(const struct options *o, const struct remote_admin_words *w,
                      struct remote_admin *a);
void remote_admin_close(struct remote_admin *a);

/* One request, to its end. Status 0: no usable answer came. `out` is to be cleared. */
void remote_admin_send(struct remote_admin *a, const struct backend_request *rq,
                       struct remote_answer *out);
/* Says what is wrong about an answer: that it refuses, or, with status 200, that it is not what a broker
 * answers. The exit code. */
int remote_admin_failed(const struct remote_admin *a, const struct remote_answer *answer);
/* The same two for a request without a body. 0: a status of success; else the exit code after a message.
 * `out` is to be cleared in any case. `timeout_ms` 0: what is answered at once. */
int remote_admin_ask(struct remote_admin *a, const char *method, const char *target,
                     uint64_t timeout_ms, struct remote_answer *out);
void remote_answer_clear(struct remote_answer *answer);

/* One question, whose answer `print` lays out, unless --json is given. Answers the exit code: that of the
 * request, or what `judge` makes of a good answer; NULL: 0. */
int remote_admin_show(const struct options *o, const struct remote_admin_words *w,
                      const char *method, const char *target, uint64_t timeout_ms,
                      void (*print)(const json_t *doc), int (*judge)(const json_t *doc));

#endif
