/* What begins a connection and is not HTTP/1.1, but something that a listener could be told to expect: the client
 * is told what to do, and so is the operator. */
#ifndef NET_HTTP_HTTP_FOREIGN_H
#define NET_HTTP_HTTP_FOREIGN_H

#include "net/http/conn.h"

/* The kind of the first bytes of `c`; HTTP_FOREIGN_COUNT: none of these. */
enum http_foreign http_foreign_of(const struct conn *c, const char *data, size_t len);
/* Counts it, and logs one of each kind in ten seconds. Returns the status and the text to refuse it with. */
int http_foreign_note(const struct conn *c, enum http_foreign kind, const char **text);

#endif
