#include "remote/remote_status.h"

#include "cli/cli_text.h"
#include "remote/client/remote_text.h"
#include "remote/remote_admin.h"

#include <stdio.h>
#include <sysexits.h>

const char remote_status_details[] =
    "Asks the admin service. The exit code makes it a health check for containers and scripts.\n"
    "\n"
    "Exit codes: 0 the broker is ready; 75 it is not, with the reason; 69 no broker answers; 76 what\n"
    "answers is no broker; 64 wrong arguments; 78 a wrong configuration.\n";

const struct option_row remote_status_rows[] = {REMOTE_ADMIN_ROWS, {.name = NULL}};
static const struct options status_options = {"tidegate", "status", remote_status_rows};

static void status_put_store(const json_t *store)
{
    char size[REMOTE_TEXT_MAX];
    bool ok = json_is_true(json_object_get(store, "ok"));
    printf("store     %s", ok ? "ok" : "NOT OK: ");
    if (!ok) {
        cli_put(stdout, slice_str(cli_text_of(store, "detail")));
    }
    printf(", %lld event%s, %s\n", cli_count_of(store, "events"),
           cli_plural(cli_count_of(store, "events")),
           remote_bytes((uint64_t)cli_count_of(store, "bytes"), size));
    if (*cli_text_of(store, "degraded")) {
        printf("          degraded: ");
        cli_put(stdout, slice_str(cli_text_of(store, "degraded")));
        putchar('\n');
    }
}

static void status_put_workers(const json_t *workers)
{
    size_t i;
    const json_t *w;
    char up[REMOTE_TEXT_MAX];
    if (json_array_size(workers) < 2) {
        return;
    }
    printf("\n%6s %8s %-12s %8s %11s %8s %7s  %s\n", "WORKER", "PID", "UP", "RESTARTS",
           "CONNECTIONS", "STREAMS", "BEHIND", "STATE");
    json_array_foreach(workers, i, w)
    {
        const char *why = cli_text_of(w, "not_ready");
        printf("%6lld %8lld %-12s %8lld %11lld %8lld %7lld  ", cli_count_of(w, "worker"),
               cli_count_of(w, "pid"),
               remote_duration(json_number_value(json_object_get(w, "uptime_s")), up),
               cli_count_of(w, "restarts"), cli_count_of(w, "connections"),
               cli_count_of(w, "subscribers"), cli_count_of(w, "behind"));
        if (!json_is_true(json_object_get(w, "answers"))) {
            printf("does not answer");
        } else if (*why) {
            cli_put(stdout, slice_str(why));
        } else {
            printf("ready");
        }
        putchar('\n');
    }
}

/* Says which keys are used up: whose clients are being denied. */
static void status_put_quotas(const json_t *quota)
{
    size_t i;
    const json_t *f, *full = json_object_get(quota, "full");
    long long streams = cli_count_of(quota, "streams"), keys = cli_count_of(quota, "keys");
    long long more = cli_count_of(quota, "full_keys") - (long long)json_array_size(full);
    if (keys == 0) {
        return;
    }
    printf("quotas    %lld stream%s of %lld key%s%s", streams, cli_plural(streams), keys,
           cli_plural(keys), json_array_size(full) ? "; used up:" : "");
    json_array_foreach(full, i, f)
    {
        printf("%s ", i ? "," : "");
        cli_put(stdout, slice_str(cli_text_of(f, "key")));
        printf(" (%lld, denied %lld)", cli_count_of(f, "streams"), cli_count_of(f, "denied"));
    }
    if (more > 0) {
        printf(", and %lld more", more);
    }
    putchar('\n');
}

static void status_print(const json_t *doc)
{
    char up[REMOTE_TEXT_MAX], size[REMOTE_TEXT_MAX];
    const json_t *policy = json_object_get(doc, "policy"), *log = json_object_get(doc, "log");
    const json_t *previous = json_object_get(doc, "previous_policy");
    const json_t *restart = json_object_get(doc, "restart");
    bool ready = json_is_true(json_object_get(doc, "ready"));
    printf("tidegate %s, process %lld, up %s: ", cli_text_of(doc, "version"),
           cli_count_of(doc, "pid"),
           remote_duration(json_number_value(json_object_get(doc, "uptime_s")), up));
    if (ready) {
        printf("ready\n");
    } else {
        printf("NOT READY: ");
        cli_put(stdout, slice_str(cli_text_of(doc, "not_ready")));
        putchar('\n');
    }
    long long streams = cli_count_of(doc, "subscribers"),
              audiences = cli_count_of(doc, "audiences");
    long long connections = cli_count_of(doc, "connections"), held = cli_count_of(log, "events");
    printf("clients   %lld stream%s in %lld audience%s, %lld behind; %lld connection%s\n", streams,
           cli_plural(streams), audiences, cli_plural(audiences), cli_count_of(doc, "behind"),
           connections, cli_plural(connections));
    status_put_store(json_object_get(doc, "store"));
    printf("newest    %s; %lld event%s in memory, %s\n", cli_text_of(doc, "head_id"), held,
           cli_plural(held), remote_bytes((uint64_t)cli_count_of(log, "bytes"), size));
    status_put_quotas(json_object_get(doc, "quota"));
    printf("policy    ");
    remote_put_policy(policy);
    if (json_is_object(previous)) {
        printf(", before it ");
        remote_put_policy(previous);
    }
    printf("\n          ");
    cli_put(stdout, slice_str(cli_text_of(policy, "file")));
    putchar('\n');
    if (cli_count_of(restart, "count") > 0) {
        printf("restart   %s\n", cli_text_of(restart, "state"));
    }
    status_put_workers(json_object_get(doc, "workers"));
}

static int status_judge(const json_t *doc)
{
    return json_is_true(json_object_get(doc, "ready")) ? EX_OK : EX_TEMPFAIL;
}

int remote_status(char **words, size_t n)
{
    struct remote_admin_words w = {.json = false};
    int code = remote_admin_words(&status_options, &w, words, n, NULL, NULL);
    return code ? code
                : remote_admin_show(&status_options, &w, "GET", "/status", 0, status_print,
                                    status_judge);
}
