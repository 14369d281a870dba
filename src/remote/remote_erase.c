#include "remote/remote_erase.h"

#include "cli/cli_text.h"
#include "remote/remote_admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { ERASE_WAIT_MS = 3600000 };

const char remote_erase_details[] =
    "Takes the events that match out of the store, and out of the memory of all workers and brokers on\n"
    "it. Their ids stay used, clients are told nothing, and who replays gets what is left. The broker's\n"
    "log says who ordered what, and how many events it was. Backups, and what clients have received, are\n"
    "out of reach: conf/PRIVACY.md.\n"
    "\n"
    "It first counts, and asks. An erase that ended early is ordered again.\n"
    "\n"
    "  tidegate erase --topic 'crm/**' --where 'attrs.person == \"p1\"' --dry-run\n"
    "\n"
    "Exit codes: 0 done; 1 not confirmed; 65 a wrong topic or filter; 75 it ended early, or another erase\n"
    "is in progress; 69 no broker answers; 64 wrong arguments; 78 a wrong configuration.\n";

struct erase_words {
    struct remote_admin_words admin; /* first: REMOTE_ADMIN_ROWS */
    const char *topic, *where;
    bool dry_run, yes;
};

const struct option_row remote_erase_rows[] = {
    OPTION_ROW("--topic", "PATTERN", "the topic, or a pattern as subscriptions have them",
               OPTION_TEXT, offsetof(struct erase_words, topic)),
    OPTION_ROW("--where", "FILTER",
               "filter text, as in P.filters, without params. Without it: all events of the topic",
               OPTION_TEXT, offsetof(struct erase_words, where)),
    OPTION_ROW("--dry-run", NULL, "count, and show the first 20; erase nothing", OPTION_FLAG,
               offsetof(struct erase_words, dry_run)),
    OPTION_ROW("--yes", NULL, "do not ask", OPTION_FLAG, offsetof(struct erase_words, yes)),
    REMOTE_ADMIN_ROWS,
    {.name = NULL},
};
static const struct options erase_options = {"tidegate", "erase", remote_erase_rows};

static void erase_print(FILE *out, const json_t *doc)
{
    bool dry = json_is_true(json_object_get(doc, "dry_run"));
    long long matched = cli_count_of(doc, "matched"), examined = cli_count_of(doc, "examined");
    long long n = dry ? matched : cli_count_of(doc, "erased");
    const json_t *list = json_object_get(doc, "events"), *one;
    size_t i;
    if (dry) {
        json_array_foreach(list, i, one)
        {
            fprintf(out, "%s  ", cli_text_of(one, "id"));
            cli_put(out, slice_str(cli_text_of(one, "topic")));
            putc('\n', out);
        }
        if (matched > (long long)json_array_size(list)) {
            fprintf(out, "and %lld more\n", matched - (long long)json_array_size(list));
        }
    }
    fprintf(out, "%lld event%s %s erased; %lld examined\n", n, cli_plural(n),
            dry      ? "would be"
            : n == 1 ? "was"
                     : "were",
            examined);
}

/* 0, or the exit code after a message. `answer` is to be cleared in any case. */
static int erase_ask(struct remote_admin *a, const struct erase_words *w, bool dry_run,
                     struct remote_answer *answer)
{
    json_t *order = json_pack("{s:s, s:s, s:b}", "topic", w->topic, "where",
                              w->where ? w->where : "", "dry_run", dry_run);
    char *text = order ? json_dumps(order, JSON_COMPACT) : NULL;
    json_decref(order);
    *answer = (struct remote_answer){.status = 0};
    if (!text) {
        return options_refuse(&erase_options, "--topic or --where", "is not UTF-8");
    }
    const struct backend_request rq = {.method = "POST",
                                       .target = "/erase",
                                       .type = slice_str("application/json"),
                                       .body = slice_str(text),
                                       .timeout_ms = ERASE_WAIT_MS};
    remote_admin_send(a, &rq, answer);
    free(text);
    return answer->status == 200 && answer->doc ? 0 : remote_admin_failed(a, answer);
}

/* 0: go on; else the exit code. */
static int erase_confirm(struct remote_admin *a, const struct erase_words *w)
{
    char line[16] = "";
    struct remote_answer answer;
    int code = erase_ask(a, w, true, &answer);
    if (code == 0) {
        FILE *out = w->admin.json ? stderr : stdout; /* the document is alone there */
        erase_print(out, answer.doc);
        fprintf(out, "Erase them, for good? Type yes: ");
        (void)fflush(out);
        bool yes = fgets(line, sizeof line, stdin) && strcmp(line, "yes\n") == 0;
        if (!yes) {
            fprintf(stderr, "tidegate erase: nothing was erased\n");
        }
        code = yes ? 0 : EXIT_FAILURE;
    }
    remote_answer_clear(&answer);
    return code;
}

static int erase_run(struct remote_admin *a, const struct erase_words *w)
{
    struct remote_answer answer;
    int code = w->dry_run || w->yes ? 0 : erase_confirm(a, w);
    if (code) {
        return code;
    }
    code = erase_ask(a, w, w->dry_run, &answer);
    if (code == 0 && w->admin.json) {
        printf("%s", answer.text);
    } else if (code == 0) {
        erase_print(stdout, answer.doc);
    }
    remote_answer_clear(&answer);
    return code;
}

int remote_erase(char **words, size_t n)
{
    struct erase_words w = {.yes = false};
    struct remote_admin a = {.loop = NULL};
    int code = remote_admin_words(&erase_options, &w.admin, words, n, NULL, NULL);
    if (code) {
        return code;
    }
    if (!w.topic) {
        return options_refuse(&erase_options, "--topic", "a topic or pattern was expected");
    }
    if (!w.dry_run && !w.yes && !isatty(STDIN_FILENO)) {
        return options_refuse(&erase_options, "--yes",
                              "there is no terminal to ask at: say --yes, or --dry-run");
    }
    code = remote_admin_open(&erase_options, &w.admin, &a);
    code = code ? code : erase_run(&a, &w);
    remote_admin_close(&a);
    return code;
}
