#include "admin/admin_explain.h"

#include "admin/admin_reply.h"
#include "admin/answers/admin_json.h"
#include "admin/answers/explain_json.h"
#include "base/decimal.h"
#include "net/http/http_server.h"
#include "net/message/http_query.h"

static int admin_explain_status_of(enum explain_failure failure)
{
    switch (failure) {
    case EXPLAIN_NO_STREAM:
    case EXPLAIN_NO_EVENT:
        return 404;
    case EXPLAIN_GONE:
        return 410;
    case EXPLAIN_STORE_FAILED:
        return 503;
    case EXPLAIN_OK:
        break;
    }
    return 200;
}

static void on_explanation(void *ctx, uint64_t token, const struct explanation *x)
{
    const struct admin *a = ctx;
    struct stream *s = http_server_stream(a->server, token);
    struct admin_state st = {0};
    struct strbuf body;
    if (!s) {
        return; /* the asker has left */
    }
    if (x->failure != EXPLAIN_OK) {
        admin_refuse(s, admin_explain_status_of(x->failure), slice_str(x->text), NULL);
        return;
    }
    a->state(a->ctx, &st);
    strbuf_init(&body, ADMIN_JSON_MAX_BYTES);
    admin_answer_built(s, explain_json(x, a, &st, &body), "application/json", &body);
}

static void admin_explain_ask(const struct admin *a, struct stream *s,
                              const struct explain_question *q)
{
    if (!explain_ask(a->broker, q, on_explanation, (void *)(uintptr_t)a, s->id)) {
        admin_refuse(s, 503, slice_str("Too many explain requests are in progress; try again."),
                     NULL);
    }
}

/* "?event=ID" and nothing else; false: the query is wrong, and that was answered. */
static bool admin_explain_read_query(struct stream *s, const struct http_request *rq,
                                     uint64_t *event)
{
    struct http_query q;
    bool good = http_query_parse(&q, rq->query) == 0;
    if (good) {
        struct slice text = http_query_get(&q, "event");
        good = q.count == 1 && text.p && decimal_parse(text, EVENT_ID_MAX, event) && *event;
        http_query_clear(&q);
    }
    if (!good) {
        admin_refuse(s, 400,
                     slice_str("event: the id of one event was expected: ?event=NUMBER, from 1 to "
                               "9007199254740991."),
                     NULL);
    }
    return good;
}

void admin_explain_stored(const struct admin *a, struct stream *s, const struct http_request *rq,
                          uint64_t connection)
{
    struct explain_question q = {.stream = connection};
    if (admin_explain_read_query(s, rq, &q.event)) {
        admin_explain_ask(a, s, &q);
    }
}

void admin_explain_given(const struct admin *a, struct stream *s, const struct http_request *rq,
                         uint64_t connection)
{
    struct explain_question q = {.stream = connection};
    struct err e = {0};
    int status = explain_parse(a->broker, rq, &q.given, &e);
    if (status) {
        admin_refuse(s, status, slice_str(e.text), NULL);
    } else {
        admin_explain_ask(a, s, &q);
    }
}
