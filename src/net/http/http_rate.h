/* A limit of the configuration on how often each client address may do something: address_rate.h, with the metric
 * and the log lines of what is refused. What an address holds at a time is counted by address_limit.h. */
#ifndef NET_HTTP_HTTP_RATE_H
#define NET_HTTP_HTTP_RATE_H

#include "base/log_pace.h"
#include "net/address_rate.h"

struct http_rate_options {
    const char *setting; /* its name, for the log */
    unsigned per_s;      /* 0: no bound */
    unsigned burst;
    bool local_exempt; /* from that: peers on this machine */
    bool fixed;        /* no setting says how many: the log names what they ask */
};

struct http_rate {
    struct http_rate_options opt;
    struct address_rate *clients; /* owned; NULL: no bound */
    uint64_t *refused;            /* a metric; borrowed */
    struct log_pace pace;         /* of lines about refusals */
};

void http_rate_init(struct http_rate *r, const struct http_rate_options *opt, uint64_t *refused);
void http_rate_clear(struct http_rate *r);
/* `client` does it once more. False, counted and logged: it may not. */
__attribute__((warn_unused_result)) bool
http_rate_take(struct http_rate *r, const struct peer_address *client, uint64_t now_ms);

#endif
