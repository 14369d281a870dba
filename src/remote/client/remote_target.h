/* Where `tidegate subscribe` and `tidegate publish` send their requests, and as whom. */
#ifndef REMOTE_CLIENT_REMOTE_TARGET_H
#define REMOTE_CLIENT_REMOTE_TARGET_H

#include "base/program/options.h"
#include "base/strbuf.h"
#include "net/client/http_fetch.h"

enum { REMOTE_HEADERS_MAX = 16 };

/* What the options say. First member of the struct that REMOTE_OPTION_ROWS are for. */
struct remote_words {
    const char *url, *conf, *token, *ca;
    const char *headers[REMOTE_HEADERS_MAX];
    size_t header_count;
    bool help;
};

#define REMOTE_OPTION_ROWS                                                                         \
    OPTION_ROW(                                                                                    \
        "--url", "URL",                                                                            \
        "of the broker: http://HOST:PORT, https://HOST, or unix:/path; with a path, if "           \
        "events are not at /events. Without it: the first address of the configuration, or "       \
        "http://127.0.0.1:8080",                                                                   \
        OPTION_TEXT, offsetof(struct remote_words, url)),                                          \
        OPTION_ROW("--conf", "CONF", "take the address from this configuration", OPTION_TEXT,      \
                   offsetof(struct remote_words, conf)),                                           \
        OPTION_ROW(                                                                                \
            "--token", "TOKEN",                                                                    \
            "send it as a bearer token; @FILE: read it from a file, @-: from standard input. "     \
            "Without it: $TIDEGATE_TOKEN, if it is set",                                           \
            OPTION_TEXT, offsetof(struct remote_words, token)),                                    \
        OPTION_ROW(                                                                                \
            "--header", "\"NAME: VALUE\"", "send this header field, too; repeat it for several",   \
            OPTION_LIST, offsetof(struct remote_words, headers), .max = REMOTE_HEADERS_MAX,        \
            .count_at = offsetof(struct remote_words, header_count), .many = "header fields"),     \
        OPTION_ROW("--ca-file", "FILE", "trust these authorities instead of the system's (PEM)",   \
                   OPTION_TEXT, offsetof(struct remote_words, ca)),                                \
        OPTION_ROW("--help", NULL, "this text", OPTION_HELP, offsetof(struct remote_words, help))

struct remote_target {
    struct strbuf url;    /* of the events, without a query */
    struct strbuf socket; /* path; empty: no Unix socket */
    struct strbuf authorization;
    struct http_client_header
        headers[REMOTE_HEADERS_MAX +
                4]; /* borrow from the words, and from here; two are free for the command */
    size_t header_count;
    const char *ca; /* borrowed */
};

/* 0, or the exit code after a message. `out` is to be cleared in any case. `w` must outlive it. */
int remote_target_open(const struct options *o, const struct remote_words *w,
                       struct remote_target *out);
void remote_target_clear(struct remote_target *t);
/* For people: "http://127.0.0.1:8080/events", "unix:/path". */
const char *remote_target_text(const struct remote_target *t);
/* Fills method, URL, socket, headers of the target, limits of time. */
struct http_fetch_request remote_target_request(const struct remote_target *t, const char *method,
                                                const char *url);

/* Appends "?name=value" ("&..." if `out` has a '?'), encoded. 0, UV_ENOBUFS, UV_ENOMEM. */
__attribute__((warn_unused_result)) int remote_put_param(struct strbuf *out, struct slice name,
                                                         struct slice value);

/* What an answer that refuses says, in one line for people: of a problem document title and detail. Not
 * meant for a terminal as it is: see cli_put(). */
void remote_problem(int status, struct slice body, char *out, size_t size);
/* What may be done about it: the end of such a line, or of one that says why no answer came (status 0,
 * `why`: http_fetch_run()'s). "": nothing to say. */
const char *remote_target_hint(const struct remote_target *t, int status, int why);
/* The exit code for an answer of that status. */
int remote_exit_code(int status);
/* Is what answers a stream of events? */
bool remote_is_stream(const struct http_fetch *f);
/* Options that take NAME=VALUE, or what `expected` calls it. 0, or the exit code after a message. */
int remote_check_pairs(const struct options *o, const char *option, const char *expected,
                       const char *const *pairs, size_t n);

#endif
