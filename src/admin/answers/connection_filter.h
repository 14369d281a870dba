/* Which open streams an operator asks for: the query of /connections, read and applied. Pure. */
#ifndef ADMIN_ANSWERS_CONNECTION_FILTER_H
#define ADMIN_ANSWERS_CONNECTION_FILTER_H

#include "base/err.h"
#include "broker/broker_types.h"
#include "net/message/http_query.h"
#include "policy/identity.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    CONNECTION_FILTER_LIMIT_DEFAULT = 1000,
    CONNECTION_FILTER_LIMIT_MAX = 10000,
    CONNECTION_FILTER_WHO_MAX = 8,
};

/* All that is given must hold. */
struct connection_filter {
    struct http_query query;         /* owned: the texts below point into it */
    uint64_t limit;                  /* most streams to list */
    struct slice client, topic, tag; /* absent: any */
    struct slice reason;             /* of an order to end them: for their clients */
    struct http_param who[CONNECTION_FILTER_WHO_MAX];
    size_t who_count;
};

/* Reads "limit=10&client=192.0.2.1&topic=a&tag=room:7&who.sub=ann". Identities are asked for by the fields in
 * `shown` only. `order`: it selects streams that something is to happen to, so it must select some; there may
 * be a reason, and no limit. 0, or UV_EINVAL: `e` says what is wrong, and there is nothing to clear. */
int connection_filter_read(struct connection_filter *f, struct slice query,
                           const struct identity_shown *shown, bool order, struct err *e);
/* Is there anything that not all streams match? */
bool connection_filter_selects(const struct connection_filter *f);
void connection_filter_clear(struct connection_filter *f);
bool connection_filter_matches(const struct connection_filter *f,
                               const struct broker_connection *c);

#endif
