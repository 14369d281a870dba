/* What a worker says of itself in /status. */
#ifndef ADMIN_ANSWERS_WORKER_JSON_H
#define ADMIN_ANSWERS_WORKER_JSON_H

#include "admin/answers/admin_service.h"
#include "base/strbuf.h"

/* Appends the document of /status with one entry in `workers`, this worker. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int worker_json_status(const struct admin *a,
                                                           struct strbuf *out);

#endif
