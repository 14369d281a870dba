/* See cli_explain.h. The broker finds out, in the JSON document of its admin service; this asks,
 * and lays it out for people. */
#include "cli/cli_explain.h"

#include "base/program/read_file.h"
#include "base/strbuf.h"
#include "cli/cli_admin.h"
#include "cli/cli_options.h"
#include "cli/cli_text.h"
#include "net/client/backend_call.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <uv.h>

enum {
    EVENT_MAX_BYTES = 64 * 1024, /* what an admin service takes */
    ID_MAX_BYTES = 40,
    EX_NOT_DELIVERED = 1,
};

const char cli_explain_details[] =
    "GET /connections of the admin service lists the ids of connections (WORKER-NUMBER).\n"
    "The event is an id, or a file with one as for POST /events. The broker runs the\n"
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
    "  lag-skipped     the stream was too far behind and was moved to the head\n\n"
    "Exit codes: 0 delivered, or would be; 1 not delivered; 66 no such connection or event; 65 the\n"
    "--input is not an event; 69 no broker answers; 75 the broker cannot tell now; 64 wrong\n"
    "arguments; 78 a wrong configuration.\n";

/* ---------------------------------------------------------------- words */

struct explain_words {
    const char *conf, *admin, *connection, *event, *input;
    bool json, help;
};

const struct option_row cli_explain_rows[] = {
    OPTION_ROW("--conn", "ID", "the connection", OPTION_TEXT,
               offsetof(struct explain_words, connection)),
    OPTION_ROW("--event", "ID", "the event", OPTION_TEXT, offsetof(struct explain_words, event)),
    OPTION_ROW("--input", "FILE",
               "an event that need not be stored, as JSON, instead; -: standard input", OPTION_TEXT,
               offsetof(struct explain_words, input)),
    OPTION_ROW("--admin", "ADDRESS",
               "the broker's admin address, instead of CONF; without both: the default",
               OPTION_TEXT, offsetof(struct explain_words, admin)),
    OPTION_ROW("--json", NULL, "print the broker's JSON document", OPTION_FLAG,
               offsetof(struct explain_words, json)),
    OPTION_ROW("--help", NULL, "this text", OPTION_HELP, offsetof(struct explain_words, help)),
    {.name = NULL},
};
static const struct options explain_options = {"tidegate", "explain", cli_explain_rows};

static int cli_explain_fail(const char *about, const char *what)
{
    return options_refuse(&explain_options, about, "%s", what);
}

/* Digits, with one dash between where `dash`: what may stand in the request as it is. */
static bool is_id(const char *text, bool dash)
{
    size_t n = strspn(text, "0123456789");
    if (dash && n > 0 && text[n] == '-') {
        size_t more = strspn(text + n + 1, "0123456789");
        n = more ? n + 1 + more : n;
    }
    return n > 0 && text[n] == '\0' && n < ID_MAX_BYTES;
}

static int check_words(const struct explain_words *w)
{
    if (!w->connection || !w->event == !w->input) {
        return cli_explain_fail("--conn ID --event ID",
                                "a connection, and an event or --input, were expected");
    }
    if (!is_id(w->connection, true)) {
        return cli_explain_fail(w->connection, "an id as GET /connections lists them was expected");
    }
    if (w->event && !is_id(w->event, false)) {
        return cli_explain_fail(w->event, "the id of an event, a number, was expected");
    }
    return 0;
}

/* 0, or the exit code after a message. */
static int read_words(struct explain_words *w, char **words, size_t n)
{
    char *conf = NULL;
    size_t count = 1;
    int code = options_parse(&explain_options, w, words, n, &conf, &count);
    w->conf = conf;
    return code || w->help ? code : check_words(w);
}

/* 0, or the exit code after a message. */
static int cli_explain_read_event(const char *path, struct strbuf *out)
{
    int rc = read_file(path, out);
    if (rc) {
        (void)cli_explain_fail(path, rc == UV_ENOBUFS ? "larger than 64 KiB" : uv_strerror(rc));
    }
    return rc ? EX_NOINPUT : 0;
}

/* ---------------------------------------------------------------- showing */

static void cli_explain_put_head(const json_t *doc)
{
    const json_t *c = json_object_get(doc, "connection"), *e = json_object_get(doc, "event");
    printf("connection %s from ", cli_text_of(c, "id"));
    cli_put(stdout, slice_str(cli_text_of(c, "client")));
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
        printf(", %lld bytes, %s", (long long)json_integer_value(json_object_get(e, "bytes")),
               cli_text_of(e, "time"));
    }
    putchar('\n');
}

static void put_steps(const json_t *doc)
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

static void put_outcome(const json_t *doc, const char *outcome)
{
    static const char *const words[][2] = {{"delivered", "DELIVERED"},
                                           {"not-delivered", "NOT DELIVERED"},
                                           {"would-deliver", "WOULD BE DELIVERED"},
                                           {"would-not-deliver", "WOULD NOT BE DELIVERED"}};
    const json_t *policy = json_object_get(doc, "policy");
    const char *reason = cli_text_of(doc, "reason"), *where = cli_text_of(doc, "where"),
               *label = cli_text_of(policy, "label");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(outcome, words[i][0]) == 0) {
            printf("%s", words[i][1]);
        }
    }
    printf("%s%s (policy ", *reason ? ": " : "", reason);
    cli_put(stdout, slice_str(label));
    printf("%s%s%s", *label ? " " : "", cli_text_of(policy, "version"), *where ? ", " : "");
    cli_put(stdout, slice_str(where));
    printf(")\n");
}

/* ---------------------------------------------------------------- asking */

struct question {
    const struct explain_words *words;
    const struct address *where;
    int code;
};

static int cli_explain_refused(const struct address *where, int status, const char *detail)
{
    char at[ADDRESS_LISTEN_TEXT_MAX];
    int code = status == 404 || status == 410                    ? EX_NOINPUT
               : status == 400 || status == 413 || status == 415 ? EX_DATAERR
               : status == 503                                   ? EX_TEMPFAIL
                                                                 : EX_UNAVAILABLE;
    address_text(where, at);
    if (status && *detail) {
        fprintf(stderr, "tidegate explain: %s\n", detail);
    } else {
        fprintf(stderr, "tidegate explain: %s: %s\n", at,
                status ? "what answers there is no broker that can tell"
                       : "no answer came from this admin address: does the broker run, and is this "
                         "the `admin` of its configuration?");
    }
    return code;
}

static void cli_explain_on_answer(void *ctx, unsigned worker, int status, struct slice body)
{
    struct question *q = ctx;
    json_t *doc = json_loadb(body.p ? body.p : "", body.n, 0, NULL);
    const char *outcome = cli_text_of(doc, "outcome");
    (void)worker;
    if (status != 200 || !*outcome) {
        q->code = cli_explain_refused(q->where, status, cli_text_of(doc, "detail"));
    } else {
        q->code = strstr(outcome, "not-") ? EX_NOT_DELIVERED : EX_OK;
        if (q->words->json) {
            printf("%.*s", (int)body.n, body.p);
        } else {
            cli_explain_put_head(doc);
            put_steps(doc);
            put_outcome(doc, outcome);
        }
    }
    json_decref(doc);
}

static int cli_explain_ask(const struct explain_words *w, const struct address *where,
                           struct slice event)
{
    char target[2 * ID_MAX_BYTES + 40];
    snprintf(target, sizeof target, "/connections/%s/explain%s%s", w->connection,
             w->event ? "?event=" : "", w->event ? w->event : "");
    struct question q = {.words = w, .where = where, .code = EX_SOFTWARE};
    struct backend_request rq = {.method = w->event ? "GET" : "POST", .target = target};
    if (!w->event) {
        rq.type = slice_str("application/json");
        rq.body = event;
    }
    struct loop *loop = loop_new();
    if (!loop) {
        return EX_OSERR;
    }
    backend_call(loop, where, &rq, 0, cli_explain_on_answer, &q);
    loop_run(loop);
    return loop_free(loop) && q.code == 0 ? EX_SOFTWARE : q.code;
}

int cli_explain(char **words, size_t n)
{
    struct explain_words w = {.json = false};
    struct address where;
    struct strbuf event;
    int code = read_words(&w, words, n);
    if (w.help && code == 0) {
        return CLI_HELP;
    }
    code = code ? code : cli_admin_address(&explain_options, w.conf, w.admin, &where);
    if (code) {
        return code;
    }
    strbuf_init(&event, EVENT_MAX_BYTES);
    code = w.input ? cli_explain_read_event(w.input, &event) : 0;
    code = code ? code : cli_explain_ask(&w, &where, strbuf_slice(&event));
    strbuf_clear(&event);
    return code;
}
