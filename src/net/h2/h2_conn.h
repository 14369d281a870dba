/* HTTP/2 on a connection (RFC 9113), upon nghttp2: the receiving half, and the protocol as conn.h
 * wants it. Requests go to the server's handler as streams; each has its own order.
 *
 * What a client may cost is bounded: streams at a time, fields, a body at a time beyond a small
 * window each, and unusual frames (h2_flood.h) by a bucket that refills. */
#ifndef NET_H2_H2_CONN_H
#define NET_H2_H2_CONN_H

#include "net/http/conn.h"

extern const struct conn_protocol h2_protocol;

#endif
