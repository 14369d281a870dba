/* What the broker keeps of a request for an event stream, so that the policy can be asked about the
 * stream again: the query without credentials, the identity, the path where it is not that of all streams
 * (http.events_path), what it has published, and the mark it was granted. One block of memory, immutable, shared by reference count; method and address are known
 * otherwise. */
#ifndef POLICY_SAVED_REQUEST_H
#define POLICY_SAVED_REQUEST_H

#include "base/slice.h"
#include "base/strbuf.h"
#include "net/message/http_query.h"

#include <stdint.h>

struct saved_request {
    uint32_t refs, identity_bytes;
    uint32_t query_bytes : 30; /* of everything before the identity */
    uint32_t published : 1, mark : 1;
    /* "published\0" or nothing; "mark\0" or nothing; "path\0" or nothing; "name\0value\0" of each parameter; then the identity */
    char bytes[];
};

/* Parameters whose names are never kept. */
struct saved_request_rules {
    char *const *credential_params;
    size_t count;
};

bool saved_request_is_credential(const struct saved_request_rules *rules, struct slice name);
/* Appends the query as it is kept. `path`: absent: that of all streams. 0, or negative as strbuf_append(). */
int saved_request_pack(struct strbuf *out, struct slice path, const struct http_query *query,
                       const struct saved_request_rules *rules);
/* `query` as saved_request_pack() made it; `identity` canonical JSON, absent: "{}"; `published`: see
 * policy_request, absent: nothing; `mark`: absent: none. */
struct saved_request *saved_request_new(struct slice query, struct slice identity,
                                        struct slice published, struct slice mark);
struct saved_request *saved_request_ref(struct saved_request *k);
void saved_request_unref(struct saved_request *k); /* NULL is fine */
struct slice saved_request_identity(const struct saved_request *k);
/* Points into `k`; http_query_clear() it. */
void saved_request_query(const struct saved_request *k, struct http_query *out);
/* Absent: it has published nothing. */
struct slice saved_request_published(const struct saved_request *k);
/* Absent: it had none. That of a stream may have changed since. */
struct slice saved_request_mark(const struct saved_request *k);
/* Absent: that of all streams. */
struct slice saved_request_path(const struct saved_request *k);

#endif
