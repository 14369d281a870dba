/* Reads figures out of a page of /metrics (Prometheus text, as this program writes it). Pure. */
#ifndef REMOTE_CLIENT_METRICS_PAGE_H
#define REMOTE_CLIENT_METRICS_PAGE_H

#include <stdbool.h>

/* The sum of all series of that name, whatever their labels; `label` not NULL: only of those that have it,
 * as `worker="2"`. `*found`: there is one. */
double metrics_page_sum(const char *page, const char *name, const char *label, bool *found);

#endif
