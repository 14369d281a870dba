#include "remote/remote_policy.h"

#include "cli/cli_text.h"
#include "remote/client/remote_text.h"
#include "remote/remote_admin.h"

#include <stdio.h>
#include <string.h>

enum { LOAD_TIMEOUT_MS = 120000 };

const char remote_reload_details[] =
    "The broker loads the policy file again. If it does not load, the one in effect stays, and what is\n"
    "wrong is printed. It takes effect in all workers, or in none. Open streams are asked about again.\n"
    "\n"
    "Exit codes: 0 it is in effect, or would be; 65 the policy does not load; 75 another reload runs, or\n"
    "a worker does not answer; 69 no broker answers; 64 wrong arguments; 78 a wrong configuration.\n";

const char remote_rollback_details[] =
    "Puts the policy back into effect that the last reload has replaced, within policy.warm_s.\n"
    "\n"
    "Exit codes: 0 done; 75 there is none to go back to; 69 no broker answers; 64 wrong arguments; 78 a\n"
    "wrong configuration.\n";

struct policy_words {
    struct remote_admin_words admin; /* first: REMOTE_ADMIN_ROWS */
    bool dry_run, force;
};

const struct option_row remote_reload_rows[] = {
    OPTION_ROW("--dry-run", NULL, "load it, ask it about the open streams, say what would change",
               OPTION_FLAG, offsetof(struct policy_words, dry_run)),
    OPTION_ROW("--force", NULL, "also if the file has not changed", OPTION_FLAG,
               offsetof(struct policy_words, force)),
    REMOTE_ADMIN_ROWS,
    {.name = NULL},
};
const struct option_row remote_rollback_rows[] = {REMOTE_ADMIN_ROWS, {.name = NULL}};
static const struct options reload_options = {"tidegate", "reload", remote_reload_rows};
static const struct options rollback_options = {"tidegate", "rollback", remote_rollback_rows};

/* The list `key` of `changes`. */
static void policy_put_names(const char *what, const json_t *changes, const char *verb,
                             const char *key)
{
    size_t i;
    const json_t *name, *list = json_object_get(changes, key);
    if (json_array_size(list) > 0) {
        printf("%s %s:", what, verb);
        json_array_foreach(list, i, name)
        {
            putchar(' ');
            cli_put(stdout, slice_str(json_string_value(name)));
        }
        putchar('\n');
    }
}

/* The sum of what the workers have tried. */
static void policy_put_dry_run(const json_t *workers)
{
    static const char *const names[] = {"asked", "same", "moved", "denied", "unknown"};
    long long sums[5] = {0}, errors = 0;
    size_t i;
    const json_t *w;
    json_array_foreach(workers, i, w)
    {
        const json_t *tried = json_object_get(w, "dry_run");
        errors += cli_count_of(tried, "errors");
        for (size_t k = 0; k < 5; k++) {
            sums[k] += cli_count_of(json_object_get(tried, "streams"), names[k]);
        }
    }
    if (sums[0] || errors) {
        printf("tried on %lld open stream%s: %lld as before, %lld with another subscription, %lld\n"
               "denied, %lld unknown; %lld error%s\n",
               sums[0], cli_plural(sums[0]), sums[1], sums[2], sums[3], sums[4], errors,
               cli_plural(errors));
    }
}

static void policy_print(const json_t *doc)
{
    static const char *const words[][2] = {
        {"reloaded", "reloaded"},
        {"would-reload", "would be reloaded; nothing was changed"},
        {"unchanged", "unchanged: the file is the one in effect (see --force)"},
        {"rolled-back", "rolled back"}};
    const char *result = cli_text_of(doc, "result"), *text = result;
    const json_t *policy = json_object_get(doc, "policy");
    const json_t *previous = json_object_get(doc, "previous");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        text = strcmp(result, words[i][0]) == 0 ? words[i][1] : text;
    }
    printf("policy ");
    remote_put_policy(policy);
    printf(": %s", text);
    if (strcmp(cli_text_of(policy, "version"), cli_text_of(previous, "version")) != 0) {
        printf("\nbefore ");
        remote_put_policy(previous);
    }
    putchar('\n');
    policy_put_dry_run(json_object_get(doc, "workers"));
    for (int k = 0; k < 2; k++) {
        const char *verb = k ? "removed" : "added";
        policy_put_names("filters", json_object_get(doc, "filters"), verb, verb);
        policy_put_names("formats", json_object_get(doc, "formats"), verb, verb);
    }
    policy_put_names("settings", doc, "changed", "settings_changed");
    if (strcmp(result, "unchanged") != 0) {
        const char *mode = cli_text_of(doc, "mode");
        const char *would = strcmp(result, "would-reload") == 0 ? "would be " : "";
        long long streams = cli_count_of(doc, "streams");
        printf("%lld open stream%s: ", streams, cli_plural(streams));
        if (strcmp(mode, "keep") == 0) {
            printf("not asked about again\n");
        } else {
            printf("%s%s\n", would,
                   strcmp(mode, "reconnect") == 0 ? "told to reconnect" : "asked about again");
        }
    }
}

int remote_reload(char **words, size_t n)
{
    struct policy_words w = {.force = false};
    char target[64];
    int code = remote_admin_words(&reload_options, &w.admin, words, n, NULL, NULL);
    snprintf(target, sizeof target, "/policy/reload?dry_run=%d&force=%d", w.dry_run, w.force);
    return code ? code
                : remote_admin_show(&reload_options, &w.admin, "POST", target, LOAD_TIMEOUT_MS,
                                    policy_print, NULL);
}

int remote_rollback(char **words, size_t n)
{
    struct remote_admin_words w = {.json = false};
    int code = remote_admin_words(&rollback_options, &w, words, n, NULL, NULL);
    return code ? code
                : remote_admin_show(&rollback_options, &w, "POST", "/policy/rollback",
                                    LOAD_TIMEOUT_MS, policy_print, NULL);
}
