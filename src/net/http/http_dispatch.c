#include "net/http/http_dispatch.h"

#include "net/http/forwarded.h"

static void http_dispatch_client(const struct http_server *s, const struct http_request *rq,
                                 const struct peer_address *peer, struct peer_address *client)
{
    client_address(peer, rq->headers, rq->header_count, s->opt.trusted_proxies,
                   s->opt.trusted_proxy_count, client);
}

static void http_dispatch_no_room(struct stream *stream)
{
    struct strbuf body;
    strbuf_init(&body, 512);
    if (http_problem(&body, 503,
                     slice_str("too many bytes of request bodies are under way; try again later"),
                     slice_of(NULL, 0))) {
        strbuf_reset(&body); /* the status says it */
    }
    struct http_response r = {.status = 503,
                              .content_type = HTTP_PROBLEM_TYPE,
                              .body = strbuf_slice(&body),
                              .fields = slice_str("Retry-After: 5\r\n")};
    (void)stream_respond(stream, &r); /* on failure the connection is closed */
    strbuf_clear(&body);
}

void http_dispatch_head(struct http_server *s, struct stream *stream, struct http_request *rq,
                        const struct peer_address *peer)
{
    struct peer_address client;
    http_dispatch_client(s, rq, peer, &client);
    http_body_share_begin(&rq->share, &s->bodies, &client);
    if (!http_body_share_grow(&rq->share, rq->body.len)) {
        http_dispatch_no_room(stream);
    } else if (s->handlers.head) {
        s->handlers.head(s->handlers.ctx, stream, rq, &client);
    } else {
        stream_take_body(stream);
    }
}

void http_dispatch_request(struct http_server *s, struct stream *stream, struct http_request *rq,
                           const struct peer_address *peer)
{
    struct peer_address client;
    http_dispatch_client(s, rq, peer, &client);
    s->metrics->requests++;
    s->handlers.request(s->handlers.ctx, stream, rq, &client);
}
