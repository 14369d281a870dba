#include "admin/admin_policy.h"

#include "admin/admin_reply.h"
#include "admin/answers/admin_json.h"
#include "net/http/http_server.h"
#include "net/message/http_query.h"

/* "1" and "0"; absent is 0. */
static bool read_flag(const struct http_query *q, const char *name, bool *out)
{
    struct slice v = http_query_get(q, name);
    *out = v.p && slice_is(v, "1");
    return !v.p || *out || slice_is(v, "0");
}

static bool known(const struct http_query *q)
{
    for (size_t i = 0; i < q->count; i++) {
        if (!slice_is(q->params[i].name, "dry_run") && !slice_is(q->params[i].name, "force")) {
            return false;
        }
    }
    return true;
}

static int admin_policy_status_of(const struct policy_report *r)
{
    switch (r->outcome) {
    case POLICY_REFUSED:
        return 422;
    case POLICY_BUSY:
    case POLICY_NO_PREVIOUS:
        return 409;
    case POLICY_RELOADED:
    case POLICY_ROLLED_BACK:
    case POLICY_WOULD_RELOAD:
    case POLICY_UNCHANGED:
        break;
    }
    return 200;
}

static void on_report(void *ctx, uint64_t token, const struct policy_report *r)
{
    const struct admin *a = ctx;
    struct stream *s = http_server_stream(a->server, token);
    struct strbuf body;
    if (!s) {
        return; /* the asker has left; the log has the result */
    }
    strbuf_init(&body, ADMIN_JSON_MAX_BYTES);
    if (admin_json_policy(r, a->alone, &body)) {
        admin_refuse(s, 503, slice_str("Memory is too short for the answer; see the log."), NULL);
    } else {
        admin_answer(s, admin_policy_status_of(r), "application/json", strbuf_slice(&body));
    }
    strbuf_clear(&body);
}

bool admin_policy_order(struct stream *s, const struct http_request *rq, struct policy_order *out)
{
    struct http_query q;
    *out = (struct policy_order){0};
    bool good = http_query_parse(&q, rq->query) == 0;
    if (good) {
        good = known(&q) && read_flag(&q, "dry_run", &out->dry_run) &&
               read_flag(&q, "force", &out->force);
        http_query_clear(&q);
    }
    if (!good) {
        admin_refuse(s, 400, slice_str("Known are dry_run and force, each 0 or 1."), NULL);
    }
    return good;
}

void admin_policy_reload(const struct admin *a, struct stream *s, const struct http_request *rq)
{
    struct policy_order order;
    if (!admin_policy_order(s, rq, &order)) {
        return;
    }
    a->reload(a->ctx, &order, on_report, (void *)(uintptr_t)a, s->id);
}

void admin_policy_rollback(const struct admin *a, struct stream *s)
{
    a->rollback(a->ctx, on_report, (void *)(uintptr_t)a, s->id);
}
