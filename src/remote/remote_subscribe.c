#include "remote/remote_subscribe.h"

#include "base/decimal.h"
#include "base/text/json_text.h"
#include "cli/cli_options.h"
#include "cli/cli_text.h"
#include "remote/client/remote_target.h"
#include "remote/client/remote_wait.h"
#include "remote/client/sse_reader.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <sysexits.h>
#include <uv.h>

enum {
    TOPICS_MAX = 64,
    PARAMS_MAX = 32,
    EVENT_MAX_BYTES = 64 * 1024 * 1024,
    PROBLEM_MAX_BYTES = 64 * 1024,
    RETRY_MS = 3000, /* until the stream says otherwise */
    RETRY_MAX_MS = 60000,
    RETRY_MIN_MS = 100, /* whatever the stream says */
};

const char remote_subscribe_details[] =
    "Prints one line for each event, ID TYPE DATA; further lines of the data are indented. Without\n"
    "TOPIC the policy decides. Patterns: * stands for one segment, ** at the end for all that follow.\n"
    "\n"
    "It stays connected: after an interruption it resumes behind the last event that it has printed,\n"
    "after as long a wait as the broker asks for. Losses and interruptions are told on stderr,\n"
    "and where the newest events of topics end that a stream began with (live).\n"
    "The objects of --json have id, event and data (a string), also those of gap, live and revoked.\n"
    "\n"
    "Exit codes: 0 -n events came, --until is reached, the broker ended the stream for good, or a\n"
    "signal ended it; 75 the time of --timeout is over before -n events came; 77 the policy denies\n"
    "the subscription; 65 the broker cannot use the request; 69 no broker answers (at the first\n"
    "attempt; later it tries again); 76 what answers is no broker; 74 the events could not be\n"
    "written; 64 wrong arguments.\n";

struct subscribe_words {
    struct remote_words remote; /* first: REMOTE_OPTION_ROWS */
    const char *from, *since, *until;
    const char *params[PARAMS_MAX];
    size_t param_count;
    uint64_t limit;
    double timeout_s;
    bool json, quiet;
};

const struct option_row remote_subscribe_rows[] = {
    OPTION_ROW("--from", "ID|start|now",
               "begin behind that event, with the oldest one that is stored, or with the next one "
               "(the default)",
               OPTION_TEXT, offsetof(struct subscribe_words, from)),
    OPTION_ROW("--since", "TIME",
               "begin with the events from that time on: 2026-11-30T12:00:00Z, Unix seconds, or "
               "-15m, -2h, -3d",
               OPTION_TEXT, offsetof(struct subscribe_words, since)),
    OPTION_ROW("--until", "TIME|ID", "end with the last event up to then", OPTION_TEXT,
               offsetof(struct subscribe_words, until)),
    OPTION_ROW("-n", "N", "end after N events", OPTION_COUNT,
               offsetof(struct subscribe_words, limit), .min = 1, .max = 1e15),
    OPTION_ROW("--timeout", "SECONDS", "end after that time", OPTION_REAL,
               offsetof(struct subscribe_words, timeout_s), .min = 0.001, .max = 1e9),
    OPTION_ROW("--json", NULL, "print each event as one line of JSON", OPTION_FLAG,
               offsetof(struct subscribe_words, json)),
    OPTION_ROW("--query", "NAME=VALUE",
               "a parameter for the policy, such as a filter; repeat it for several", OPTION_LIST,
               offsetof(struct subscribe_words, params), .max = PARAMS_MAX,
               .count_at = offsetof(struct subscribe_words, param_count), .many = "parameters"),
    OPTION_ROW("--quiet", NULL, "say nothing about connecting and reconnecting", OPTION_FLAG,
               offsetof(struct subscribe_words, quiet)),
    REMOTE_OPTION_ROWS,
    {.name = NULL},
};
static const struct options subscribe_options = {"tidegate", "subscribe", remote_subscribe_rows};

struct subscribe {
    const struct subscribe_words *words;
    char **topics;
    size_t topic_count;
    struct remote_target target;
    struct http_fetch *fetch;
    struct sse_reader reader;
    struct strbuf url, line, problem;
    uint64_t retry_ms, count, end_ms; /* end_ms 0: never */
    unsigned failures;                /* in a row */
    bool connected, was_connected;    /* the stream that is read has begun; one ever has */
    bool granted;                     /* it has a position, or an event */
    bool unwritable, unreadable, timed_out;
    bool ended; /* at the end of the part of history that was asked for */
};

__attribute__((format(printf, 1, 2))) static void subscribe_note(const char *fmt, ...)
{
    char text[1400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fprintf(stderr, "tidegate subscribe: ");
    cli_put(stderr, slice_str(text));
    fputc('\n', stderr);
}

/* ---------------------------------------------------------------- events */

static int subscribe_put_json(struct strbuf *out, const struct sse_event *ev)
{
    int rc = strbuf_append_str(out, "{\"id\":");
    rc = rc ? rc : json_text_quote(out, ev->id);
    rc = rc ? rc : strbuf_append_str(out, ",\"event\":");
    rc = rc ? rc : json_text_quote(out, ev->type);
    rc = rc ? rc : strbuf_append_str(out, ",\"data\":");
    rc = rc ? rc : json_text_quote(out, ev->data);
    return rc ? rc : strbuf_append_str(out, "}\n");
}

static void subscribe_print(struct subscribe *s, const struct sse_event *ev)
{
    strbuf_reset(&s->line);
    if (s->words->json) {
        s->unwritable |= subscribe_put_json(&s->line, ev) != 0 ||
                         fwrite(s->line.data, 1, s->line.len, stdout) != s->line.len;
    } else {
        cli_put(stdout, ev->id);
        putchar(' ');
        cli_put(stdout, ev->type);
        putchar(' ');
        const char *p = ev->data.p, *end = p + ev->data.n;
        for (const char *lf; (lf = memchr(p, '\n', (size_t)(end - p))) != NULL; p = lf + 1) {
            cli_put(stdout, slice_of(p, (size_t)(lf - p)));
            printf("\n    ");
        }
        cli_put(stdout, slice_of(p, (size_t)(end - p)));
        putchar('\n');
    }
    s->unwritable |= fflush(stdout) != 0 || ferror(stdout);
}

/* In words, what was lost. */
static void subscribe_tell_gap(const json_t *doc)
{
    static const char *const words[][2] = {
        {"expired", "retention has removed events after it"},
        {"compacted", "of those that came meanwhile the newest of each topic follows"},
        {"lagged", "this client was too far behind, and goes on at the newest event"},
        {"reset", "this store does not know that position: it was restored or replaced, or the "
                  "position is of another broker"},
        {"unknown", "that is not the id of an event"}};
    const char *reason = cli_text_of(doc, "reason"), *what = reason;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        what = strcmp(reason, words[i][0]) == 0 ? words[i][1] : what;
    }
    subscribe_note("GAP: events may be missing after %s: %s; goes on after %s",
                   cli_text_of(doc, "requested"), what, cli_text_of(doc, "resumed_from"));
}

/* The last event of a stream that ends by itself: its id says so. */
static bool subscribe_is_end(const struct sse_event *ev)
{
    static const char end[] = "-end";
    const size_t n = sizeof end - 1;
    return ev->id.n > n && memcmp(ev->id.p + ev->id.n - n, end, n) == 0;
}

/* What the broker says about the stream itself. True: it is no event of a topic. */
static bool subscribe_take_signal(struct subscribe *s, const struct sse_event *ev)
{
    if (subscribe_is_end(ev)) {
        s->ended = true;
        return true;
    }
    bool position = slice_is(ev->type, "position"), gap = slice_is(ev->type, "gap"),
         live = slice_is(ev->type, "live"), revoked = slice_is(ev->type, "revoked");
    if (!position && !gap && !live && !revoked) {
        return false;
    }
    json_t *doc = json_loadb(ev->data.p, ev->data.n, 0, NULL);
    position = position && *cli_text_of(doc, "position");
    live = live && slice_is(ev->id, cli_text_of(doc, "position"));
    gap = gap && *cli_text_of(doc, "resumed_from");
    revoked = revoked && *cli_text_of(doc, "reason");
    if (gap) {
        subscribe_tell_gap(doc);
    } else if (live) {
        subscribe_note("live: the newest event of each topic has come, now those that follow");
    } else if (revoked) {
        subscribe_note("the subscription was withdrawn: %s", cli_text_of(doc, "reason"));
    }
    json_decref(doc);
    if ((gap || live || revoked) && s->words->json) {
        subscribe_print(s, ev);
    }
    return position || gap || live || revoked;
}

static void subscribe_on_event(void *ctx, const struct sse_event *ev)
{
    struct subscribe *s = ctx;
    if (s->words->limit && s->count >= s->words->limit) {
        return; /* what has come in the same piece */
    }
    s->granted = true;
    if (!subscribe_take_signal(s, ev)) {
        subscribe_print(s, ev);
        s->count++;
    }
}

static void subscribe_on_retry(void *ctx, uint64_t ms)
{
    struct subscribe *s = ctx;
    s->retry_ms = ms < RETRY_MIN_MS ? RETRY_MIN_MS : ms;
}

/* The reason of a temporary refusal: a stream of nothing else, which ends soon. */
static void subscribe_on_comment(void *ctx, struct slice text)
{
    const struct subscribe *s = ctx;
    if (!s->granted && !slice_is(text, "heartbeat") && text.n > 1) {
        subscribe_note("refused for now: %.*s", (int)text.n, text.p);
    }
}

/* ---------------------------------------------------------------- one stream */

static bool subscribe_done(const struct subscribe *s)
{
    return s->unwritable || s->unreadable || s->ended ||
           (s->words->limit && s->count >= s->words->limit);
}

static bool subscribe_on_body(void *ctx, struct http_fetch *f, struct slice bytes)
{
    struct subscribe *s = ctx;
    if (!remote_is_stream(f)) {
        size_t room = s->problem.max - s->problem.len;
        return strbuf_append(&s->problem, bytes.p, bytes.n < room ? bytes.n : room) == 0 &&
               bytes.n < room;
    }
    if (!s->connected) {
        s->connected = s->was_connected = true;
        s->failures = 0;
        if (!s->words->quiet) {
            subscribe_note("connected to %s", remote_target_text(&s->target));
        }
    }
    s->unreadable = sse_reader_feed(&s->reader, bytes) != 0;
    return !subscribe_done(s);
}

static bool subscribe_stop(void *ctx)
{
    struct subscribe *s = ctx;
    s->timed_out = s->end_ms && uv_hrtime() / 1000000 >= s->end_ms;
    return s->timed_out || remote_wait(0);
}

static int subscribe_put_url(struct subscribe *s)
{
    const struct subscribe_words *w = s->words;
    struct slice last = sse_reader_last_id(&s->reader);
    strbuf_reset(&s->url);
    int rc = strbuf_append(&s->url, s->target.url.data, s->target.url.len);
    for (size_t i = 0; i < s->topic_count && rc == 0; i++) {
        rc = remote_put_param(&s->url, slice_str("topic"), slice_str(s->topics[i]));
    }
    for (size_t i = 0; i < w->param_count && rc == 0; i++) {
        const char *equals = strchr(w->params[i], '='); /* subscribe_check_words() saw to it */
        rc = remote_put_param(&s->url, slice_of(w->params[i], (size_t)(equals - w->params[i])),
                              slice_str(equals + 1));
    }
    if (rc == 0 && w->since) {
        rc = remote_put_param(&s->url, slice_str("since"), slice_str(w->since));
    }
    if (rc == 0 && w->until) {
        rc = remote_put_param(&s->url, slice_str("until"), slice_str(w->until));
    }
    if (rc == 0 && last.n) {
        rc = remote_put_param(&s->url, slice_str("last_event_id"), last);
    } else if (rc == 0 && w->from && strcmp(w->from, "start") == 0) {
        rc = remote_put_param(&s->url, slice_str("last_event_id"), slice_str("earliest"));
    }
    return rc;
}

/* Says what went wrong. 0: try again in `*wait_ms`; else the exit code. */
static int subscribe_failed(struct subscribe *s, const struct http_fetch_result *res,
                            const struct err *e, uint64_t *wait_ms)
{
    char text[1200];
    uint64_t seconds = 0;
    bool refused = res->status && !remote_is_stream(s->fetch);
    if (s->connected && !refused) {
        snprintf(text, sizeof text, "%s%s",
                 e->code ? "the connection was lost: " : "the stream has ended", e->text);
    } else if (!refused) {
        snprintf(text, sizeof text, "%s", e->code ? e->text : "no answer");
    } else if (res->status == 200) {
        snprintf(text, sizeof text, "what answers there is no event stream: is it a broker's URL?");
    } else {
        remote_problem(res->status, strbuf_slice(&s->problem), text, sizeof text);
    }
    int code = !refused             ? EX_TEMPFAIL
               : res->status == 200 ? EX_PROTOCOL
                                    : remote_exit_code(res->status);
    if (!s->was_connected && code == EX_TEMPFAIL && !refused) {
        code = EX_UNAVAILABLE; /* a mistake, more often than a broker that will be back */
    }
    if (code != EX_TEMPFAIL) {
        subscribe_note("%s: %s%s", remote_target_text(&s->target), text,
                       remote_target_hint(&s->target, res->status, e->code));
        return code;
    }
    *wait_ms = s->retry_ms << (s->failures > 6 ? 6 : s->failures);
    *wait_ms = *wait_ms > RETRY_MAX_MS ? RETRY_MAX_MS : *wait_ms;
    if (decimal_parse(http_fetch_header(s->fetch, "Retry-After"), 24 * 3600, &seconds) && refused) {
        *wait_ms = seconds * 1000;
    }
    s->failures += !s->connected;
    if (!s->words->quiet) {
        subscribe_note("%s; tries again in %.1f s", text, (double)*wait_ms / 1000);
    }
    return 0;
}

/* It was given up because it does not end, and is no stream. */
static bool subscribe_is_page(const struct subscribe *s)
{
    return s->problem.len > 0 && !subscribe_done(s) && !s->timed_out;
}

/* One connection. True: another is to follow in `*wait_ms`; else `*code` is the exit code. */
static bool subscribe_once(struct subscribe *s, uint64_t *wait_ms, int *code)
{
    struct http_fetch_result res;
    struct err e = {0};
    *wait_ms = 0;
    *code = EX_OK;
    if (subscribe_put_url(s)) {
        *code = options_refuse(&subscribe_options, "TOPIC", "too many, or too long");
        return false;
    }
    s->connected = false;
    s->granted = false;
    strbuf_reset(&s->problem);
    sse_reader_restart(&s->reader);
    struct http_fetch_request rq = remote_target_request(&s->target, "GET", s->url.data);
    rq.on_body = subscribe_on_body;
    rq.stop = subscribe_stop;
    rq.ctx = s;
    (void)http_fetch_run(s->fetch, &rq, &res, &e);
    if (s->unwritable) {
        subscribe_note("the events could not be written");
        *code = EX_IOERR;
    } else if (s->unreadable) {
        subscribe_note("an event of more than %d MiB: it cannot be read",
                       (int)(EVENT_MAX_BYTES >> 20));
        *code = EX_PROTOCOL;
    } else if (res.stopped ? subscribe_is_page(s) : res.status != 204) { /* 204: for good */
        *code = subscribe_failed(s, &res, &e, wait_ms);
        return *code == 0;
    }
    return false;
}

static int subscribe_run(struct subscribe *s)
{
    uint64_t wait_ms;
    int code;
    while (subscribe_once(s, &wait_ms, &code)) {
        uint64_t now = uv_hrtime() / 1000000;
        if (s->end_ms && now + wait_ms >= s->end_ms) {
            wait_ms = s->end_ms > now ? s->end_ms - now : 0;
            s->timed_out = true;
        }
        if (remote_wait(wait_ms) || s->timed_out) {
            break;
        }
    }
    if (code == 0 && s->timed_out && s->words->limit && s->count < s->words->limit) {
        subscribe_note("%" PRIu64 " of %" PRIu64 " events came in time", s->count, s->words->limit);
        code = EX_TEMPFAIL;
    }
    return code;
}

/* ---------------------------------------------------------------- words */

/* 0, or the exit code after a message. */
static int subscribe_check_words(const struct subscribe_words *w)
{
    uint64_t id;
    if (w->from && strcmp(w->from, "start") != 0 && strcmp(w->from, "now") != 0 &&
        !decimal_parse(slice_str(w->from), UINT64_C(1) << 53, &id)) {
        return options_refuse(&subscribe_options, "--from",
                              "%s: the id of an event, start or now was expected", w->from);
    }
    return remote_check_pairs(&subscribe_options, "--query", "NAME=VALUE", w->params,
                              w->param_count);
}

/* 0, or the exit code after a message. */
static int subscribe_open(struct subscribe *s)
{
    const char *from = s->words->from;
    int code = remote_target_open(&subscribe_options, &s->words->remote, &s->target);
    if (code) {
        return code;
    }
    s->target.headers[s->target.header_count++] =
        (struct http_client_header){slice_str("Accept"), slice_str("text/event-stream")};
    s->fetch = http_fetch_new();
    bool id = from && *from >= '0' && *from <= '9';
    return s->fetch && !(id && sse_reader_set_last_id(&s->reader, slice_str(from))) ? 0 : EX_OSERR;
}

int remote_subscribe(char **words, size_t n)
{
    static const struct sse_reader_ops ops = {subscribe_on_event, subscribe_on_retry,
                                              subscribe_on_comment};
    char *topics[TOPICS_MAX];
    struct subscribe_words w = {.json = false};
    struct subscribe s = {
        .words = &w, .topics = topics, .topic_count = TOPICS_MAX, .retry_ms = RETRY_MS};
    int code = options_parse(&subscribe_options, &w, words, n, topics, &s.topic_count);
    if (code || w.remote.help) {
        return code ? code : CLI_HELP;
    }
    code = subscribe_check_words(&w);
    if (code) {
        return code;
    }
    s.end_ms = w.timeout_s > 0 ? uv_hrtime() / 1000000 + (uint64_t)(w.timeout_s * 1000) : 0;
    sse_reader_init(&s.reader, &ops, &s, EVENT_MAX_BYTES);
    strbuf_init(&s.url, HTTP_CLIENT_URL_MAX_BYTES);
    strbuf_init(&s.line, 7 * (size_t)EVENT_MAX_BYTES); /* an escape is six bytes */
    strbuf_init(&s.problem, PROBLEM_MAX_BYTES);
    remote_wait_begin();
    code = subscribe_open(&s);
    code = code ? code : subscribe_run(&s);
    http_fetch_free(s.fetch);
    remote_target_clear(&s.target);
    sse_reader_clear(&s.reader);
    strbuf_clear(&s.url);
    strbuf_clear(&s.line);
    strbuf_clear(&s.problem);
    return code;
}
