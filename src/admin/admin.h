/* The admin service of a worker, for operators and their tools. http_handler of a server of its own,
 * on a loopback address or a Unix socket. It has no authentication: anyone who can connect may use
 * it.
 *
 *   GET /healthz /readyz /metrics /status /connections[?limit=n&client=...&topic=...&tag=...
 *       &who.FIELD=...]
 *   DELETE /connections?tag=...[&reason=...]    POST /connections/resubscribe?tag=...    (and client=, topic=,
 *       who.FIELD=)
 *   DELETE /connections/{id}    POST /connections/{id}/resubscribe
 *   GET /connections/{id}/explain?event=ID    POST /connections/{id}/explain
 *   POST /policy/reload[?dry_run=1][&force=1]
 *   POST /policy/rollback    POST /policy/resubscribe    POST /erase    POST /drain
 *
 * Each of several workers has its own, which only admin_workers.h calls. */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "admin/answers/admin_service.h"

/* http_handler; ctx is the struct admin. */
void admin_request(void *ctx, struct stream *s, struct http_request *rq,
                   const struct peer_address *client);
/* The same for `admin_public`: /healthz, /readyz and /metrics, which are only read. */
void admin_probe_request(void *ctx, struct stream *s, struct http_request *rq,
                         const struct peer_address *client);

#endif
