/* Requests that change the policy. They take time: the answer is sent when they are done. */
#ifndef ADMIN_ADMIN_POLICY_H
#define ADMIN_ADMIN_POLICY_H

#include "admin/answers/admin_service.h"

/* POST /policy/reload[?dry_run=1][&force=1] */
void admin_policy_reload(const struct admin *a, struct stream *s, const struct http_request *rq);

/* Reads the options of a reload from the query; false: it is wrong, and was answered with 400. */
bool admin_policy_order(struct stream *s, const struct http_request *rq, struct policy_order *out);
/* POST /policy/rollback */
void admin_policy_rollback(const struct admin *a, struct stream *s);

#endif
