#include "cli/cli_restart.h"

#include "net/client/backend_call.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

enum {
    TICK_MS = 250,
    PATIENCE_TICKS = 60, /* without an answer: the admin process is replaced, too */
};

struct question {
    int status;
    json_t *body; /* owned */
};

static void cli_restart_on_answer(void *ctx, unsigned worker, int status, struct slice body)
{
    struct question *q = ctx;
    (void)worker;
    q->status = status;
    q->body = json_loadb(body.p ? body.p : "", body.n, 0, NULL);
}

/* One request, to its end. */
static struct question cli_restart_ask(struct loop *loop, const struct address *where,
                                       const char *method, const char *target)
{
    struct question q = {0};
    const struct backend_request rq = {.method = method, .target = target};
    backend_call(loop, where, &rq, 0, cli_restart_on_answer, &q);
    loop_run(loop);
    return q;
}

static const char *cli_restart_text_of(const json_t *o, const char *name)
{
    const char *text = json_string_value(json_object_get(o, name));
    return text ? text : "";
}

/* How often a restart was asked for so far; -1: nobody answers. */
static json_int_t count_so_far(struct loop *loop, const struct address *where)
{
    struct question q = cli_restart_ask(loop, where, "GET", "/status");
    const json_t *restart = json_object_get(q.body, "restart");
    json_int_t count = q.status == 200 ? json_integer_value(json_object_get(restart, "count")) : -1;
    json_decref(q.body);
    return count;
}

static int order(struct loop *loop, const struct address *where)
{
    struct question q = cli_restart_ask(loop, where, "POST", "/restart");
    if (q.status != 202) {
        fprintf(stderr, "tidegate: %s\n",
                q.status ? cli_restart_text_of(q.body, "detail")
                         : "the broker did not answer the request to restart: see its log");
    }
    json_decref(q.body);
    return q.status == 202 ? EX_OK : EX_UNAVAILABLE;
}

/* One look. True when it is over; `*code` is the exit code then. */
static bool cli_restart_look(struct loop *loop, const struct address *where, json_int_t count,
                             int *code, bool *answered)
{
    struct question q = cli_restart_ask(loop, where, "GET", "/status");
    const json_t *restart = json_object_get(q.body, "restart");
    const char *state = cli_restart_text_of(restart, "state");
    bool over = json_integer_value(json_object_get(restart, "count")) > count &&
                (strcmp(state, "done") == 0 || strcmp(state, "failed") == 0);
    *answered = q.status == 200;
    if (over && *state == 'd') {
        printf("ok: %zu workers replaced\n", json_array_size(json_object_get(q.body, "workers")));
    } else if (over) {
        fprintf(stderr, "tidegate: the restart failed, the old workers continue:\n%s\n",
                cli_restart_text_of(restart, "error"));
        *code = EX_UNAVAILABLE;
    }
    json_decref(q.body);
    return over;
}

static int wait_for_end(struct loop *loop, const struct address *where, json_int_t count)
{
    int code = EX_OK;
    bool answered;
    for (int silent = 0; silent < PATIENCE_TICKS; silent = answered ? 0 : silent + 1) {
        if (cli_restart_look(loop, where, count, &code, &answered)) {
            return code;
        }
        uv_sleep(TICK_MS);
    }
    fprintf(stderr, "tidegate: the broker does not answer any more: see its log\n");
    return EX_UNAVAILABLE;
}

static int restart(struct loop *loop, const struct config *cfg)
{
    struct address where;
    struct err e = {0};
    if (address_parse(cfg->admin, &where, &e)) {
        fprintf(stderr, "tidegate: admin: %s\n", e.text);
        return EX_CONFIG;
    }
    json_int_t count = count_so_far(loop, &where);
    if (count < 0) {
        fprintf(stderr, "tidegate: no broker answers at its admin address %s: is it running?\n",
                cfg->admin);
        return EX_UNAVAILABLE;
    }
    int code = order(loop, &where);
    return code ? code : wait_for_end(loop, &where, count);
}

int cli_restart(const struct config *cfg)
{
    if (!cfg->admin) {
        fprintf(stderr, "tidegate: `admin` is false: send SIGUSR2 to the supervisor instead\n");
        return EX_CONFIG;
    }
    struct loop *loop = loop_new();
    if (!loop) {
        return EX_OSERR;
    }
    int code = restart(loop, cfg);
    return loop_free(loop) && code == 0 ? EX_SOFTWARE : code;
}
