/* Why a stream got, or did not get, an event. The answer may have to wait for the store. */
#ifndef ADMIN_ADMIN_EXPLAIN_H
#define ADMIN_ADMIN_EXPLAIN_H

#include "admin/answers/admin_service.h"

/* GET /connections/{id}/explain?event=ID */
void admin_explain_stored(const struct admin *a, struct stream *s, const struct http_request *rq,
                          uint64_t connection);
/* POST /connections/{id}/explain, with an event as for a publish */
void admin_explain_given(const struct admin *a, struct stream *s, const struct http_request *rq,
                         uint64_t connection);

#endif
