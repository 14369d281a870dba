/* The memory of request bodies that are under way, of one service together and of each client address.
 * Only what does not come along with its head is counted: that is what can be held for long. */
#ifndef NET_MESSAGE_HTTP_BODIES_H
#define NET_MESSAGE_HTTP_BODIES_H

#include "base/log_pace.h"
#include "net/address_limit.h"
#include "net/metrics.h"

struct http_bodies {
    struct net_metrics *metrics; /* borrowed */
    size_t bytes, most;          /* 0: no bound */
    size_t most_of_one; /* of one client address; Unix peers are exempt, they all have the same */
    struct address_limit *clients; /* owned */
    struct log_pace pace;          /* of lines about refused bodies */
};

#define HTTP_BODIES_FULL "too many bytes of request bodies are under way; try again later"

/* What one body holds. All zero: not counted. */
struct http_body_share {
    struct http_bodies *all;
    struct peer_address client;
    size_t bytes;
};

void http_bodies_init(struct http_bodies *b, struct net_metrics *metrics, size_t most,
                      size_t most_of_one);
/* No share may be left. */
void http_bodies_clear(struct http_bodies *b);

/* From now on the body counts. */
void http_body_share_begin(struct http_body_share *s, struct http_bodies *all,
                           const struct peer_address *client);
/* The body has `bytes` now. False, and counted as refused: there is no room for that. True where the
 * body is not counted. */
__attribute__((warn_unused_result)) bool http_body_share_grow(struct http_body_share *s,
                                                              size_t bytes);
void http_body_share_end(struct http_body_share *s);

#endif
