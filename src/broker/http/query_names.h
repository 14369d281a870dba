/* Names of query parameters. A misspelt one would be ignored, which can mean all topics instead of one. */
#ifndef BROKER_HTTP_QUERY_NAMES_H
#define BROKER_HTTP_QUERY_NAMES_H

#include "base/slice.h"
#include "net/message/http_query.h"

#include <stdbool.h>

/* What may be there besides the broker's own names. Borrowed. */
struct query_names {
    char *const *params; /* http.query_params; not empty: nothing else may be there */
    size_t param_count;
    char *const *credentials; /* policy.credential_params */
    size_t credential_count;
};

/* Does the query have a name that nobody reads, or one that nearly is the broker's own? Then `detail` says so,
 * and which was meant. */
bool query_names_bad(const struct query_names *names, const struct http_query *q, bool publish,
                     char *detail, size_t size);
/* Does `query`, as sent, have "topic=a,b", which is one topic? */
bool query_names_topic_list(struct slice query, char *detail, size_t size);

#endif
