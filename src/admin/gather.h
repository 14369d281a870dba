/* Answers of several workers, made into one. Each of these answers the stream later, unless it has
 * gone by then. */
#ifndef ADMIN_GATHER_H
#define ADMIN_GATHER_H

#include "admin/admin_workers.h"

void gather_ready(struct admin_workers *a, struct stream *s);
void gather_metrics(struct admin_workers *a, struct stream *s);
void gather_status(struct admin_workers *a, struct stream *s);
/* At most `limit` of all. */
void gather_connections(struct admin_workers *a, struct stream *s, uint64_t limit);
/* Ends connection `id` of worker `worker` (from 0). */
void gather_delete(struct admin_workers *a, struct stream *s, unsigned worker, uint64_t id);
/* The policy is asked again about that connection. */
void gather_review(struct admin_workers *a, struct stream *s, unsigned worker, uint64_t id);
/* Why that connection got, or did not get, event `event`; or the one in the body of `rq`. */
void gather_explain(struct admin_workers *a, struct stream *s, unsigned worker, uint64_t id,
                    uint64_t event);
void gather_explain_given(struct admin_workers *a, struct stream *s, unsigned worker, uint64_t id,
                          const struct http_request *rq);
/* The same order (a POST) to all. */
void gather_order(struct admin_workers *a, struct stream *s, const char *target);
/* A reload: only when all of them would. */
void gather_reload(struct admin_workers *a, struct stream *s, bool dry_run, bool force);

#endif
