/* The metrics pages of all workers -> one page. Keeps what it saw: a counter of a worker that was
 * started anew goes on where it was, so that sums never go back. Pure. */
#ifndef ADMIN_METRICS_SUM_H
#define ADMIN_METRICS_SUM_H

#include "base/slice.h"
#include "base/strbuf.h"

#include <stdbool.h>

struct metrics_sum;

struct metrics_sum *metrics_sum_new(unsigned workers);
void metrics_sum_free(struct metrics_sum *m);
/* Before the pages of one scrape are put in. */
void metrics_sum_begin(struct metrics_sum *m);
/* The page of worker `index` (from 0). Lines that are not understood are left out. */
void metrics_sum_add(struct metrics_sum *m, unsigned index, struct slice page);
/* Appends the page: every series once for all workers (sums; the greatest or least where a sum
 * would mean nothing), then each worker's own of those without labels, as
 * tidegate_worker_NAME{worker=}. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int metrics_sum_render(const struct metrics_sum *m,
                                                           struct strbuf *out);

#endif
