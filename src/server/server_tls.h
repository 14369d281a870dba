/* What the configured listeners have of their own: certificates above all, and the keys of tickets. */
#ifndef SERVER_SERVER_TLS_H
#define SERVER_SERVER_TLS_H

#include "config/config.h"
#include "net/http/listener.h"

struct server_tls {
    struct tls_ticket_chain own;   /* of a broker without other workers */
    struct server_tls_listener *v; /* one for each entry of `listen`; owned */
    size_t n;
};

/* `shared`: the chain of all workers; NULL: there is one. Borrows `cfg`, `shared` and `metrics` until
 * server_tls_clear(). On failure there is nothing to clear; `e` says which listener and what is wrong. */
int server_tls_open(struct server_tls *t, const struct config *cfg, struct loop *loop,
                    struct tls_ticket_chain *shared, struct net_metrics *metrics, struct err *e);
/* Of entry `i` of `listen`. NULL: it has none. */
const struct listener_options *server_tls_of(const struct server_tls *t, size_t i);
/* Stops watching files. */
void server_tls_close(struct server_tls *t);
/* When no connection is left. */
void server_tls_clear(struct server_tls *t);

/* A problem of the setting `at`, such as "listen[1].tls[2]"; `is_error`: the broker does not start with it. Both texts
 * are borrowed for the call. */
typedef void (*server_tls_found_cb)(void *ctx, bool is_error, const char *at, const char *text);

/* For `tidegate check`: reports each problem of the certificates of `cfg`, reading each file once. */
void server_tls_check(const struct config *cfg, server_tls_found_cb found, void *ctx);

#endif
