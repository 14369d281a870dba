/* The document of /connections/{id}/explain: the result of broker/explain.h, with a readable text for
 * each step. */
#ifndef ADMIN_ANSWERS_EXPLAIN_JSON_H
#define ADMIN_ANSWERS_EXPLAIN_JSON_H

#include "admin/answers/admin_service.h"
#include "base/strbuf.h"
#include "broker/explain.h"

/* `x` must be an explanation that did not fail. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int explain_json(const struct explanation *x,
                                                     const struct admin *a,
                                                     const struct admin_state *st,
                                                     struct strbuf *out);

#endif
