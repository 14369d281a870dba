/* See config_advice.h. */
#include "config/config_advice.h"

#include "net/address.h"

#include <stdio.h>
#include <string.h>

enum { HTTPS_PORT = 443, ACME_PORT = 80 };

struct advice {
    config_advice_cb say;
    void *ctx;
};

/* What there is among the listeners. */
struct config_listeners {
    bool tls, plain, redirecting;
    bool unix_socket;  /* or one that the service manager passes: nobody knows */
    bool acme_reaches; /* one without TLS has the port of challenges, or may have it */
};

static void config_advice(const struct advice *a, const char *key, const char *text)
{
    a->say(a->ctx, true, key, text);
}

static unsigned config_port(const struct address *a)
{
    return ntohs(a->tcp.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&a->tcp)->sin6_port
                                              : ((const struct sockaddr_in *)&a->tcp)->sin_port);
}

static struct config_listeners config_listeners_of(const struct config *c)
{
    struct config_listeners all = {.tls = false};
    for (size_t i = 0; i < c->listen.n; i++) {
        const struct config_listener *l = &c->listen.v[i];
        struct address at = {.is_unix = false};
        struct err e = {0};
        bool known = address_parse(l->address, &at, &e) == 0;
        bool tcp = known && !at.is_unix && !at.by_name;
        bool plain = l->tls.n == 0;
        all.tls |= !plain;
        all.plain |= plain;
        all.redirecting |= l->redirect_https;
        all.unix_socket |= !tcp;
        all.acme_reaches |= plain && (!tcp || config_port(&at) == ACME_PORT);
    }
    return all;
}

static bool config_trusts_unix(const struct config *c)
{
    for (size_t i = 0; i < c->trusted_proxies.n; i++) {
        if (strcmp(c->trusted_proxies.v[i], "unix") == 0) {
            return true;
        }
    }
    return false;
}

/* ---------------------------------------------------------------- listeners */

static void config_advise_proxy(const struct advice *a, const struct config *c, size_t i)
{
    char key[64];
    const struct config_listener *l = &c->listen.v[i];
    if (!l->proxy_protocol) {
        return;
    }
    snprintf(key, sizeof key, "listen[%zu].proxy_protocol", i + 1);
    if (c->trusted_proxies.n == 0) {
        config_advice(a, key,
                      "every client may claim any address; name the proxy in trusted_proxies");
    } else if (strncmp(l->address, "unix:", strlen("unix:")) == 0 && !config_trusts_unix(c)) {
        config_advice(a, key,
                      "nobody may connect: only peers of trusted_proxies may, and those of a Unix "
                      "socket are not among them; add \"unix\" to trusted_proxies");
    }
}

static void config_advise_redirect(const struct advice *a, const struct config *c, size_t i,
                                   const struct config_listeners *all)
{
    char key[64];
    if (c->listen.v[i].redirect_https && !all->tls && c->trusted_proxies.n == 0) {
        snprintf(key, sizeof key, "listen[%zu].redirect_https", i + 1);
        config_advice(a, key,
                      "sends every client to https, which nothing here speaks; give a listener "
                      "certificates (tls), or name the proxy that does TLS in trusted_proxies");
    }
}

static void config_advise_trusted(const struct advice *a, const struct config *c,
                                  const struct config_listeners *all)
{
    if (config_trusts_unix(c) && !all->unix_socket) {
        config_advice(a, "trusted_proxies",
                      "\"unix\" has no effect: no listener is a Unix socket; remove it, or listen "
                      "on \"unix:/path\"");
    }
}

/* ---------------------------------------------------------------- HTTP and streams */

static void config_advise_acme(const struct advice *a, const struct config *c,
                               const struct config_listeners *all)
{
    static const char key[] = "http.acme_webroot";
    if (!c->http.acme_webroot || all->acme_reaches || c->trusted_proxies.n) {
        return; /* or a proxy passes them on */
    }
    if (!all->plain) {
        config_advice(a, key,
                      "has no effect: challenges come without TLS, to port 80, and every listener "
                      "has tls; add { address = \"0.0.0.0:80\", redirect_https = true } to listen");
    } else {
        a->say(a->ctx, false, key,
               "challenges come to port 80, which no listener has: they arrive only if something "
               "passes that port on to the broker; else add { address = \"0.0.0.0:80\", "
               "redirect_https = true } to listen");
    }
}

static void config_advise_http(const struct advice *a, const struct config *c,
                               const struct config_listeners *all)
{
    if (c->http.hsts_s && !all->tls) {
        config_advice(a, "http.hsts_s",
                      "has no effect: it goes out with answers by TLS, and no listener has "
                      "certificates; give one tls, or let the proxy that does TLS send "
                      "Strict-Transport-Security");
    }
    if (c->http.https_port != HTTPS_PORT && !all->redirecting) {
        config_advice(a, "http.https_port",
                      "has no effect: no listener has redirect_https = true; set it for the one "
                      "whose clients are to be sent to https, or remove this");
    }
    if (c->http.cors_credentials && c->http.cors_origins.n == 0) {
        config_advice(a, "http.cors_credentials",
                      "has no effect: http.cors_origins is empty; list the origins of those pages");
    }
    config_advise_acme(a, c, all);
}

static void config_advise_streams(const struct advice *a, const struct config *c)
{
    if (strcmp(c->sse.on_lag, "skip") == 0 && c->sse.max_lag_events == 0) {
        config_advice(
            a, "sse.on_lag",
            "has no effect: sse.max_lag_events is 0, so no stream is ever too far behind; "
            "set it to the most events that a stream may be behind");
    }
}

void config_advise(const struct config *c, config_advice_cb say, void *ctx)
{
    const struct advice a = {say, ctx};
    struct config_listeners all = config_listeners_of(c);
    for (size_t i = 0; i < c->listen.n; i++) {
        config_advise_proxy(&a, c, i);
        config_advise_redirect(&a, c, i, &all);
    }
    config_advise_trusted(&a, c, &all);
    config_advise_http(&a, c, &all);
    config_advise_streams(&a, c);
}
