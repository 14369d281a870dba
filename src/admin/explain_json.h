/* The document of /connections/{id}/explain: what broker/explain.h found out, with a text for each
 * step that people can read as it is. */
#ifndef ADMIN_EXPLAIN_JSON_H
#define ADMIN_EXPLAIN_JSON_H

#include "admin/admin_service.h"
#include "base/strbuf.h"
#include "broker/explain.h"

/* Of an explanation that did not fail. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int
explain_json(const struct explanation *x, const struct admin_state *st, struct strbuf *out);

#endif
