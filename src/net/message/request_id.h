/* What names one request, for clients and in the log: X-Request-Id. Pure. */
#ifndef NET_MESSAGE_REQUEST_ID_H
#define NET_MESSAGE_REQUEST_ID_H

#include "base/hash.h"
#include "net/message/http_request.h"

enum { REQUEST_ID_MAX = 64 };

#define REQUEST_ID_FIELD "X-Request-Id: "

struct request_id {
    char text[REQUEST_ID_MAX + 1];
};

/* The broker's own for a stream: equal for equal streams, and who knows some of them cannot tell others. */
void request_id_make(const struct hash_key *key, uint64_t stream, struct request_id *out);
/* The one in the request; absent: there is none, or none that is fit for a log and a field. For
 * requests of those who are trusted only. */
struct slice request_id_given(const struct http_request *rq);
/* The one at the start of the fields that an answer has besides; absent: they begin with another. */
struct slice request_id_of_fields(struct slice fields);
/* Appends it as such a field, where the request has been given one. 0, or what strbuf says. */
__attribute__((warn_unused_result)) int request_id_put(const struct http_request *rq,
                                                       struct strbuf *fields);

#endif
