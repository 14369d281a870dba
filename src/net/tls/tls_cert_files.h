/* Where a listener's certificates come from: loads them, watches their files, and loads them again when they
 * have changed. Certificate and key are two files: while they do not match, somebody is still writing, and the
 * earlier pair stays. */
#ifndef NET_TLS_TLS_CERT_FILES_H
#define NET_TLS_TLS_CERT_FILES_H

#include "net/loop.h"
#include "net/metrics.h"
#include "net/tls/tls_context.h"

struct tls_cert_files;

/* `opt`, `tickets` and `metrics` are borrowed until tls_cert_files_close(). UV_EINVAL: `e` says what is wrong with the
 * files. */
int tls_cert_files_open(struct loop *loop, const struct tls_listener_options *opt,
                        struct tls_ticket_chain *tickets, struct net_metrics *metrics,
                        struct tls_cert_files **out, struct err *e);
/* For a new connection; borrowed for the moment. */
struct tls_context *tls_cert_files_current(const struct tls_cert_files *s);
/* Connections keep the context that they have. NULL is fine. */
void tls_cert_files_close(struct tls_cert_files *s);

#endif
