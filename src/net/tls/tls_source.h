/* Where a listener's certificates come from: loads them, watches their files, and loads them again when they
 * have changed. Certificate and key are two files: while they do not match, somebody is still writing, and the
 * earlier pair stays. */
#ifndef NET_TLS_TLS_SOURCE_H
#define NET_TLS_TLS_SOURCE_H

#include "net/loop.h"
#include "net/metrics.h"
#include "net/tls/tls_context.h"

struct tls_source;

/* `opt`, `tickets` and `metrics` are borrowed until tls_source_close(). UV_EINVAL: `e` says what is wrong with the
 * files. */
int tls_source_open(struct loop *loop, const struct tls_listener_options *opt,
                    struct tls_ticket_chain *tickets, struct net_metrics *metrics,
                    struct tls_source **out, struct err *e);
/* For a new connection; borrowed for the moment. */
struct tls_context *tls_source_current(const struct tls_source *s);
/* Connections keep the context that they have. NULL is fine. */
void tls_source_close(struct tls_source *s);

#endif
