#include "remote/remote_publish.h"

#include "base/program/read_file.h"
#include "base/text/json_text.h"
#include "cli/cli_options.h"
#include "cli/cli_text.h"
#include "remote/client/remote_target.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>
#include <uv.h>

enum {
    ATTRS_MAX = 32,
    DATA_MAX_BYTES = 64 * 1024 * 1024, /* the broker says what it takes */
    ANSWER_MAX_BYTES = 1024 * 1024,
    CHUNK_BYTES = 64 * 1024,
    BATCH_LINES = 100,
};

const char remote_publish_details[] =
    "Publishes DATA, or what stands in standard input (also for -), and prints the id of the event\n"
    "when it is stored. With --ndjson each line of standard input is an event, {\"topic\", \"type\",\n"
    "\"data\", \"key\", \"attrs\", \"ttl\", \"expires\"}; lines that are there together are sent\n"
    "together, in order.\n"
    "\n"
    "A line that is refused ends it: the lines before are stored, the lines behind are not. With a key\n"
    "(--key, \"key\") it is safe to repeat what failed: the broker stores an event of the same key once.\n"
    "\n"
    "Exit codes: 0 stored; 65 the broker cannot use the event; 77 the policy denies it; 75 the broker\n"
    "cannot store it now, or does not know whether it has; 69 no broker answers; 76 what answers is no\n"
    "broker; 66 the data cannot be read; 74 the ids could not be written; 64 wrong arguments.\n";

struct publish_words {
    struct remote_words remote; /* first: REMOTE_OPTION_ROWS */
    const char *type, *key, *expires, *ttl;
    const char *attrs[ATTRS_MAX];
    size_t attr_count;
    bool ndjson, json;
};

const struct option_row remote_publish_rows[] = {
    OPTION_ROW("--type", "TYPE", "of the event; without it: message", OPTION_TEXT,
               offsetof(struct publish_words, type)),
    OPTION_ROW("--key", "KEY", "store the event once, however often it is sent with this key",
               OPTION_TEXT, offsetof(struct publish_words, key)),
    OPTION_ROW("--attr", "NAME=VALUE", "an attribute; repeat it for several", OPTION_LIST,
               offsetof(struct publish_words, attrs), .max = ATTRS_MAX,
               .count_at = offsetof(struct publish_words, attr_count), .many = "attributes"),
    OPTION_ROW("--ttl", "SECONDS", "do not deliver the event any more after so long", OPTION_TEXT,
               offsetof(struct publish_words, ttl)),
    OPTION_ROW("--expires", "TIME",
               "do not deliver the event any more from then on: Unix seconds, or "
               "2026-11-30T12:00:00Z",
               OPTION_TEXT, offsetof(struct publish_words, expires)),
    OPTION_ROW("--ndjson", NULL, "publish the lines of standard input", OPTION_FLAG,
               offsetof(struct publish_words, ndjson)),
    OPTION_ROW("--json", NULL, "print what the broker answers for each event, as a line of JSON",
               OPTION_FLAG, offsetof(struct publish_words, json)),
    REMOTE_OPTION_ROWS,
    {.name = NULL},
};
static const struct options publish_options = {"tidegate", "publish", remote_publish_rows};

struct publish {
    const struct publish_words *words;
    struct remote_target target;
    struct http_fetch *fetch;
    struct strbuf url, answer;
    struct strbuf input; /* of --ndjson: from the line `line` on */
    uint64_t line;       /* from 1 */
};

/* ---------------------------------------------------------------- one request */

static bool publish_on_body(void *ctx, struct http_fetch *f, struct slice bytes)
{
    struct publish *p = ctx;
    (void)f;
    return strbuf_append(&p->answer, bytes.p, bytes.n) == 0;
}

/* The line of the body, which holds one: `at` says which line of the input that is. */
static void publish_drop_line(char *text)
{
    static const char line[] = ": line 1: ";
    char *at = strstr(text, line);
    if (at) {
        const char *rest = at + sizeof line - 1;
        memmove(at + 2, rest, strlen(rest) + 1);
    }
}

/* `at`: "line 7: ", or empty. Answers the exit code. */
static int publish_failed(const struct publish *p, const char *at, int status, const struct err *e)
{
    char text[1200];
    snprintf(text, sizeof text, "%s", e->text);
    if (status) {
        remote_problem(status, strbuf_slice(&p->answer), text, sizeof text);
        if (*at) {
            publish_drop_line(text);
        }
    }
    fprintf(stderr, "tidegate publish: %s%s%s", at, status ? "" : remote_target_text(&p->target),
            status ? "" : ": ");
    cli_put(stderr, slice_str(text));
    fprintf(stderr, "%s\n", remote_target_hint(&p->target, status, e->code));
    return remote_exit_code(status);
}

static void publish_print_one(const struct publish *p, const json_t *one)
{
    if (p->words->json) {
        (void)json_dumpf(one, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        cli_put(stdout, slice_str(cli_text_of(one, "id")));
        putchar('\n');
    }
}

/* False: that was not the answer of a broker. */
static bool publish_print(const struct publish *p)
{
    size_t i;
    json_t *one, *doc = json_loadb(p->answer.data ? p->answer.data : "", p->answer.len, 0, NULL);
    bool good = json_is_array(doc) || *cli_text_of(doc, "id");
    if (json_is_array(doc)) {
        json_array_foreach(doc, i, one)
        {
            publish_print_one(p, one);
        }
    } else if (good) {
        publish_print_one(p, doc);
    }
    json_decref(doc);
    (void)fflush(stdout); /* what could not be written shows at the end */
    return good;
}

/* Refused for what it is: nothing of it was stored, and nothing of it will be. */
static bool publish_is_final(int code)
{
    return code == EX_DATAERR || code == EX_NOPERM;
}

/* Sends it, prints what came of it. `lenient`: a refusal for good is not told.
 * Answers the exit code. */
static int publish_send(struct publish *p, struct slice body, const char *type, const char *at,
                        bool lenient)
{
    struct http_fetch_result res;
    struct err e = {0};
    struct remote_target *t = &p->target;
    strbuf_reset(&p->answer);
    t->headers[t->header_count] =
        (struct http_client_header){slice_str("Content-Type"), slice_str(type)};
    struct http_fetch_request rq = remote_target_request(t, "POST", p->url.data);
    rq.header_count++;
    rq.body = body;
    rq.on_body = publish_on_body;
    rq.ctx = p;
    (void)http_fetch_run(p->fetch, &rq, &res, &e);
    int code = res.status ? remote_exit_code(res.status) : EX_UNAVAILABLE;
    if (code == 0 && !e.code && publish_print(p)) {
        return EX_OK;
    }
    if (code == 0) {
        code = e.code ? EX_TEMPFAIL : EX_PROTOCOL;
        if (!e.code) {
            (void)err_set(&e, UV_EPROTO, "what answers there is no broker");
        }
        (void)publish_failed(p, at, 0, &e);
        return code;
    }
    if (!res.status && e.code != UV_ENOTCONN && e.code != UV_EACCES && e.code != UV_EINVAL) {
        code = EX_TEMPFAIL; /* it may have been stored */
    }
    if (!lenient || !publish_is_final(code)) {
        (void)publish_failed(p, at, res.status, &e);
    }
    return code;
}

/* ---------------------------------------------------------------- one event */

static int publish_put_url(struct publish *p, const char *topic)
{
    const struct publish_words *w = p->words;
    struct strbuf name;
    strbuf_init(&name, HTTP_CLIENT_URL_MAX_BYTES);
    int rc = strbuf_append(&p->url, p->target.url.data, p->target.url.len);
    rc = rc || !topic ? rc : remote_put_param(&p->url, slice_str("topic"), slice_str(topic));
    rc = rc || !w->type ? rc : remote_put_param(&p->url, slice_str("type"), slice_str(w->type));
    rc = rc || !w->key ? rc : remote_put_param(&p->url, slice_str("key"), slice_str(w->key));
    rc = rc || !w->ttl ? rc : remote_put_param(&p->url, slice_str("ttl"), slice_str(w->ttl));
    rc = rc || !w->expires ? rc
                           : remote_put_param(&p->url, slice_str("expires"), slice_str(w->expires));
    for (size_t i = 0; i < w->attr_count && rc == 0; i++) {
        const char *equals = strchr(w->attrs[i], '='); /* publish_check_words() saw to it */
        strbuf_reset(&name);
        rc = strbuf_printf(&name, "attr.%.*s", (int)(equals - w->attrs[i]), w->attrs[i]);
        rc = rc ? rc : remote_put_param(&p->url, strbuf_slice(&name), slice_str(equals + 1));
    }
    strbuf_clear(&name);
    return rc ? options_refuse(&publish_options, "--attr", "all of it is too long for one URL") : 0;
}

static int publish_event(struct publish *p, const char *data)
{
    static const char type[] = "text/plain; charset=utf-8";
    struct strbuf text;
    if (data && strcmp(data, "-") != 0) {
        return publish_send(p, slice_str(data), type, "", false);
    }
    strbuf_init(&text, DATA_MAX_BYTES);
    int rc = read_file(NULL, &text), code = EX_NOINPUT;
    if (rc) {
        fprintf(stderr, "tidegate publish: standard input: %s\n",
                rc == UV_ENOBUFS ? "larger than 64 MiB" : uv_strerror(rc));
    } else {
        code = publish_send(p, strbuf_slice(&text), type, "", false);
    }
    strbuf_clear(&text);
    return code;
}

/* ---------------------------------------------------------------- lines */

/* Bytes of the first complete lines of `s`, at most `most` of them; `*lines` says how many. At the end
 * of the input the rest is a line, too. */
static size_t publish_cut(struct slice s, size_t most, bool at_end, size_t *lines)
{
    size_t n = 0;
    *lines = 0;
    while (*lines < most && n < s.n) {
        const char *lf = memchr(s.p + n, '\n', s.n - n);
        if (!lf && !at_end) {
            break;
        }
        n = lf ? (size_t)(lf - s.p) + 1 : s.n;
        ++*lines;
    }
    return n;
}

static bool publish_is_blank(struct slice s)
{
    json_text_skip(&s);
    return s.n == 0;
}

/* `n` bytes, `lines` lines. What is refused as a whole is sent line by line, so that the line can be
 * named: nothing of it was stored. */
static int publish_lines(struct publish *p, struct slice s, size_t lines)
{
    static const char type[] = "application/x-ndjson";
    char at[40];
    int code = EX_OK;
    snprintf(at, sizeof at, "line %" PRIu64 ": ", p->line);
    if (publish_is_blank(s)) {
        p->line += lines;
        return EX_OK;
    }
    code = publish_send(p, s, type, at, lines > 1);
    if (!publish_is_final(code) || lines == 1) {
        p->line += lines;
        return code;
    }
    code = EX_OK;
    while (s.n && code == 0) {
        size_t n = publish_cut(s, 1, true, &lines);
        code = publish_lines(p, slice_of(s.p, n), 1); /* lines == 1: no deeper */
        s = slice_of(s.p + n, s.n - n);
    }
    return code;
}

/* What is there. 0: more may come; 1: it has ended; else the exit code after a message. */
static int publish_read(struct publish *p)
{
    ssize_t n = -1;
    if (strbuf_reserve(&p->input, CHUNK_BYTES) == 0) {
        do {
            n = read(STDIN_FILENO, p->input.data + p->input.len, CHUNK_BYTES);
        } while (n < 0 && errno == EINTR);
        p->input.len += n > 0 ? (size_t)n : 0;
        if (n >= 0) {
            return n == 0;
        }
        fprintf(stderr, "tidegate publish: standard input: %s\n", strerror(errno));
    } else {
        fprintf(stderr, "tidegate publish: line %" PRIu64 ": larger than 64 MiB\n", p->line);
    }
    return EX_NOINPUT;
}

static int publish_stream(struct publish *p)
{
    int code = EX_OK;
    bool at_end = false;
    p->line = 1;
    while (code == 0 && !at_end) {
        int rc = publish_read(p);
        size_t lines;
        at_end = rc == 1;
        code = rc > 1 ? rc : EX_OK;
        for (size_t n; code == 0 && (n = publish_cut(strbuf_slice(&p->input), BATCH_LINES, at_end,
                                                     &lines)) > 0;) {
            code = publish_lines(p, slice_of(p->input.data, n), lines);
            strbuf_consume(&p->input, n);
        }
    }
    return code;
}

/* ---------------------------------------------------------------- words */

/* 0, or the exit code after a message. */
static int publish_check_words(const struct publish_words *w, char **rest, size_t count)
{
    int code =
        remote_check_pairs(&publish_options, "--attr", "NAME=VALUE", w->attrs, w->attr_count);
    if (code) {
        return code;
    }
    if (w->ndjson && (count || w->type || w->key || w->ttl || w->expires || w->attr_count)) {
        return options_refuse(&publish_options, count ? rest[0] : "--ndjson",
                              "with --ndjson each line says its topic, type, key, attributes, and "
                              "when it expires");
    }
    return w->ndjson || count ? 0
                              : options_refuse(&publish_options, "TOPIC",
                                               "a topic, or --ndjson, "
                                               "was expected");
}

int remote_publish(char **words, size_t n)
{
    char *rest[2] = {NULL, NULL}; /* topic, data */
    size_t count = 2;
    struct publish_words w = {.json = false};
    struct publish p = {.words = &w};
    int code = options_parse(&publish_options, &w, words, n, rest, &count);
    if (code || w.remote.help) {
        return code ? code : CLI_HELP;
    }
    code = publish_check_words(&w, rest, count);
    if (code) {
        return code;
    }
    strbuf_init(&p.url, HTTP_CLIENT_URL_MAX_BYTES);
    strbuf_init(&p.answer, ANSWER_MAX_BYTES);
    strbuf_init(&p.input, DATA_MAX_BYTES);
    code = remote_target_open(&publish_options, &w.remote, &p.target);
    p.fetch = code ? NULL : http_fetch_new();
    if (code == 0) {
        code = p.fetch ? publish_put_url(&p, rest[0]) : EX_OSERR;
    }
    if (code == 0) {
        code = w.ndjson ? publish_stream(&p) : publish_event(&p, rest[1]);
    }
    http_fetch_free(p.fetch);
    remote_target_clear(&p.target);
    strbuf_clear(&p.url);
    strbuf_clear(&p.answer);
    strbuf_clear(&p.input);
    return code;
}
