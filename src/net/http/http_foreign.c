#include "net/http/http_foreign.h"

#include "base/logging.h"
#include "base/require.h"
#include "net/proxy_header.h"

#include <string.h>

static const struct {
    const char *name, *text;
    int status;
} http_foreign_kinds[HTTP_FOREIGN_COUNT] = {
    [HTTP_FOREIGN_TLS] =
        {"tls",
         "this port speaks HTTP without TLS: use http:// in the URL, or give the listener certificates (tls)",
         400},
    [HTTP_FOREIGN_PROXY] =
        {"proxy",
         "this listener does not expect the PROXY protocol: set proxy_protocol = true for it", 400},
    [HTTP_FOREIGN_H2] = {"h2", "HTTP/2 is not served here: use HTTP/1.1", 505},
};

enum http_foreign http_foreign_of(const struct conn *c, const char *data, size_t len)
{
    static const char preface[] = "PRI * HTTP/2";
    if (c->layer) {
        return HTTP_FOREIGN_COUNT;
    }
    if (len >= 3 && data[0] == 22 && data[1] == 3) {
        return HTTP_FOREIGN_TLS;
    }
    if (proxy_header_begins(data, len)) {
        return HTTP_FOREIGN_PROXY;
    }
    bool h2 = len >= sizeof preface - 1 && memcmp(data, preface, sizeof preface - 1) == 0;
    return h2 && !c->server->opt.h2 ? HTTP_FOREIGN_H2 : HTTP_FOREIGN_COUNT;
}

static uint64_t *http_foreign_counter(struct net_metrics *m, enum http_foreign kind)
{
    return kind == HTTP_FOREIGN_TLS     ? &m->foreign_tls
           : kind == HTTP_FOREIGN_PROXY ? &m->foreign_proxy
                                        : &m->foreign_h2;
}

int http_foreign_note(const struct conn *c, enum http_foreign kind, const char **text)
{
    struct http_server *s = c->server;
    char peer[ADDRESS_TEXT_MAX], at[ADDRESS_LISTEN_TEXT_MAX];
    uint64_t *count = http_foreign_counter(s->metrics, kind);
    REQUIRE(kind < HTTP_FOREIGN_COUNT);
    *text = http_foreign_kinds[kind].text;
    s->metrics->bad_requests++;
    ++*count;
    if (log_pace_take(&s->foreign_pace[kind], loop_now(s->loop))) {
        peer_address_text(&c->peer, peer);
        local_address_text(&c->handle.stream, at);
        log_warn("http", "refused what is not HTTP",
                 LOG_F(log_str("kind", http_foreign_kinds[kind].name), log_str("address", at),
                       log_str("peer", peer), log_str("why", *text), log_uint("refused", *count)));
    }
    return http_foreign_kinds[kind].status;
}
