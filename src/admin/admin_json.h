/* The JSON documents of the admin service, built with jansson. */
#ifndef ADMIN_ADMIN_JSON_H
#define ADMIN_ADMIN_JSON_H

#include "admin/admin_service.h"
#include "base/strbuf.h"
#include "net/client/backend_call.h"

enum {
    ADMIN_JSON_MAX_BYTES =
        BACKEND_CALL_BODY_MAX_BYTES, /* the admin process must be able to read it */
};

/* Appends the document of /status. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int admin_json_status(const struct admin *a,
                                                          struct strbuf *out);
/* Appends the document of /connections: at most `limit` streams, fewer if their grants are large;
 * "truncated" says so. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int admin_json_connections(const struct admin *a, size_t limit,
                                                               struct strbuf *out);

int admin_json_policy(const struct policy_report *r, struct strbuf *out);

#endif
