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

#endif
