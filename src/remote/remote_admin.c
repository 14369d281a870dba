#include "remote/remote_admin.h"

#include "base/alloc.h"
#include "cli/cli_admin.h"
#include "cli/cli_options.h"
#include "cli/cli_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

int remote_admin_words(const struct options *o, struct remote_admin_words *w, char **words,
                       size_t n, char **rest, size_t *rest_n)
{
    char *conf = NULL;
    size_t one = 1;
    int code = options_parse(o, w, words, n, rest ? rest : &conf, rest ? rest_n : &one);
    if (code == 0 && !w->help && conf && w->conf) {
        code = options_refuse(o, "--conf", "one configuration file is enough");
    }
    w->conf = conf ? conf : w->conf;
    return code ? code : w->help ? CLI_HELP : 0;
}

int remote_admin_open(const struct options *o, const struct remote_admin_words *w,
                      struct remote_admin *a)
{
    *a = (struct remote_admin){.options = o};
    int code = cli_admin_address(o, w->conf, w->admin, &a->where);
    if (code) {
        return code;
    }
    a->loop = loop_new();
    return a->loop ? 0 : EX_OSERR;
}

void remote_admin_close(struct remote_admin *a)
{
    if (a->loop) {
        (void)loop_free(a->loop);
    }
}

static void remote_admin_on_answer(void *ctx, unsigned worker, int status, struct slice body)
{
    struct remote_answer *out = ctx;
    (void)worker;
    out->status = status;
    out->text = xmalloc(body.n + 1);
    memcpy(out->text, body.n ? body.p : "", body.n);
    out->text[body.n] = '\0';
    out->doc = json_loadb(out->text, body.n, 0, NULL);
}

static void remote_admin_put_fault(const json_t *doc)
{
    const char *detail = cli_text_of(doc, "detail"), *error = cli_text_of(doc, "error");
    size_t i;
    const json_t *one;
    cli_put(stderr, slice_str(*detail ? detail : error));
    if (*detail || *error) {
        fputc('\n', stderr);
        return;
    }
    fprintf(stderr, "%s\n",
            strcmp(cli_text_of(doc, "result"), "mixed") == 0
                ? "some workers have done it, and some have not:"
                : "nothing was changed:");
    json_array_foreach(json_object_get(doc, "workers"), i, one)
    {
        if (*cli_text_of(one, "error")) {
            fprintf(stderr, "  worker %lld: ", cli_count_of(one, "worker"));
            cli_put(stderr, slice_str(cli_text_of(one, "error")));
            fputc('\n', stderr);
        }
    }
}

int remote_admin_failed(const struct remote_admin *a, const struct remote_answer *answer)
{
    char at[ADDRESS_LISTEN_TEXT_MAX];
    address_text(&a->where, at);
    fprintf(stderr, "tidegate %s: ", a->options->command);
    if (answer->status == 0) {
        fprintf(stderr,
                "%s: no answer came from this admin address: does the broker run, and is this the "
                "`admin` of its configuration?\n",
                at);
        return EX_UNAVAILABLE;
    }
    if (!answer->doc || answer->status == 200) {
        fprintf(stderr, "%s: what answers there is no broker (status %d)\n", at, answer->status);
        return EX_PROTOCOL;
    }
    remote_admin_put_fault(answer->doc);
    switch (answer->status) {
    case 404:
    case 410:
        return EX_NOINPUT;
    case 400:
    case 413:
    case 415:
    case 422:
        return EX_DATAERR;
    case 409:
    case 503:
        return EX_TEMPFAIL;
    default:
        return EX_UNAVAILABLE;
    }
}

void remote_admin_send(struct remote_admin *a, const struct backend_request *rq,
                       struct remote_answer *out)
{
    *out = (struct remote_answer){.status = 0};
    backend_call(a->loop, &a->where, rq, 0, remote_admin_on_answer, out);
    loop_run(a->loop);
}

int remote_admin_ask(struct remote_admin *a, const char *method, const char *target,
                     uint64_t timeout_ms, struct remote_answer *out)
{
    const struct backend_request rq = {
        .method = method, .target = target, .timeout_ms = timeout_ms};
    remote_admin_send(a, &rq, out);
    return out->status >= 200 && out->status <= 299 ? 0 : remote_admin_failed(a, out);
}

void remote_answer_clear(struct remote_answer *answer)
{
    json_decref(answer->doc);
    free(answer->text);
}

int remote_admin_show(const struct options *o, const struct remote_admin_words *w,
                      const char *method, const char *target, uint64_t timeout_ms,
                      void (*print)(const json_t *doc), int (*judge)(const json_t *doc))
{
    struct remote_admin a;
    struct remote_answer answer = {.status = 0};
    int code = remote_admin_open(o, w, &a);
    code = code ? code : remote_admin_ask(&a, method, target, timeout_ms, &answer);
    if (code == 0 && !answer.doc) {
        code = remote_admin_failed(&a, &answer);
    } else if (w->json && answer.doc) {
        printf("%s", answer.text);
    } else if (code == 0) {
        print(answer.doc);
    }
    if (code == 0 && judge) {
        code = judge(answer.doc);
    }
    remote_answer_clear(&answer);
    remote_admin_close(&a);
    return code;
}
