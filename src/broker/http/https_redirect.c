#include "broker/http/https_redirect.h"

#include "base/logging.h"
#include "broker/broker_parts.h"
#include "broker/refusal.h"

#include <stdio.h>
#include <string.h>

/* The host without its port; both were checked by the parser. */
static struct slice https_redirect_host(struct slice host)
{
    const char *from = host.n && host.p[0] == '[' ? memchr(host.p, ']', host.n) : host.p;
    const char *colon = from ? memchr(from, ':', host.n - (size_t)(from - host.p)) : NULL;
    return colon ? slice_of(host.p, (size_t)(colon - host.p)) : host;
}

/* A browser that follows a link is what this is for; a program that publishes has the wrong address. */
static void https_redirect_note(struct broker *b, const struct http_request *rq)
{
    if (rq->method != HTTP_POST) {
        b->metrics->redirected_others++;
        return;
    }
    b->metrics->redirected_publishes++;
    if (log_pace_take(&b->clear_pace, loop_now(b->loop))) {
        log_warn("broker",
                 "sent a publish to https: its credentials and its data have come in clear; give "
                 "the publisher the https address",
                 LOG_F(log_slice("host", slice_of(rq->host.p, rq->host.n < 100 ? rq->host.n : 100)),
                       log_uint("publishes", b->metrics->redirected_publishes)));
    }
}

static void https_redirect_answer(struct broker *b, struct stream *s, const struct http_request *rq)
{
    struct strbuf fields;
    struct slice host = https_redirect_host(rq->host);
    char port[8] = "";
    if (host.n == 0 || rq->path.n == 0 || rq->path.p[0] != '/') { /* HTTP/1.0, "OPTIONS *" */
        refuse(
            b->refusals, s, 400,
            slice_str(
                "this listener sends clients to https: the request must name a host and a path"));
        return;
    }
    https_redirect_note(b, rq);
    if (b->opt.https_port != 443) {
        snprintf(port, sizeof port, ":%u", b->opt.https_port);
    }
    strbuf_init(&fields, rq->limits->head_bytes + 4096);
    int rc =
        strbuf_printf(&fields, HTTP_ANSWER_FIELDS "Location: https://%.*s%s%.*s%s%.*s\r\n",
                      (int)host.n, host.p, port, (int)rq->path.n, rq->path.p,
                      rq->query.p ? "?" : "", (int)rq->query.n, rq->query.p ? rq->query.p : "");
    rc = rc ? rc : http_cors_fields(&b->opt.cors, rq, &fields);
    if (rc) {
        stream_close(s, CLOSE_NO_MEMORY);
    } else {
        struct http_response r = {.status = 308, .fields = strbuf_slice(&fields)};
        (void)stream_respond(s, &r); /* on failure the connection is closed: nothing more to do */
    }
    strbuf_clear(&fields);
}

bool https_redirect(struct broker *b, struct stream *s, const struct http_request *rq)
{
    if (!rq->redirect || rq->secure) {
        return false;
    }
    https_redirect_answer(b, s, rq);
    return true;
}
