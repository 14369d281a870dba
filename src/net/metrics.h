/* Counters and gauges of the net folder; admin/metrics/metrics.c prints them. Plain integers: one thread.
 */
#ifndef NET_METRICS_H
#define NET_METRICS_H

#include "net/close_reason.h"
#include "net/tls_failure.h"

#include <stddef.h>
#include <stdint.h>

/* X(member, kind, name, help). Kind: counter or gauge. The values of several workers are added up.
 * _max or _min after the kind: the maximum or minimum is taken, because a sum would mean nothing. */
#define NET_METRICS(X)                                                                             \
    X(connections, gauge, "tidegate_connections", "Open client connections.")                      \
    X(accepted, counter, "tidegate_connections_accepted_total", "Connections accepted.")           \
    X(accept_paused, counter, "tidegate_accept_paused_total",                                      \
      "Times accepting paused: connection limit reached or no file descriptor left.")              \
    X(requests, counter, "tidegate_http_requests_total", "Complete HTTP requests.")                \
    X(answers_2xx, counter, "tidegate_http_answers_total{class=\"2xx\"}",                          \
      "Answers by class of their status, opened streams and the admin service's among them.")      \
    X(answers_3xx, counter, "tidegate_http_answers_total{class=\"3xx\"}", "")                      \
    X(answers_4xx, counter, "tidegate_http_answers_total{class=\"4xx\"}", "")                      \
    X(answers_5xx, counter, "tidegate_http_answers_total{class=\"5xx\"}", "")                      \
    X(bad_requests, counter, "tidegate_http_bad_requests_total",                                   \
      "Requests refused by the HTTP parser.")                                                      \
    X(too_many_per_address, counter, "tidegate_refused_per_address_total",                         \
      "Connections, and requests behind trusted proxies, refused because their address has as "    \
      "many as limits.max_connections_per_address allows.")                                        \
    X(too_fast_connections, counter, "tidegate_refused_too_fast_total{what=\"connections\"}",      \
      "New connections (and requests but publishes behind trusted proxies), and publishes, "       \
      "refused because of limits.new_connections_per_address_per_s and "                           \
      "limits.publishes_per_address_per_s.")                                                       \
    X(too_fast_publishes, counter, "tidegate_refused_too_fast_total{what=\"publishes\"}", "")      \
    X(misdirected, counter, "tidegate_http_misdirected_total",                                     \
      "Requests to a loopback address refused because they ask for another host: http.hosts.")     \
    X(foreign_tls, counter, "tidegate_http_foreign_total{kind=\"tls\"}",                           \
      "Connections refused because they began with something that the listener does not expect: "  \
      "TLS, the PROXY protocol, HTTP/2 where it is off.")                                          \
    X(foreign_proxy, counter, "tidegate_http_foreign_total{kind=\"proxy\"}", "")                   \
    X(foreign_h2, counter, "tidegate_http_foreign_total{kind=\"h2\"}", "")                         \
    X(bodies_bytes, gauge, "tidegate_http_bodies_bytes",                                           \
      "Bytes of request bodies that are under way.")                                               \
    X(bodies_refused, counter, "tidegate_http_bodies_refused_total",                               \
      "Requests refused because too many bytes of bodies were under way: limits.bodies_bytes.")    \
    X(bytes_in, counter, "tidegate_received_bytes_total", "Bytes read from clients.")              \
    X(bytes_out, counter, "tidegate_sent_bytes_total", "Bytes handed to the kernel for clients.")  \
    X(writes, counter, "tidegate_writes_total", "Write system calls on client sockets.")           \
    X(writes_blocked, counter, "tidegate_writes_blocked_total",                                    \
      "Writes the peer did not take in full at once.")                                             \
    X(h2_connections, gauge, "tidegate_h2_connections", "Open connections that speak HTTP/2.")     \
    X(h2_streams, gauge, "tidegate_h2_streams", "Open streams of HTTP/2: requests and answers.")   \
    X(h2_glitches, counter, "tidegate_h2_glitches_total",                                          \
      "Frames of HTTP/2 that a well-behaved client seldom sends, and resets that its errors made " \
      "necessary.")                                                                                \
    X(h2_floods, counter, "tidegate_h2_floods_total",                                              \
      "Connections ended with ENHANCE_YOUR_CALM because of too many of those.")                    \
    X(h2_resets_received, counter, "tidegate_h2_resets_received_total",                            \
      "Streams that the client reset.")                                                            \
    X(h2_resets_sent, counter, "tidegate_h2_resets_sent_total", "Streams that the broker reset.")  \
    X(h2_streams_refused, counter, "tidegate_h2_streams_refused_total",                            \
      "Streams refused because each counts as a connection, and there were too many of those.")    \
    X(http_client_active, gauge, "tidegate_http_client_active", "Outbound requests on the wire.")  \
    X(http_client_queued, gauge, "tidegate_http_client_queued",                                    \
      "Outbound requests that wait for others to end.")                                            \
    X(http_client_requests, counter, "tidegate_http_client_requests_total",                        \
      "Outbound requests accepted.")                                                               \
    X(http_client_errors, counter, "tidegate_http_client_errors_total",                            \
      "Outbound requests without a complete answer.")                                              \
    X(http_client_shed, counter, "tidegate_http_client_shed_total",                                \
      "Outbound requests refused because too many were in progress.")                              \
    X(proxy_refused, counter, "tidegate_proxy_protocol_refused_total",                             \
      "Connections without the right header on listeners with proxy_protocol.")                    \
    X(tls_handshakes, counter, "tidegate_tls_handshakes_total", "TLS handshakes completed.")       \
    X(tls_resumed, counter, "tidegate_tls_resumed_total",                                          \
      "TLS handshakes that went on with an earlier session.")                                      \
    X(tls_compact, gauge, "tidegate_tls_compact_connections",                                      \
      "TLS connections that keep no more than their keys (tls.compact).")                          \
    X(tls_broken, counter, "tidegate_tls_broken_total",                                            \
      "TLS connections ended after the handshake by a record that was forged or not allowed, or "  \
      "by an alert of the client.")                                                                \
    X(tls_waiting, gauge, "tidegate_tls_handshakes_waiting",                                       \
      "TLS handshakes that wait for a thread.")                                                    \
    X(tls_active, gauge, "tidegate_tls_handshakes_active", "TLS handshakes on a thread.")          \
    X(tls_reloads, counter, "tidegate_tls_reloads_total",                                          \
      "Times changed certificates were loaded.")                                                   \
    X(tls_reload_failures, counter, "tidegate_tls_reload_failures_total",                          \
      "Times changed certificates could not be loaded: the earlier ones stay.")

enum { NET_CERTIFICATES_MAX = 64, NET_CERTIFICATE_NAME_BYTES = 128 };

/* tidegate_tls_certificate_not_after_seconds{certificate=} */
struct net_certificate {
    char name[NET_CERTIFICATE_NAME_BYTES]; /* its file, or the end of that */
    int64_t not_after;                     /* Unix time */
};

struct net_metrics {
#define X(member, kind, name, help) uint64_t member;
    NET_METRICS(X)
#undef X
    uint64_t closed[CLOSE_REASON_COUNT];      /* tidegate_connections_closed_total{reason=} */
    uint64_t too_fast_requests;               /* tidegate_admin_public_too_fast_total */
    uint64_t tls_failures[TLS_FAILURE_COUNT]; /* tidegate_tls_handshake_failures_total{reason=} */
    struct net_certificate certificates[NET_CERTIFICATES_MAX];
    size_t certificate_count;
};

static inline void net_metrics_count_answer(struct net_metrics *m, int status)
{
    uint64_t *of_class[] = {&m->answers_2xx, &m->answers_3xx, &m->answers_4xx, &m->answers_5xx};
    int class = status / 100 - 2;
    if (class >= 0 && class < 4) {
        ++*of_class[class];
    }
}

#endif
