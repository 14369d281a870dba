#include "remote/remote_connections.h"

#include "cli/cli_options.h"
#include "cli/cli_text.h"
#include "remote/client/remote_text.h"
#include "remote/remote_admin.h"
#include "remote/remote_streams.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

enum { IDS_MAX = 64, ID_MAX_BYTES = 40, TEXT_COLUMNS = 40 };

const char remote_connections_details[] =
    "Lists the open streams: id, client, version of HTTP, age, how many events it has got, how many it has still\n"
    "to consider (LAG), who it is, as far as the configuration shows that (admin_identity), whose it is, where the\n"
    "policy returns `presence` (MEMBER), and the topics that it was granted: on a terminal as many as the line\n"
    "has room for, into a file or a pipe all.\n"
    "\n"
    "Exit codes: 0; 65 the broker does not show that field of identities; 69 no broker answers; 64 wrong\n"
    "arguments; 78 a wrong configuration.\n";

const char remote_kick_details[] =
    "Closes streams: those with these ids (see `tidegate connections`), or all of a client, a topic, a tag or\n"
    "an identity. A client reconnects and resumes, unless the policy denies it by then. With --reason or --tag\n"
    "the clients are told why, by the `revoked` signal; with --ask the streams stay, and the policy is asked\n"
    "again what they may see: they get nothing until it has answered.\n"
    "\n"
    "Exit codes: 0 closed; 66 there is no such stream; 75 more streams match than one command closes\n"
    "(10,000), or a worker did not answer: run it again; 65 the broker does not show that field of\n"
    "identities; 69 no broker answers; 64 wrong arguments; 78 a wrong configuration.\n";

struct connections_words {
    struct remote_admin_words admin; /* first: REMOTE_ADMIN_ROWS */
    struct remote_streams streams;
    const char *reason;
    bool ask;
    uint64_t limit;
};

const struct option_row remote_connections_rows[] = {
    REMOTE_STREAMS_ROWS(connections_words, streams),
    OPTION_ROW("--limit", "N", "at most so many; without it: 1000", OPTION_COUNT,
               offsetof(struct connections_words, limit), .min = 1, .max = REMOTE_STREAMS_MAX),
    REMOTE_ADMIN_ROWS,
    {.name = NULL},
};
const struct option_row remote_kick_rows[] = {
    REMOTE_STREAMS_ROWS(connections_words, streams),
    OPTION_ROW("--reason", "TEXT", "what the clients are told", OPTION_TEXT,
               offsetof(struct connections_words, reason)),
    OPTION_ROW("--ask", NULL, "have the policy asked again about them, and close none", OPTION_FLAG,
               offsetof(struct connections_words, ask)),
    REMOTE_ADMIN_ROWS,
    {.name = NULL},
};
static const struct options connections_options = {"tidegate", "connections",
                                                   remote_connections_rows};
static const struct options kick_options = {"tidegate", "kick", remote_kick_rows};

/* ---------------------------------------------------------------- the list */

/* As far as the line goes. */
static void connections_put_topics(const json_t *topics, size_t room)
{
    size_t i;
    const json_t *topic;
    json_array_foreach(topics, i, topic)
    {
        struct slice s = slice_of(json_string_value(topic), json_string_length(topic));
        size_t wanted = s.n + (i > 0);
        if (wanted + (i + 1 < json_array_size(topics) ? 4 : 0) > room) {
            s.n = i || room < 4 ? 0 : room - 3;
            cli_put(stdout, s);
            printf("%s...", i ? " " : "");
            return;
        }
        printf("%s", i ? " " : "");
        cli_put(stdout, s);
        room -= wanted;
    }
}

/* 0: there is no such column. */
struct connections_widths {
    int id, who, member;
};

static int connections_wider(int width, const char *text)
{
    int n = (int)strlen(text);
    n = n < TEXT_COLUMNS ? n : TEXT_COLUMNS;
    return n > width ? n : width;
}

/* Returns how many columns that took. */
static int connections_put_text(const char *text, int width)
{
    size_t n = strlen(text);
    if (width == 0) {
        return 0;
    }
    n = n < (size_t)width ? n : (size_t)width;
    cli_put(stdout, slice_of(text, n));
    return printf("%*s ", (int)((size_t)width - n), "") + (int)n;
}

/* The end of the member's topic: its name is there. */
static const char *connections_member(const json_t *c)
{
    const char *text = cli_text_of(c, "presence");
    size_t n = strlen(text);
    text += n > TEXT_COLUMNS ? n - TEXT_COLUMNS : 0;
    while (((unsigned char)*text & 0xC0) == 0x80) { /* within a character */
        text++;
    }
    return text;
}

static void connections_put_row(const json_t *c, const struct connections_widths *w)
{
    char age[REMOTE_TEXT_MAX], who[REMOTE_WHO_TEXT_MAX];
    const char *http = strchr(cli_text_of(c, "protocol"), '/'); /* HTTP/1.1, HTTP/2 */
    int used = printf("%-*s %-15s %-4s %-10s %7lld %5lld ", w->id, cli_text_of(c, "id"),
                      cli_text_of(c, "client"), http ? http + 1 : "",
                      remote_duration(json_number_value(json_object_get(c, "seconds")), age),
                      cli_count_of(c, "delivered"), cli_count_of(c, "lag"));
    used += connections_put_text(remote_who(c, who), w->who);
    used += connections_put_text(connections_member(c), w->member);
    size_t columns = remote_columns();
    connections_put_topics(json_object_get(c, "topics"),
                           (size_t)used + 8 < columns ? columns - (size_t)used : 8);
    putchar('\n');
}

static void connections_print(const json_t *doc)
{
    size_t i;
    const json_t *c, *list = json_object_get(doc, "connections");
    struct connections_widths w = {.id = 2};
    char who[REMOTE_WHO_TEXT_MAX];
    json_array_foreach(list, i, c)
    {
        w.id = connections_wider(w.id, cli_text_of(c, "id"));
        w.who = connections_wider(w.who, remote_who(c, who));
        w.member = connections_wider(w.member, connections_member(c));
    }
    if (json_array_size(list) > 0) {
        w.who = w.who ? connections_wider(w.who, "WHO") : 0;
        w.member = w.member ? connections_wider(w.member, "MEMBER") : 0;
        printf("%-*s %-15s %-4s %-10s %7s %5s ", w.id, "ID", "CLIENT", "HTTP", "AGE", "EVENTS",
               "LAG");
        (void)connections_put_text("WHO", w.who);
        (void)connections_put_text("MEMBER", w.member);
        printf("TOPICS\n");
    }
    json_array_foreach(list, i, c)
    {
        connections_put_row(c, &w);
    }
    long long total = cli_count_of(doc, "total"), matched = cli_count_of(doc, "matched");
    printf("%s%zu of %lld stream%s", json_array_size(list) ? "\n" : "", json_array_size(list),
           total, cli_plural(total));
    if (matched > (long long)json_array_size(list) && matched < total) {
        printf("; %lld match", matched);
    }
    putchar('\n');
}

/* Streams that nobody could ask about are not among those that match. */
static bool connections_are_missing(const struct remote_admin *a, const json_t *doc)
{
    size_t shown = json_array_size(json_object_get(doc, "connections"));
    bool missing = json_is_true(json_object_get(doc, "truncated")) &&
                   (long long)shown >= cli_count_of(doc, "matched");
    if (missing) {
        fprintf(stderr, "tidegate %s: a worker did not answer: its streams are left out\n",
                a->options->command);
    }
    return missing;
}

int remote_connections(char **words, size_t n)
{
    struct connections_words w = {.limit = 1000};
    struct remote_admin a;
    struct remote_answer answer = {.status = 0};
    int code = remote_admin_words(&connections_options, &w.admin, words, n, NULL, NULL);
    code = code ? code : remote_streams_check(&connections_options, &w.streams);
    if (code) {
        return code;
    }
    code = remote_admin_open(&connections_options, &w.admin, &a);
    code = code ? code : remote_streams_ask(&a, &w.streams, w.limit, &answer);
    if (code == 0 && w.admin.json) {
        printf("%s", answer.text);
    } else if (code == 0) {
        connections_print(answer.doc);
        (void)connections_are_missing(&a, answer.doc);
    }
    remote_answer_clear(&answer);
    remote_admin_close(&a);
    return code;
}

/* ---------------------------------------------------------------- their end */

/* 0, or the exit code after a message. */
static int kick_one(struct remote_admin *a, const char *id)
{
    char target[64];
    struct remote_answer answer;
    size_t digits = strspn(id, "0123456789-");
    if (digits == 0 || id[digits] || digits > ID_MAX_BYTES) {
        return options_refuse(&kick_options, id,
                              "an id as `tidegate connections` lists them was expected");
    }
    snprintf(target, sizeof target, "/connections/%s", id);
    int code = remote_admin_ask(a, "DELETE", target, 0, &answer);
    if (code == 0) {
        printf("closed %s\n", id);
    }
    remote_answer_clear(&answer);
    return code;
}

static int kick_matching(struct remote_admin *a, const struct connections_words *w)
{
    struct remote_answer answer;
    size_t i;
    const json_t *c;
    int code = remote_streams_ask(a, &w->streams, REMOTE_STREAMS_MAX, &answer);
    const json_t *list = json_object_get(answer.doc, "connections");
    bool truncated = code == 0 && json_is_true(json_object_get(answer.doc, "truncated"));
    if (code == 0 && json_array_size(list) == 0 && !truncated) {
        fprintf(stderr, "tidegate kick: no open stream matches\n");
        code = EX_NOINPUT;
    }
    bool closed = false;
    json_array_foreach(list, i, c)
    {
        if (code == 0 || code == EX_NOINPUT) { /* one may have ended by itself */
            code = kick_one(a, cli_text_of(c, "id"));
            closed = closed || code == 0;
        }
    }
    code = closed && code == EX_NOINPUT ? 0 : code;
    if ((code == 0 || code == EX_NOINPUT) && truncated) {
        if (!connections_are_missing(a, answer.doc)) {
            fprintf(stderr,
                    "tidegate kick: %lld streams match, one command closes %d: run it again\n",
                    cli_count_of(answer.doc, "matched"), REMOTE_STREAMS_MAX);
        }
        code = EX_TEMPFAIL;
    }
    remote_answer_clear(&answer);
    return code;
}

/* All at once: the broker finds them, however many there are. */
static int kick_order(struct remote_admin *a, const struct connections_words *w)
{
    struct remote_answer answer;
    int code =
        w->ask ? remote_streams_order(a, &w->streams, "POST", "/connections/resubscribe", NULL,
                                      &answer)
               : remote_streams_order(a, &w->streams, "DELETE", "/connections", w->reason, &answer);
    long long streams = code ? 0 : cli_count_of(answer.doc, "streams");
    if (code == 0 && streams == 0) {
        fprintf(stderr, "tidegate kick: no open stream matches\n");
        code = EX_NOINPUT;
    } else if (code == 0) {
        printf("%s %lld stream%s\n", w->ask ? "asked about" : "closed", streams,
               cli_plural(streams));
    }
    remote_answer_clear(&answer);
    return code;
}

int remote_kick(char **words, size_t n)
{
    struct connections_words w = {.limit = 0};
    struct remote_admin a;
    char *ids[IDS_MAX];
    size_t count = IDS_MAX;
    int code = remote_admin_words(&kick_options, &w.admin, words, n, ids, &count);
    if (code) {
        return code;
    }
    code = remote_streams_check(&kick_options, &w.streams);
    if (code) {
        return code;
    }
    bool filter = remote_streams_some(&w.streams);
    if (filter && count > 0) {
        return options_refuse(&kick_options, ids[0],
                              "either ids, or --client, --topic, --tag and --who; a configuration "
                              "is named with --conf");
    }
    if (!filter && count == 0) {
        return options_refuse(
            &kick_options, "ID",
            "name the streams: either ids, or --client, --topic, --tag and --who");
    }
    bool order = w.streams.tag || w.reason || w.ask;
    if (order && count > 0) {
        return options_refuse(&kick_options, w.ask ? "--ask" : "--reason",
                              "it goes with --client, --topic, --tag and --who");
    }
    if (w.ask && w.reason) {
        return options_refuse(&kick_options, "--reason", "--ask closes no stream");
    }
    code = remote_admin_open(&kick_options, &w.admin, &a);
    if (code == 0 && order) {
        code = kick_order(&a, &w);
    } else if (code == 0 && filter) {
        code = kick_matching(&a, &w);
    }
    for (size_t i = 0; i < count && code == 0; i++) {
        code = kick_one(&a, ids[i]);
    }
    remote_admin_close(&a);
    return code;
}
