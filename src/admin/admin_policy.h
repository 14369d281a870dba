/* Orders about the policy, which take their time: the answer is given when they have been carried
 * out. */
#ifndef ADMIN_ADMIN_POLICY_H
#define ADMIN_ADMIN_POLICY_H

#include "admin/admin_service.h"

/* POST /policy/reload[?dry_run=1][&force=1] */
void admin_policy_reload(const struct admin *a, struct stream *s, const struct http_request *rq);

/* What a reload asks for; false: the query is wrong, and that was answered. */
bool admin_policy_order(struct stream *s, const struct http_request *rq, struct policy_order *out);
/* POST /policy/rollback */
void admin_policy_rollback(const struct admin *a, struct stream *s);

#endif
