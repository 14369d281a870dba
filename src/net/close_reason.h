/* Why a connection or stream ended: one closed set for logs, metrics and the disconnect hook. */
#ifndef NET_CLOSE_REASON_H
#define NET_CLOSE_REASON_H

#include <stdbool.h>
#include <uv.h>

/* X(enumerator, name in logs and metrics, help) */
#define CLOSE_REASONS(X)                                                                           \
    X(CLIENT_CLOSED, "client-closed", "the client closed")                                         \
    X(CLIENT_ERROR, "client-error", "reading or writing failed: reset")                            \
    X(ANSWERED, "answered", "the last answer was sent on a connection that is not persistent")     \
    X(REFUSED_REQUEST, "refused-request", "a malformed or oversized request")                      \
    X(TLS_HANDSHAKE, "tls-handshake", "the TLS handshake failed")                                  \
    X(FLOOD, "flood", "more control frames than any client needs")                                 \
    X(HEAD_TIMEOUT, "head-timeout", "no complete request head in time")                            \
    X(BODY_TIMEOUT, "body-timeout", "no complete request body in time")                            \
    X(IDLE_TIMEOUT, "idle-timeout", "no further request in time")                                  \
    X(GAVE_WAY, "gave-way",                                                                        \
      "the admin service was full, and this connection waited for its client")                     \
    X(DEAD_PEER, "dead-peer", "the peer took no byte for dead_peer_s, or cannot be reached")       \
    X(LAGGED, "lagged", "further behind than max_lag, on_lag = close")                             \
    X(GRANT_EXPIRED, "grant-expired", "the identity's `expires` has passed")                       \
    X(REVOKED, "revoked", "the policy withdrew what it had granted")                               \
    X(QUOTA, "quota", "a newer stream took its place: see `quota` of subscriptions")               \
    X(POLICY_RELOAD, "policy-reload", "another policy took effect: told to reconnect")             \
    X(ENDED, "ended", "it was given all that it was for: `ends` of subscriptions, until=, limit=") \
    X(DENIED, "denied", "the policy denied the request")                                           \
    X(TRANSIENT, "transient", "a refusal the client should retry: store, policy error, overload")  \
    X(DRAINING, "draining", "the broker is shutting down")                                         \
    X(ADMIN, "admin", "an operator closed it")                                                     \
    X(NO_MEMORY, "no-memory", "memory was short")

enum close_reason {
#define X(e, name, help) CLOSE_##e,
    CLOSE_REASONS(X)
#undef X
        CLOSE_REASON_COUNT
};

static inline const char *close_reason_name(enum close_reason why)
{
    static const char *const names[] = {
#define X(e, name, help) name,
        CLOSE_REASONS(X)
#undef X
    };
    return why < CLOSE_REASON_COUNT ? names[why] : "unknown";
}

/* It was nobody's will: the client should see that its stream did not just end. */
static inline bool close_reason_is_failure(enum close_reason why)
{
    return why == CLOSE_NO_MEMORY || why == CLOSE_CLIENT_ERROR || why == CLOSE_DEAD_PEER;
}

/* The reason for a failed read or write (negative UV_E*). When the peer does not acknowledge data in
 * time (TCP_USER_TIMEOUT), the kernel reports the last error of the network, or ETIMEDOUT if there
 * was none. */
static inline enum close_reason close_reason_of(ssize_t rc)
{
    switch (rc) {
    case UV_ETIMEDOUT:
    case UV_EHOSTUNREACH:
    case UV_EHOSTDOWN:
    case UV_ENETUNREACH:
    case UV_ENETDOWN:
        return CLOSE_DEAD_PEER;
    default:
        return CLOSE_CLIENT_ERROR;
    }
}

#endif
