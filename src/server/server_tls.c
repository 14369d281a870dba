/* See server_tls.h. */
#include "server/server_tls.h"

#include "base/alloc.h"
#include "net/tls/tls_pair.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SOON_DAYS = 14, DAY_S = 24 * 3600 };

struct server_tls_listener {
    struct tls_certificate_files *files; /* owned; strings are the configuration's */
    struct tls_listener_options opt;
    struct listener_options listener; /* its source is owned */
};

static enum tls_client server_tls_client(const char *word)
{
    if (strcmp(word, "required") == 0) {
        return TLS_CLIENT_REQUIRED;
    }
    return strcmp(word, "optional") == 0 ? TLS_CLIENT_OPTIONAL : TLS_CLIENT_NONE;
}

static void server_tls_options(struct server_tls_listener *l, const struct config_listener *c,
                               bool h2)
{
    l->files = xcalloc(c->tls.n + 1, sizeof *l->files);
    for (size_t i = 0; i < c->tls.n; i++) {
        const struct config_certificate *from = &c->tls.v[i];
        l->files[i] = (struct tls_certificate_files){.names = (const char *const *)from->names.v,
                                                     .name_count = from->names.n,
                                                     .cert = from->cert,
                                                     .key = from->key};
    }
    l->opt = (struct tls_listener_options){.certificates = l->files,
                                           .count = c->tls.n,
                                           .client = server_tls_client(c->client),
                                           .client_ca = c->client_ca,
                                           .client_crl = c->client_crl,
                                           .h2 = h2};
}

int server_tls_open(struct server_tls *t, const struct config *cfg, struct loop *loop,
                    struct tls_ticket_chain *shared, struct net_metrics *metrics, struct err *e)
{
    *t = (struct server_tls){.n = cfg->listen.n};
    struct tls_ticket_chain *chain = shared ? shared : &t->own;
    int rc = tls_tickets_init(chain, (uint64_t)time(NULL));
    if (rc) {
        return err_set(e, rc, "the system has no random bytes for the keys of TLS tickets");
    }
    t->v = xcalloc(t->n, sizeof *t->v);
    for (size_t i = 0; i < t->n && rc == 0; i++) {
        struct server_tls_listener *l = &t->v[i];
        server_tls_options(l, &cfg->listen.v[i], cfg->http.h2);
        l->opt.compact = cfg->tls.compact;
        l->listener.redirect_https = cfg->listen.v[i].redirect_https;
        l->listener.proxy_protocol = cfg->listen.v[i].proxy_protocol;
        if (l->opt.count) {
            rc = tls_cert_files_open(loop, &l->opt, chain, metrics, &l->listener.tls, e);
            rc = rc ? err_context(e, "listen[%zu]", i + 1) : 0;
        }
    }
    if (rc) {
        server_tls_close(t);
        server_tls_clear(t);
    }
    return rc;
}

const struct listener_options *server_tls_of(const struct server_tls *t, size_t i)
{
    return i < t->n ? &t->v[i].listener : NULL;
}

void server_tls_close(struct server_tls *t)
{
    for (size_t i = 0; i < t->n; i++) {
        tls_cert_files_close(t->v[i].listener.tls);
        t->v[i].listener.tls = NULL;
    }
}

void server_tls_clear(struct server_tls *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->v[i].files);
    }
    free(t->v);
    t->v = NULL;
    t->n = 0;
}

/* ---------------------------------------------------------------- check */

/* Of a file of `listen[listener]`, of its tls[certificate] if that is not 0; both from 1. */
struct tls_check {
    server_tls_found_cb found;
    void *ctx;
    size_t listener, certificate;
};

__attribute__((format(printf, 3, 4))) static void
server_tls_found(const struct tls_check *c, bool is_error, const char *fmt, ...)
{
    struct err text = {0};
    char at[64];
    va_list args;
    int n = snprintf(at, sizeof at, "listen[%zu]", c->listener);
    if (c->certificate) {
        snprintf(at + n, sizeof at - (size_t)n, ".tls[%zu]", c->certificate);
    }
    va_start(args, fmt);
    (void)vsnprintf(text.text, sizeof text.text, fmt, args);
    va_end(args);
    c->found(c->ctx, is_error, at, text.text);
}

/* Warnings: the service must come up after a restart, with a clock that is wrong, too. */
static void server_tls_check_time(const struct tls_check *c, const struct tls_pair *p,
                                  const char *cert)
{
    int64_t now = (int64_t)time(NULL);
    if (p->not_after < now) {
        server_tls_found(c, false,
                         "\"%s\" expired %" PRId64 " days ago: renew it, clients refuse it", cert,
                         (now - p->not_after) / DAY_S);
    } else if (p->not_before > now) {
        server_tls_found(c, false, "\"%s\" is not valid yet: is the clock of this machine right?",
                         cert);
    } else if (p->not_after < now + SOON_DAYS * DAY_S) {
        server_tls_found(c, false, "\"%s\" expires in %" PRId64 " days: does its renewal work?",
                         cert, (p->not_after - now) / DAY_S);
    }
}

static void server_tls_check_one(const struct tls_check *c, const struct config_certificate *k)
{
    struct err e = {0};
    struct tls_pair p;
    if (tls_pair_load(&p, k->cert, k->key, &e)) {
        server_tls_found(c, true, "%s", e.text);
        return;
    }
    server_tls_check_time(c, &p, k->cert);
    if (tls_pair_check_chain(&p, &e)) {
        server_tls_found(c, false, "\"%s\": %s", k->cert, e.text);
    }
    if (p.key_is_open) {
        server_tls_found(
            c, false, "\"%s\" can be read by every user of this machine: chmod o-rwx it", k->key);
    }
    for (size_t i = 0; i < k->names.n; i++) {
        if (!tls_pair_covers(&p, k->names.v[i])) {
            server_tls_found(c, false,
                             "\"%s\" is not a certificate for \"%s\": clients that connect by that "
                             "name refuse it",
                             k->cert, k->names.v[i]);
        }
    }
    tls_pair_clear(&p);
}

static void server_tls_check_listener(struct tls_check *c, const struct config_listener *l)
{
    struct server_tls_listener built = {0};
    struct err e = {0};
    for (size_t k = 0; k < l->tls.n; k++) {
        c->certificate = k + 1;
        server_tls_check_one(c, &l->tls.v[k]);
    }
    c->certificate = 0;
    server_tls_options(&built, l, true);
    if (built.opt.client != TLS_CLIENT_NONE && tls_context_check_authorities(&built.opt, &e)) {
        server_tls_found(c, true, "%s", e.text);
    }
    free(built.files);
}

void server_tls_check(const struct config *cfg, server_tls_found_cb found, void *ctx)
{
    for (size_t i = 0; i < cfg->listen.n; i++) {
        struct tls_check c = {found, ctx, i + 1, 0};
        server_tls_check_listener(&c, &cfg->listen.v[i]);
    }
}
