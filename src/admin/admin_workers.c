/* The admin service of several workers: what is asked, and whether it may be. collect.c answers. */
#include "admin/admin_workers.h"

#include "admin/admin_policy.h"
#include "admin/admin_reply.h"

#include <string.h>

static void post_restart(struct admin_workers *a, const struct admin_call *c)
{
    if (strcmp(a->restart(a->ctx).phase, "running") == 0) {
        admin_refuse(c->stream, 409, slice_str("A restart is in progress; see GET /status."), NULL);
        return;
    }
    admin_call_log(c);
    admin_answer(c->stream, 202, "application/json", slice_str("{\"restarting\":true}\n"));
    a->order_restart(a->ctx);
}

static void answer_here(struct admin_workers *a, const struct admin_call *c)
{
    if (c->route->action == ADMIN_RESTART) {
        post_restart(a, c);
    } else if (c->route->action == ADMIN_DRAIN) {
        admin_call_log(c);
        admin_answer(c->stream, 202, "application/json", slice_str("{\"draining\":true}\n"));
        a->order_drain(a->ctx);
    } else {
        admin_answer(c->stream, 200, "text/plain; charset=utf-8", slice_str("ok\n"));
    }
}

static void merge(struct admin_workers *a, const struct admin_call *c)
{
    struct connection_filter filter;
    if (c->route->action == ADMIN_READYZ) {
        collect_ready(a, c->stream);
    } else if (c->route->action == ADMIN_METRICS) {
        collect_metrics(a, c->stream);
    } else if (c->route->action == ADMIN_STATUS) {
        collect_status(a, c->stream);
    } else if (admin_call_filter(c, &a->identity_shown, &filter)) {
        collect_connections(a, c, &filter);
        connection_filter_clear(&filter);
    }
}

static void admin_workers_order_all(struct admin_workers *a, const struct admin_call *c)
{
    struct policy_order order;
    struct connection_filter filter;
    if (c->route->action == ADMIN_DISCONNECT_SOME || c->route->action == ADMIN_RESUBSCRIBE_SOME) {
        if (!admin_call_filter(c, &a->identity_shown, &filter)) {
            return;
        }
        connection_filter_clear(&filter);
    }
    if (c->route->action != ADMIN_RELOAD) {
        admin_call_log(c);
        collect_order(a, c);
    } else if (admin_policy_order(c->stream, c->rq, &order)) {
        admin_call_log(c);
        collect_reload(a, c->stream, order.dry_run, order.force);
    }
}

static void admin_workers_run(void *ctx, const struct admin_call *c)
{
    switch (c->route->scope) {
    case ADMIN_HERE:
        answer_here(ctx, c);
        break;
    case ADMIN_MERGE:
        merge(ctx, c);
        break;
    case ADMIN_ONE:
        if (c->route->log) {
            admin_call_log(c);
        }
        collect_one(ctx, c);
        break;
    case ADMIN_ANY:
        collect_any(ctx, c);
        break;
    case ADMIN_ALL:
        admin_workers_order_all(ctx, c);
        break;
    }
}

void admin_workers_request(void *ctx, struct stream *s, struct http_request *rq,
                           const struct peer_address *client)
{
    const struct admin_workers *a = ctx;
    admin_route(a->count, s, rq, client, admin_workers_run, ctx);
}

void admin_workers_probe_request(void *ctx, struct stream *s, struct http_request *rq,
                                 const struct peer_address *client)
{
    if (admin_route_probe(s, rq)) {
        admin_workers_request(ctx, s, rq, client);
    }
}
