/* The way of a request from its protocol to the handlers of the service, whatever the protocol is. */
#ifndef NET_HTTP_HTTP_DISPATCH_H
#define NET_HTTP_HTTP_DISPATCH_H

#include "net/http/conn.h"

/* The head of a request on `c`, whose body is still to come. The body counts from now on. It is taken at
 * once where the service does not ask for heads. */
void http_dispatch_head(const struct conn *c, struct stream *stream, struct http_request *rq);
/* Does a request on `c` count for the address of its client, instead of that of the connection? It does
 * behind trusted proxies, from its head until its answer or the end of its stream. */
bool http_dispatch_counts(const struct conn *c, const struct http_request *rq,
                          struct peer_address *client);
/* A line at level debug about a request that the service was not asked for. */
void http_dispatch_note(const struct conn *c, const char *request_id, int status, const char *why);
/* Answers with a problem document. */
void http_dispatch_refuse(const struct conn *c, struct stream *stream,
                          const struct http_request *rq, int status, const char *detail);
/* Fields that such an answer has besides; `out` is initialised here. */
void http_dispatch_refused_fields(const struct conn *c, const struct http_request *rq,
                                  struct strbuf *out);
/* 429: its client has as many as it may. */
void http_dispatch_refuse_many(const struct conn *c, struct stream *stream,
                               struct http_request *rq);
/* A complete request. */
void http_dispatch_request(const struct conn *c, struct stream *stream, struct http_request *rq);

#endif
