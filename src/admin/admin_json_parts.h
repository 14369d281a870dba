/* Parts of the JSON documents of the admin service. NULL when memory is short, like jansson's own
 * constructors: its setters fail on NULL, which shows in the sum of their results. */
#ifndef ADMIN_ADMIN_JSON_PARTS_H
#define ADMIN_ADMIN_JSON_PARTS_H

#include "base/strbuf.h"
#include "broker/broker.h"

#include <jansson.h>

/* Absent: null. */
json_t *admin_json_text(struct slice value);
/* Ids and positions are strings. */
json_t *admin_json_id(uint64_t id);
json_t *admin_json_time(int64_t unix_ms);
json_t *admin_json_topics(const struct broker_connection *c);
/* The params are JSON text already; as a string if they do not parse. */
json_t *admin_json_params(struct slice params);
/* Takes `root`; `failed`: a part of it could not be made. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int admin_json_dump(json_t *root, int failed,
                                                        struct strbuf *out);

#endif
