#include "remote/remote_restart.h"

#include "cli/cli_text.h"
#include "remote/remote_admin.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

enum {
    TICK_MS = 250,
    PATIENCE_TICKS = 60, /* without an answer: the admin process is replaced, too */
};

static void restart_ask(struct remote_admin *a, const char *method, const char *target,
                        struct remote_answer *out)
{
    remote_admin_send(a, &(struct backend_request){.method = method, .target = target}, out);
}

/* How often a restart was asked for so far; -1: nobody answers. */
static json_int_t restart_count_so_far(struct remote_admin *a)
{
    struct remote_answer answer;
    restart_ask(a, "GET", "/status", &answer);
    const json_t *restart = json_object_get(answer.doc, "restart");
    json_int_t count = answer.status == 200 ? cli_count_of(restart, "count") : -1;
    remote_answer_clear(&answer);
    return count;
}

static int restart_order(struct remote_admin *a)
{
    struct remote_answer answer;
    restart_ask(a, "POST", "/restart", &answer);
    int code = answer.status == 202 ? EX_OK : EX_UNAVAILABLE;
    if (code) {
        fprintf(stderr, "tidegate: %s\n",
                answer.status ? cli_text_of(answer.doc, "detail")
                              : "the broker did not answer the request to restart: see its log");
    }
    remote_answer_clear(&answer);
    return code;
}

/* One look. True when it is over; `*code` is the exit code then. */
static bool restart_look(struct remote_admin *a, json_int_t count, int *code, bool *answered)
{
    struct remote_answer answer;
    restart_ask(a, "GET", "/status", &answer);
    const json_t *restart = json_object_get(answer.doc, "restart");
    const char *state = cli_text_of(restart, "state");
    bool over = cli_count_of(restart, "count") > count &&
                (strcmp(state, "done") == 0 || strcmp(state, "failed") == 0);
    *answered = answer.status == 200;
    if (over && *state == 'd') {
        size_t n = json_array_size(json_object_get(answer.doc, "workers"));
        printf("ok: %zu worker%s replaced\n", n, cli_plural((long long)n));
    } else if (over) {
        fprintf(stderr, "tidegate: the restart failed, the old workers continue:\n%s\n",
                cli_text_of(restart, "error"));
        *code = EX_UNAVAILABLE;
    }
    remote_answer_clear(&answer);
    return over;
}

static int restart_wait(struct remote_admin *a, json_int_t count)
{
    int code = EX_OK;
    bool answered;
    for (int silent = 0; silent < PATIENCE_TICKS; silent = answered ? 0 : silent + 1) {
        if (restart_look(a, count, &code, &answered)) {
            return code;
        }
        uv_sleep(TICK_MS);
    }
    fprintf(stderr, "tidegate: the broker does not answer any more: see its log\n");
    return EX_UNAVAILABLE;
}

static int restart(struct remote_admin *a, const char *admin)
{
    struct err e = {0};
    if (address_parse(admin, &a->where, &e)) {
        fprintf(stderr, "tidegate: admin: %s\n", e.text);
        return EX_CONFIG;
    }
    json_int_t count = restart_count_so_far(a);
    if (count < 0) {
        fprintf(stderr, "tidegate: no broker answers at its admin address %s: is it running?\n",
                admin);
        return EX_UNAVAILABLE;
    }
    int code = restart_order(a);
    return code ? code : restart_wait(a, count);
}

int remote_restart(const struct config *cfg)
{
    if (!cfg->admin) {
        fprintf(stderr, "tidegate: `admin` is false: send SIGUSR2 to the supervisor instead\n");
        return EX_CONFIG;
    }
    struct remote_admin a = {.loop = loop_new()};
    int code = a.loop ? restart(&a, cfg->admin) : EX_OSERR;
    remote_admin_close(&a);
    return code;
}
