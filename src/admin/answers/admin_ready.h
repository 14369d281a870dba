/* Whether a worker serves, and what is wrong with it. */
#ifndef ADMIN_ANSWERS_ADMIN_READY_H
#define ADMIN_ANSWERS_ADMIN_READY_H

#include "admin/answers/admin_service.h"
#include "base/strbuf.h"

/* Appends what keeps the worker from serving, such as "draining; no policy is loaded"; nothing when it is
 * ready. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int
admin_not_ready(const struct admin *a, const struct admin_state *st, struct strbuf *why);
/* Appends a line "degraded: ..." for each thing that is wrong although the worker is ready: taking it out
 * of service would not mend it. Call it only when the worker is ready. */
__attribute__((warn_unused_result)) int admin_degraded(const struct admin *a, struct strbuf *out);

#endif
