/* What operators see of quotas and rates. */
#ifndef ADMIN_ANSWERS_QUOTA_JSON_H
#define ADMIN_ANSWERS_QUOTA_JSON_H

#include "quota/shared_area.h"

#include <jansson.h>

/* {"streams", "keys", "most", "full_keys", "full": [{"key", "streams", "max", "denied"}, ...]}, of all workers. A
 * new reference; NULL: no memory. */
json_t *quota_json(const struct shared_area *area);
/* {"keys", "most"} */
json_t *rates_json(const struct shared_area *area);

#endif
