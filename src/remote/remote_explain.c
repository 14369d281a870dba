/* See remote_explain.h. The broker finds out, in the JSON document of its admin service; this asks,
 * and lays it out for people. */
#include "remote/remote_explain.h"

#include "base/program/read_file.h"
#include "base/strbuf.h"
#include "cli/cli_options.h"
#include "cli/cli_text.h"
#include "remote/client/remote_text.h"
#include "remote/remote_admin.h"
#include "remote/remote_streams.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <uv.h>

enum {
    EVENT_MAX_BYTES = 64 * 1024, /* what an admin service takes */
    ID_MAX_BYTES = 40,
    STREAMS_MAX = 20, /* of one identity */
    EX_NOT_DELIVERED = 1,
};

const char remote_explain_details[] =
    "`tidegate connections` lists the ids of connections (WORKER-NUMBER). --who finds the open streams of\n"
    "an identity, at most 20 of them, and explains the event for each. The event is an id, or a file with one as for POST /events. The broker runs the\n"
    "current filter and format once more, without any effect on delivery. The last line is the\n"
    "result; in --json it is \"outcome\" (delivered, not-delivered, would-deliver, would-not-deliver)\n"
    "and \"reason\":\n"
    "  topic           none of the connection's topics matches\n"
    "  filtered        its filter is false\n"
    "  filter-error    its filter fails, or is disabled because it failed too often\n"
    "  format-nil      its format leaves the event out\n"
    "  format-error    its format fails, or is disabled\n"
    "  held            the current policy no longer has that filter or format\n"
    "  before-connect  the stream began after the event\n"
    "  no-replay       the client asked for history, the policy grants none\n"
    "  expired         older than retention, or the policy's max_age, allows\n"
    "  lag-skipped     the stream was too far behind and was moved to the head\n"
    "  superseded      a newer one of its topic came (a snapshot, limits.every_s)\n"
    "  event-expired   it was published to expire, and its time had passed\n\n"
    "Exit codes: 0 delivered, or would be; 1 not delivered, of several streams to one of them; 66 no such\n"
    "connection or event; 65 the --input is not an event, or the broker does not show that field of\n"
    "identities; 69 no broker answers; 76 what answers is no broker; 75 the broker cannot\n"
    "tell now; 64 wrong arguments; 78 a wrong configuration.\n";

/* ---------------------------------------------------------------- words */

struct explain_words {
    struct remote_admin_words admin; /* first: REMOTE_ADMIN_ROWS */
    const char *connection, *event, *input;
    struct remote_streams streams; /* --who */
};

const struct option_row remote_explain_rows[] = {
    OPTION_ROW("--conn", "ID", "the connection", OPTION_TEXT,
               offsetof(struct explain_words, connection)),
    OPTION_ROW(
        "--who", "FIELD=VALUE",
        "instead: all of this identity, by a field that the configuration lets operators see "
        "(admin_identity): --who sub=ann",
        OPTION_LIST, offsetof(struct explain_words, streams.who), .max = REMOTE_WHO_MAX,
        .count_at = offsetof(struct explain_words, streams.who_count), .many = "fields"),
    OPTION_ROW("--event", "ID", "the event", OPTION_TEXT, offsetof(struct explain_words, event)),
    OPTION_ROW("--input", "FILE",
               "an event that need not be stored, as JSON, instead; -: standard input", OPTION_TEXT,
               offsetof(struct explain_words, input)),
    REMOTE_ADMIN_ROWS,
    {.name = NULL},
};
static const struct options explain_options = {"tidegate", "explain", remote_explain_rows};

static int explain_fail(const char *about, const char *what)
{
    return options_refuse(&explain_options, about, "%s", what);
}

/* Digits, with one dash between where `dash`: what may stand in the request as it is. */
static bool explain_is_id(const char *text, bool dash)
{
    size_t n = strspn(text, "0123456789");
    if (dash && n > 0 && text[n] == '-') {
        size_t more = strspn(text + n + 1, "0123456789");
        n = more ? n + 1 + more : n;
    }
    return n > 0 && text[n] == '\0' && n < ID_MAX_BYTES;
}

static int explain_check_words(const struct explain_words *w)
{
    if (!w->connection == !w->streams.who_count || !w->event == !w->input) {
        return explain_fail("--conn ID --event ID",
                            "a connection or --who, and an event or --input, were expected");
    }
    if (w->connection && !explain_is_id(w->connection, true)) {
        return explain_fail(w->connection, "an id as GET /connections lists them was expected");
    }
    if (w->event && !explain_is_id(w->event, false)) {
        return explain_fail(w->event, "the id of an event, a number, was expected");
    }
    return remote_streams_check(&explain_options, &w->streams);
}

/* 0, or the exit code after a message. */
static int explain_read_event(const char *path, struct strbuf *out)
{
    int rc = read_file(path, out);
    if (rc) {
        (void)explain_fail(path, rc == UV_ENOBUFS ? "larger than 64 KiB" : uv_strerror(rc));
    }
    return rc ? EX_NOINPUT : 0;
}

/* ---------------------------------------------------------------- showing */

static void explain_put_head(const json_t *doc)
{
    const json_t *c = json_object_get(doc, "connection"), *e = json_object_get(doc, "event");
    char who[REMOTE_WHO_TEXT_MAX];
    printf("connection %s from ", cli_text_of(c, "id"));
    cli_put(stdout, slice_str(cli_text_of(c, "client")));
    if (*remote_who(c, who)) {
        printf(" (");
        cli_put(stdout, slice_str(who));
        putchar(')');
    }
    printf(": %s, began behind %s, is at %s%s\n", cli_text_of(c, "state"),
           cli_text_of(c, "began_behind"), cli_text_of(c, "cursor"),
           json_is_true(json_object_get(c, "resubscribing")) ? ", is to be asked about again" : "");
    const char *id = cli_text_of(e, "id");
    printf("event %s", *id ? id : "(given)");
    if (json_is_true(json_object_get(e, "removed"))) {
        printf(": removed by retention");
    } else {
        printf(" on ");
        cli_put(stdout, slice_str(cli_text_of(e, "topic")));
        printf(", type ");
        cli_put(stdout, slice_str(cli_text_of(e, "type")));
        printf(", %lld bytes, %s", cli_count_of(e, "bytes"), cli_text_of(e, "time"));
    }
    putchar('\n');
}

static void explain_put_steps(const json_t *doc)
{
    size_t i, k;
    const json_t *step, *line;
    json_array_foreach(json_object_get(doc, "steps"), i, step)
    {
        printf("  %-7s ", cli_text_of(step, "step"));
        cli_put(stdout, slice_str(cli_text_of(step, "text")));
        putchar('\n');
        json_array_foreach(json_object_get(step, "lines"), k, line)
        {
            printf("            ");
            cli_put(stdout, slice_str(json_string_value(line)));
            putchar('\n');
        }
    }
}

static void explain_put_outcome(const json_t *doc, const char *outcome)
{
    static const char *const words[][2] = {{"delivered", "DELIVERED"},
                                           {"not-delivered", "NOT DELIVERED"},
                                           {"would-deliver", "WOULD BE DELIVERED"},
                                           {"would-not-deliver", "WOULD NOT BE DELIVERED"}};
    const char *reason = cli_text_of(doc, "reason"), *where = cli_text_of(doc, "where");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(outcome, words[i][0]) == 0) {
            printf("%s", words[i][1]);
        }
    }
    printf("%s%s (policy ", *reason ? ": " : "", reason);
    remote_put_policy(json_object_get(doc, "policy"));
    printf("%s", *where ? ", " : "");
    cli_put(stdout, slice_str(where));
    printf(")\n");
}

/* ---------------------------------------------------------------- asking */

static void explain_put(const json_t *doc)
{
    explain_put_head(doc);
    explain_put_steps(doc);
    explain_put_outcome(doc, cli_text_of(doc, "outcome"));
}

/* About one connection. The exit code; `out` has the document with 0 and EX_NOT_DELIVERED, and is to be
 * cleared. */
static int explain_one(struct remote_admin *a, const struct explain_words *w, const char *id,
                       struct slice event, struct remote_answer *out)
{
    char target[2 * ID_MAX_BYTES + 40];
    snprintf(target, sizeof target, "/connections/%.*s/explain%s%s", ID_MAX_BYTES, id,
             w->event ? "?event=" : "", w->event ? w->event : "");
    struct backend_request rq = {.method = w->event ? "GET" : "POST", .target = target};
    if (!w->event) {
        rq.type = slice_str("application/json");
        rq.body = event;
    }
    remote_admin_send(a, &rq, out);
    const char *outcome = cli_text_of(out->doc, "outcome");
    if (out->status != 200 || !*outcome) {
        return remote_admin_failed(a, out);
    }
    return strstr(outcome, "not-") ? EX_NOT_DELIVERED : EX_OK;
}

static int explain_connection(struct remote_admin *a, const struct explain_words *w,
                              struct slice event)
{
    struct remote_answer answer;
    int code = explain_one(a, w, w->connection, event, &answer);
    if (code == EX_OK || code == EX_NOT_DELIVERED) {
        if (w->admin.json) {
            printf("%s", answer.text);
        } else {
            explain_put(answer.doc);
        }
    }
    remote_answer_clear(&answer);
    return code;
}

/* Each stream of `list`, to people at once, to programs in `docs`. */
static int explain_each(struct remote_admin *a, const struct explain_words *w, const json_t *list,
                        struct slice event, json_t *docs)
{
    int code = EX_OK;
    size_t i;
    const json_t *c;
    json_array_foreach(list, i, c)
    {
        struct remote_answer answer;
        int one = explain_one(a, w, cli_text_of(c, "id"), event, &answer);
        bool good = one == EX_OK || one == EX_NOT_DELIVERED;
        if (good && w->admin.json) {
            (void)json_array_append(docs, answer.doc);
        } else if (good) {
            printf("%s", i ? "\n" : "");
            explain_put(answer.doc);
        }
        remote_answer_clear(&answer);
        if (!good) {
            return one;
        }
        code = one == EX_NOT_DELIVERED ? one : code;
    }
    return code;
}

static int explain_identity(struct remote_admin *a, const struct explain_words *w,
                            struct slice event)
{
    struct remote_answer answer;
    int code = remote_streams_ask(a, &w->streams, STREAMS_MAX, &answer);
    const json_t *list = json_object_get(answer.doc, "connections");
    bool left_out = code == 0 && json_is_true(json_object_get(answer.doc, "truncated"));
    long long matched = cli_count_of(answer.doc, "matched");
    if (code == 0 && json_array_size(list) == 0) {
        fprintf(stderr, "tidegate explain: no open stream is of that identity%s\n",
                left_out ? ", as far as the workers answer" : "");
        code = left_out ? EX_TEMPFAIL : EX_NOINPUT;
    } else if (code == 0) {
        json_t *docs = json_array();
        code = explain_each(a, w, list, event, docs);
        if (w->admin.json && (code == EX_OK || code == EX_NOT_DELIVERED)) {
            json_t *all = json_pack("{s:I, s:b, s:O}", "matched", (json_int_t)matched, "truncated",
                                    left_out, "explanations", docs);
            (void)json_dumpf(all, stdout, JSON_INDENT(2));
            putchar('\n');
            json_decref(all);
        }
        json_decref(docs);
        if (left_out) {
            fprintf(
                stderr,
                matched > (long long)json_array_size(list)
                    ? "tidegate explain: %lld streams match, these are the first %zu: see "
                      "`tidegate connections --who`, and name one with --conn\n"
                    : "tidegate explain: a worker did not answer: of %lld streams that are known "
                      "to match these are %zu\n",
                matched, json_array_size(list));
        }
    }
    remote_answer_clear(&answer);
    return code;
}

int remote_explain(char **words, size_t n)
{
    struct explain_words w = {.connection = NULL};
    struct remote_admin a;
    struct strbuf event;
    int code = remote_admin_words(&explain_options, &w.admin, words, n, NULL, NULL);
    code = code ? code : explain_check_words(&w);
    if (code) {
        return code;
    }
    strbuf_init(&event, EVENT_MAX_BYTES);
    code = remote_admin_open(&explain_options, &w.admin, &a);
    code = code || !w.input ? code : explain_read_event(w.input, &event);
    if (code == 0) {
        code = w.connection ? explain_connection(&a, &w, strbuf_slice(&event))
                            : explain_identity(&a, &w, strbuf_slice(&event));
    }
    strbuf_clear(&event);
    remote_admin_close(&a);
    return code;
}
