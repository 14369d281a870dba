#include "remote/remote_connections.h"

#include "cli/cli_options.h"
#include "cli/cli_text.h"
#include "remote/remote_admin.h"
#include "remote/remote_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

enum { LIST_MAX = 10000, IDS_MAX = 64, ID_MAX_BYTES = 40 };

const char remote_connections_details[] =
    "Lists the open streams: id, client, version of HTTP, age, how many events it has got, how many it has still\n"
    "to consider (LAG), and the topics that it was granted.\n"
    "\n"
    "Exit codes: 0; 69 no broker answers; 64 wrong arguments; 78 a wrong configuration.\n";

const char remote_kick_details[] =
    "Closes streams: those with these ids (see `tidegate connections`), or all of a client or a topic. A\n"
    "client reconnects and resumes, unless the policy denies it by then.\n"
    "\n"
    "Exit codes: 0 closed; 66 there is no such stream; 75 there are too many streams to look at all of\n"
    "them; 69 no broker answers; 64 wrong arguments; 78 a wrong configuration.\n";

struct connections_words {
    struct remote_admin_words admin; /* first: REMOTE_ADMIN_ROWS */
    const char *client, *topic;
    uint64_t limit;
};

#define CONNECTIONS_FILTER_ROWS                                                                    \
    OPTION_ROW("--client", "ADDRESS", "only those of this address", OPTION_TEXT,                   \
               offsetof(struct connections_words, client)),                                        \
        OPTION_ROW("--topic", "TOPIC",                                                             \
                   "only those that were granted exactly this topic or pattern", OPTION_TEXT,      \
                   offsetof(struct connections_words, topic))

const struct option_row remote_connections_rows[] = {
    CONNECTIONS_FILTER_ROWS,
    OPTION_ROW("--limit", "N", "at most so many; without it: 1000", OPTION_COUNT,
               offsetof(struct connections_words, limit), .min = 1, .max = LIST_MAX),
    REMOTE_ADMIN_ROWS,
    {.name = NULL},
};
const struct option_row remote_kick_rows[] = {
    CONNECTIONS_FILTER_ROWS,
    REMOTE_ADMIN_ROWS,
    {.name = NULL},
};
static const struct options connections_options = {"tidegate", "connections",
                                                   remote_connections_rows};
static const struct options kick_options = {"tidegate", "kick", remote_kick_rows};

static bool connections_match(const struct connections_words *w, const json_t *c)
{
    size_t i;
    const json_t *topic;
    bool found = !w->topic;
    if (w->client && strcmp(w->client, cli_text_of(c, "client")) != 0) {
        return false;
    }
    json_array_foreach(json_object_get(c, "topics"), i, topic)
    {
        const char *text = json_string_value(topic);
        found = found || (text && strcmp(w->topic, text) == 0);
    }
    return found;
}

/* Leaves those in the list that match. */
static void connections_select(const struct connections_words *w, json_t *list)
{
    for (size_t i = json_array_size(list); i > 0; i--) {
        if (!connections_match(w, json_array_get(list, i - 1))) {
            (void)json_array_remove(list, i - 1);
        }
    }
}

static int connections_fetch(struct remote_admin *a, uint64_t limit, struct remote_answer *out)
{
    char target[64];
    snprintf(target, sizeof target, "/connections?limit=%" PRIu64, limit);
    return remote_admin_ask(a, "GET", target, 0, out);
}

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

static void connections_put_row(const json_t *c, int id_width)
{
    char age[REMOTE_TEXT_MAX];
    const char *http = strchr(cli_text_of(c, "protocol"), '/'); /* HTTP/1.1, HTTP/2 */
    int used = printf("%-*s %-15s %-4s %-10s %7lld %5lld ", id_width, cli_text_of(c, "id"),
                      cli_text_of(c, "client"), http ? http + 1 : "",
                      remote_duration(json_number_value(json_object_get(c, "seconds")), age),
                      cli_count_of(c, "delivered"), cli_count_of(c, "lag"));
    size_t columns = remote_columns();
    connections_put_topics(json_object_get(c, "topics"),
                           (size_t)used + 8 < columns ? columns - (size_t)used : 8);
    putchar('\n');
}

static void connections_print(const json_t *doc)
{
    size_t i;
    const json_t *c, *list = json_object_get(doc, "connections");
    int id_width = 2;
    json_array_foreach(list, i, c)
    {
        int width = (int)strlen(cli_text_of(c, "id"));
        id_width = width > id_width ? width : id_width;
    }
    if (json_array_size(list) > 0) {
        printf("%-*s %-15s %-4s %-10s %7s %5s %s\n", id_width, "ID", "CLIENT", "HTTP", "AGE",
               "EVENTS", "LAG", "TOPICS");
    }
    json_array_foreach(list, i, c)
    {
        connections_put_row(c, id_width);
    }
    long long total = cli_count_of(doc, "total");
    printf("%s%zu of %lld stream%s\n", json_array_size(list) ? "\n" : "", json_array_size(list),
           total, cli_plural(total));
}

int remote_connections(char **words, size_t n)
{
    struct connections_words w = {.limit = 1000};
    struct remote_admin a;
    struct remote_answer answer = {.status = 0};
    int code = remote_admin_words(&connections_options, &w.admin, words, n, NULL, NULL);
    if (code) {
        return code;
    }
    code = remote_admin_open(&connections_options, &w.admin, &a);
    code = code ? code : connections_fetch(&a, w.client || w.topic ? LIST_MAX : w.limit, &answer);
    if (code == 0) {
        json_t *list = json_object_get(answer.doc, "connections");
        connections_select(&w, list);
        while (json_array_size(list) > w.limit) {
            (void)json_array_remove(list, json_array_size(list) - 1);
        }
        if (w.admin.json) {
            (void)json_dumpf(answer.doc, stdout, JSON_INDENT(2));
            putchar('\n');
        } else {
            connections_print(answer.doc);
        }
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
    int code = connections_fetch(a, LIST_MAX, &answer);
    json_t *list = json_object_get(answer.doc, "connections");
    size_t seen = json_array_size(list);
    bool truncated = json_is_true(json_object_get(answer.doc, "truncated"));
    connections_select(w, list);
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
        fprintf(
            stderr,
            "tidegate kick: the broker has %lld streams and lists %zu of them: more may match\n",
            cli_count_of(answer.doc, "total"), seen);
        code = EX_TEMPFAIL;
    }
    remote_answer_clear(&answer);
    return code;
}

int remote_kick(char **words, size_t n)
{
    struct connections_words w = {.limit = LIST_MAX};
    struct remote_admin a;
    char *ids[IDS_MAX];
    size_t count = IDS_MAX;
    int code = remote_admin_words(&kick_options, &w.admin, words, n, ids, &count);
    if (code) {
        return code;
    }
    bool filter = w.client || w.topic;
    if (filter == (count > 0)) {
        return options_refuse(&kick_options, "ID",
                              "name the streams: either ids, or --client and --topic");
    }
    code = remote_admin_open(&kick_options, &w.admin, &a);
    if (code == 0 && filter) {
        code = kick_matching(&a, &w);
    }
    for (size_t i = 0; i < count && code == 0; i++) {
        code = kick_one(&a, ids[i]);
    }
    remote_admin_close(&a);
    return code;
}
