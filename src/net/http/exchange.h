/* One request and its answer on an HTTP/1.1 connection: implements stream.h. Answers leave in the
 * order of the requests, whatever the order they are given in. */
#ifndef NET_HTTP_EXCHANGE_H
#define NET_HTTP_EXCHANGE_H

#include "net/http/conn.h"

struct exchange;

/* A complete request of `c` is about to be handled. Linked to c->exchanges; never NULL. */
struct exchange *exchange_new(struct conn *c, const struct http_request *rq);
struct stream *exchange_stream(struct exchange *ex);
/* The open event stream of `c`, or NULL. */
struct stream *exchange_streaming(const struct conn *c);
/* The peer sends no more: those who mind are told. */
void exchange_half_closed(struct conn *c);
/* The connection is closing: everyone who owns a stream of it hears `closed`. */
void exchange_close_all(struct conn *c, enum close_reason why);

#endif
