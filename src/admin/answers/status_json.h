/* The document of /status: the same for one worker and for several. */
#ifndef ADMIN_ANSWERS_STATUS_JSON_H
#define ADMIN_ANSWERS_STATUS_JSON_H

#include "base/strbuf.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

/* Adds to the entry of a worker what the worker itself does not know. Not 0: memory is short. */
__attribute__((warn_unused_result)) int status_json_describe(json_t *worker, unsigned number,
                                                             bool answers, unsigned restarts);
/* Appends the document. Takes `workers`, an array of entries, and `restart`, the state of the last rolling
 * restart. Counts are sums over the workers; what they have in common comes from the first one that
 * answers, the store from the first one whose store is not healthy. `failed`: a part could not be made.
 * `pid`: the process that gets signals. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int status_json(json_t *workers, int failed, pid_t pid,
                                                    json_t *restart, struct strbuf *out);

#endif
