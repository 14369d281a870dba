/* Merges the metrics pages of all workers into one page. Remembers the counters of a worker that was
 * restarted, so that sums never decrease. Pure. */
#ifndef ADMIN_METRICS_METRICS_SUM_H
#define ADMIN_METRICS_METRICS_SUM_H

#include "base/slice.h"
#include "base/strbuf.h"

#include <stdbool.h>

struct metrics_sum;

struct metrics_sum *metrics_sum_new(unsigned workers);
void metrics_sum_free(struct metrics_sum *m);
/* Call it before the pages of one scrape are added. */
void metrics_sum_begin(struct metrics_sum *m);
/* Adds the page of worker `index` (from 0). Lines that cannot be parsed are left out. */
void metrics_sum_add(struct metrics_sum *m, unsigned index, struct slice page);
/* Appends the merged page: every series once for all workers (the sum; the maximum or minimum where a
 * sum would mean nothing), then the values of each worker for series without labels, as
 * tidegate_worker_NAME{worker=}. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int metrics_sum_render(const struct metrics_sum *m,
                                                           struct strbuf *out);

#endif
