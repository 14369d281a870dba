/* The JSON documents of the admin service, built with jansson, and the parts of which all of them are
 * made. A part is NULL when memory is short, like jansson's own constructors: its setters fail on
 * NULL, which shows in the sum of their results. */
#ifndef ADMIN_ANSWERS_ADMIN_JSON_H
#define ADMIN_ANSWERS_ADMIN_JSON_H

#include "admin/answers/admin_service.h"
#include "admin/answers/connection_filter.h"
#include "base/strbuf.h"
#include "broker/broker.h"
#include "net/client/backend_call.h"

#include <jansson.h>

enum {
    ADMIN_JSON_MAX_BYTES =
        BACKEND_CALL_BODY_MAX_BYTES, /* the admin process must be able to read it */
};

/* Appends the document of /connections: of the streams that match at most so many as the filter says, fewer
 * if their grants are large; "truncated" says so. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int
admin_json_connections(const struct admin *a, const struct connection_filter *filter,
                       struct strbuf *out);

/* Appends the document of an order about the policy, with a list `workers` if the worker answers operators
 * itself (`alone`). 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int admin_json_policy(const struct policy_report *r, bool alone,
                                                          struct strbuf *out);

/* ---- parts */

/* Absent: null. */
json_t *admin_json_string(const char *value);
/* The same, and "(not UTF-8)" for what JSON cannot hold. */
json_t *admin_json_text(struct slice value);
/* Its interval in seconds; null: none. */
json_t *admin_json_every(const struct broker_connection *c);
/* Ids and positions are strings. */
json_t *admin_json_id(uint64_t id);
json_t *admin_json_count(uint64_t value);
/* To the millisecond. */
json_t *admin_json_seconds(double value);
/* "1-NUMBER"; a worker that does not answer operators itself says "NUMBER" to the admin process. */
json_t *admin_json_connection_id(bool alone, uint64_t id);
json_t *admin_json_time(int64_t unix_ms);
json_t *admin_json_topics(const struct broker_connection *c);
/* The fields of the identity that operators may see. */
json_t *admin_json_who(struct slice identity, const struct identity_shown *shown);
/* The params are JSON text already; as a string if they do not parse. */
json_t *admin_json_params(struct slice params);
/* Takes `root`; `failed`: a part of it could not be made. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int admin_json_dump(json_t *root, int failed,
                                                        struct strbuf *out);

#endif
