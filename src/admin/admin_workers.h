/* The admin service of several workers: calls the service of each and merges the answers. Same routes
 * as admin.h; ids of connections are WORKER-ID. */
#ifndef ADMIN_ADMIN_WORKERS_H
#define ADMIN_ADMIN_WORKERS_H

#include "admin/collect.h"

/* http_handler; ctx is the struct admin_workers. */
void admin_workers_request(void *ctx, struct stream *s, struct http_request *rq,
                           const struct peer_address *client);
/* The same for `admin_public`: /healthz, /readyz and /metrics, which are only read. */
void admin_workers_probe_request(void *ctx, struct stream *s, struct http_request *rq,
                                 const struct peer_address *client);

#endif
