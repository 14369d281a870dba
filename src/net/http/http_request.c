#include "net/http/http_request.h"

#include <stdlib.h>

void http_request_init(struct http_request *rq, const struct http_limits *limits)
{
    *rq = (struct http_request){.limits = limits, .state = HTTP_HEAD};
    strbuf_init(&rq->head, limits->head_bytes);
    strbuf_init(&rq->body, limits->body_bytes);
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
