#include "broker/http/cross_site.h"

#include "broker/broker_parts.h"
#include "broker/refusal.h"
#include "net/message/http_origin.h"

#include <stdio.h>

bool cross_site_refuse(struct broker *b, struct stream *s, const struct http_request *rq)
{
    char detail[512];
    if (b->opt.cross_site_publish || http_origin_site(&b->opt.cors, rq) != HTTP_SITE_FOREIGN) {
        return false;
    }
    struct slice origin = http_request_header(rq, "Origin");
    struct slice site = http_request_header(rq, "Sec-Fetch-Site");
    struct slice given = origin.p ? origin : site;
    snprintf(
        detail, sizeof detail,
        "a page of another site may not publish here: %s is \"%.*s\"%s, Host is \"%.*s\"; list "
        "the origin in http.cors_origins, and let a proxy in front pass Host on unchanged",
        origin.p ? "Origin" : "Sec-Fetch-Site", given.n < 100 ? (int)given.n : 100,
        given.n ? given.p : "",
        origin.p && site.p ? ", Sec-Fetch-Site says that it is not the same origin" : "",
        rq->host.n < 100 ? (int)rq->host.n : 100, rq->host.n ? rq->host.p : "");
    b->metrics->refused_cross_site++;
    refuse(b->refusals, s, 403, slice_str(detail));
    return true;
}
