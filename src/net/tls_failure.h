/* Why TLS handshakes fail: one closed set for logs and metrics. */
#ifndef NET_TLS_FAILURE_H
#define NET_TLS_FAILURE_H

/* X(enumerator, name in logs and metrics, help) */
#define TLS_FAILURES(X)                                                                            \
    X(PLAIN_HTTP, "plain-http", "the client speaks HTTP without TLS")                              \
    X(NOT_TLS, "not-tls", "the client speaks neither TLS nor HTTP")                                \
    X(VERSION, "version", "the client knows neither TLS 1.2 nor 1.3")                              \
    X(CIPHER, "cipher", "no cipher in common")                                                     \
    X(ALPN, "alpn", "the client offers protocols by ALPN, none of them served here")               \
    X(CLIENT_CERT, "client-certificate", "no certificate of the client, or one not accepted")      \
    X(ALERT, "alert",                                                                              \
      "the client gave up, for instance because it does not trust the certificate")                \
    X(CLOSED, "closed", "the client left in the middle of it")                                     \
    X(TIMEOUT, "timeout", "the client did not finish in time")                                     \
    X(OTHER, "other", "anything else")

enum tls_failure_kind {
#define X(e, label, help) TLS_FAILURE_##e,
    TLS_FAILURES(X)
#undef X
        TLS_FAILURE_COUNT
};

static inline const char *tls_failure_name(enum tls_failure_kind kind)
{
    static const char *const names[] = {
#define X(e, label, help) label,
        TLS_FAILURES(X)
#undef X
    };
    return kind < TLS_FAILURE_COUNT ? names[kind] : "other";
}

#endif
