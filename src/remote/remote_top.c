#include "remote/remote_top.h"

#include "base/alloc.h"
#include "cli/cli_options.h"
#include "remote/client/metrics_page.h"
#include "remote/client/remote_text.h"
#include "remote/client/remote_wait.h"
#include "remote/remote_admin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>
#include <uv.h>

enum { WORKERS_MAX = 256 };

const char remote_top_details[] =
    "Reads /metrics once a second and prints rates and figures: in place on a terminal, else one block\n"
    "after the other. Ctrl-C ends it.\n"
    "\n"
    "Exit codes: 0; 69 no broker answers; 64 wrong arguments; 78 a wrong configuration.\n";

struct top_words {
    struct remote_admin_words admin; /* first: REMOTE_ADMIN_ROWS */
    uint64_t count;
    double every_s;
};

const struct option_row remote_top_rows[] = {
    OPTION_ROW("-n", "N", "end after N times", OPTION_COUNT, offsetof(struct top_words, count),
               .min = 1, .max = 1e9),
    OPTION_ROW("--every", "SECONDS", "how often; without it: 1", OPTION_REAL,
               offsetof(struct top_words, every_s), .min = 0.1, .max = 3600),
    OPTION_ROW("--json", NULL, "print one line of JSON each time", OPTION_FLAG,
               offsetof(struct top_words, admin.json)),
    REMOTE_PLACE_ROWS,
    {.name = NULL},
};
static const struct options top_options = {"tidegate", "top", remote_top_rows};

/* What is shown, for all workers and for each. Rates are of counters. */
static const struct {
    const char *title, *json, *name; /* name: behind "tidegate_" or "tidegate_worker_" */
    bool rate, of_worker;            /* the second: has a column for each worker */
} top_figures[] = {
    {"streams", "streams", "subscribers", false, true},
    {"behind", "behind", "subscribers_behind", false, true},
    {"connections", "connections", "connections", false, false},
    {"opened/s", "opened_per_s", "subscribed_total", true, true},
    {"published/s", "published_per_s", "events_published_total", true, true},
    {"delivered/s", "delivered_per_s", "events_delivered_total", true, true},
    {"sent B/s", "sent_bytes_per_s", "sent_bytes_total", true, true},
    {"gaps/s", "gaps_per_s", "gaps_total", true, false},
    {"denied/s", "denied_per_s", "refused_denied_total", true, false},
    {"refused for now/s", "refused_for_now_per_s", "refused_transient_total", true, false},
    {"bad requests/s", "bad_requests_per_s", "refused_invalid_total", true, false},
};
enum { TOP_FIGURES = sizeof top_figures / sizeof *top_figures };

struct top_page {
    char *text; /* owned; NULL: none yet */
    uint64_t at_ns;
};

struct top {
    const struct top_words *words;
    struct remote_admin admin;
    struct top_page now, before;
    bool terminal;
};

/* ---------------------------------------------------------------- figures */

static double top_value(const struct top *t, size_t figure, const char *prefix, const char *label,
                        bool *found)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s", prefix, top_figures[figure].name);
    double value = metrics_page_sum(t->now.text, name, label, found);
    if (top_figures[figure].rate) {
        bool had = false;
        double was = t->before.text ? metrics_page_sum(t->before.text, name, label, &had) : 0;
        double seconds = (double)(t->now.at_ns - t->before.at_ns) / 1e9;
        value =
            had && value >= was && seconds > 0 ? (value - was) / seconds : 0; /* else: restarted */
    }
    return value;
}

static void top_print_all(const struct top *t)
{
    for (size_t i = 0; i < TOP_FIGURES; i++) {
        bool found;
        double value = top_value(t, i, "tidegate_", NULL, &found);
        printf("%-18s %14.*f%s", top_figures[i].title, top_figures[i].rate && value < 100 ? 1 : 0,
               value,
               i % 2 && i + 1 < TOP_FIGURES ? "\n"
               : i + 1 < TOP_FIGURES        ? "      "
                                            : "\n");
    }
}

/* A line for each worker, where there are several. */
static void top_print_workers(const struct top *t)
{
    for (unsigned w = 1; w <= WORKERS_MAX; w++) {
        char label[32];
        bool found;
        snprintf(label, sizeof label, "worker=\"%u\"", w);
        (void)metrics_page_sum(t->now.text, "tidegate_worker_up", label, &found);
        if (!found) {
            return;
        }
        if (w == 1) {
            printf("\n%6s", "WORKER");
            for (size_t i = 0; i < TOP_FIGURES; i++) {
                if (top_figures[i].of_worker) {
                    printf(" %11s", top_figures[i].title);
                }
            }
            putchar('\n');
        }
        printf("%6u", w);
        for (size_t i = 0; i < TOP_FIGURES; i++) {
            if (top_figures[i].of_worker) {
                printf(" %11.0f", top_value(t, i, "tidegate_worker_", label, &found));
            }
        }
        putchar('\n');
    }
}

static void top_print_json(const struct top *t)
{
    putchar('{');
    for (size_t i = 0; i < TOP_FIGURES; i++) {
        bool found;
        printf("%s\"%s\":%.3f", i ? "," : "", top_figures[i].json,
               top_value(t, i, "tidegate_", NULL, &found));
    }
    printf("}\n");
}

/* ---------------------------------------------------------------- the run */

/* 0, or the exit code after a message. */
static int top_read(struct top *t)
{
    struct remote_answer answer;
    int code = remote_admin_ask(&t->admin, "GET", "/metrics", 0, &answer);
    if (code == 0) {
        free(t->before.text);
        t->before = t->now;
        t->now = (struct top_page){.text = answer.text, .at_ns = uv_hrtime()};
        answer.text = NULL;
    }
    remote_answer_clear(&answer);
    return code;
}

static void top_print(const struct top *t)
{
    if (t->words->admin.json) {
        top_print_json(t);
    } else {
        if (t->terminal) {
            printf("\033[H\033[2J"); /* to the first line; clear */
        }
        top_print_all(t);
        top_print_workers(t);
        if (!t->terminal) {
            putchar('\n');
        }
    }
    (void)fflush(stdout); /* what could not be written shows at the end */
}

static int top_run(struct top *t)
{
    const struct top_words *w = t->words;
    uint64_t wait_ms = (uint64_t)(w->every_s * 1000);
    int code = top_read(t);
    for (uint64_t i = 0; code == 0 && (w->count == 0 || i < w->count); i++) {
        if (remote_wait(wait_ms)) { /* rates need two readings */
            break;
        }
        code = top_read(t);
        if (code == 0) {
            top_print(t);
        }
        code = code ? code : ferror(stdout) ? EX_IOERR : 0;
    }
    return code;
}

int remote_top(char **words, size_t n)
{
    struct top_words w = {.every_s = 1};
    struct top t = {.words = &w};
    int code = remote_admin_words(&top_options, &w.admin, words, n, NULL, NULL);
    if (code) {
        return code;
    }
    t.terminal = isatty(STDOUT_FILENO) == 1;
    remote_wait_begin();
    code = remote_admin_open(&top_options, &w.admin, &t.admin);
    code = code ? code : top_run(&t);
    free(t.now.text);
    free(t.before.text);
    remote_admin_close(&t.admin);
    return code;
}
