/* What the broker keeps of a request for an event stream, so that the policy can be asked about the
 * stream again: the query without credentials, and the identity. One block of memory, immutable,
 * shared by reference count; path, method and address are known otherwise. */
#ifndef BROKER_KEPT_H
#define BROKER_KEPT_H

#include "base/slice.h"
#include "base/strbuf.h"
#include "net/http/http_query.h"

#include <stdint.h>

struct kept {
    uint32_t refs, query_bytes, identity_bytes;
    char bytes[]; /* "name\0value\0" of each parameter, then the identity */
};

/* Parameters whose names are never kept. */
struct kept_rules {
    char *const *credential_params;
    size_t count;
};

/* Appends the query as it is kept. 0, or negative as strbuf_append(). */
int kept_pack(struct strbuf *out, const struct http_query *query, const struct kept_rules *rules);
/* `query` as kept_pack() made it; `identity` canonical JSON, absent: "{}". */
struct kept *kept_new(struct slice query, struct slice identity);
struct kept *kept_ref(struct kept *k);
void kept_unref(struct kept *k); /* NULL is fine */
struct slice kept_identity(const struct kept *k);
/* Points into `k`; http_query_clear() it. */
void kept_query(const struct kept *k, struct http_query *out);

#endif
