#include "net/message/http_request.h"

#include <stdio.h>
#include <stdlib.h>

void http_request_init(struct http_request *rq, const struct http_limits *limits)
{
    *rq = (struct http_request){.limits = limits, .state = HTTP_HEAD};
    strbuf_init(&rq->head, limits->head_bytes);
    strbuf_init(&rq->body, limits->body_bytes);
}

void http_failure_text(const struct http_request *rq, char *out, size_t size)
{
    const struct http_limits *l = rq->limits;
    const struct http_failure *f = &rq->fail;
    switch (f->status) {
    case 413:
        snprintf(out, size, "%s: at most %zu bytes are taken", f->text, l->body_bytes);
        break;
    case 414:
        snprintf(out, size, "%s: at most %zu bytes are taken", f->text, l->target_bytes);
        break;
    case 431:
        snprintf(out, size, "%s: at most %zu bytes and %zu fields are taken", f->text,
                 l->head_bytes, l->headers);
        break;
    default:
        snprintf(out, size, "%s", f->text);
        break;
    }
}

void http_request_clear(struct http_request *rq)
{
    strbuf_clear(&rq->head);
    strbuf_clear(&rq->body);
    free(rq->headers);
    rq->headers = NULL;
    rq->header_count = rq->header_spans = rq->header_cap = 0;
    http_body_share_end(&rq->share);
}

void http_request_move(struct http_request *to, struct http_request *from)
{
    *to = *from;
    http_request_init(from, to->limits);
}

struct slice http_request_header(const struct http_request *rq, const char *name)
{
    for (size_t i = 0; i < rq->header_count; i++) {
        if (slice_is_nocase(rq->headers[i].name, name)) {
            return rq->headers[i].value;
        }
    }
    return slice_of(NULL, 0);
}
