/* See tls_cert_files.h. */
#include "net/tls/tls_cert_files.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A change is seen after one look at most, and loaded when the next one finds nothing new. */
enum { LOOK_MS = 2000, SOON_S = 14 * 24 * 3600 };

struct tls_cert_files {
    struct loop *loop;
    const struct tls_listener_options *opt;
    struct tls_ticket_chain *tickets;
    struct net_metrics *metrics;
    struct tls_context *current;
    uint64_t loaded,
        seen; /* signatures of the files: of the last attempt to load, of the last look */
    struct deadline look;
};

/* ---------------------------------------------------------------- the files */

static uint64_t tls_cert_files_mix(uint64_t sum, uint64_t value)
{
    return (sum ^ value) * 0x100000001b3u; /* FNV-1a, by words */
}

static uint64_t tls_cert_files_mix_file(uint64_t sum, const char *path)
{
    struct stat st;
    if (!path || stat(path, &st)) {
        return tls_cert_files_mix(sum, 1);
    }
    sum = tls_cert_files_mix(sum, (uint64_t)st.st_dev);
    sum = tls_cert_files_mix(sum, (uint64_t)st.st_ino);
    sum = tls_cert_files_mix(sum, (uint64_t)st.st_size);
    sum = tls_cert_files_mix(sum, (uint64_t)st.st_mtim.tv_sec);
    sum = tls_cert_files_mix(sum, (uint64_t)st.st_mtim.tv_nsec);
    sum = tls_cert_files_mix(sum, (uint64_t)st.st_ctim.tv_sec);
    return tls_cert_files_mix(sum, (uint64_t)st.st_ctim.tv_nsec);
}

static uint64_t tls_cert_files_signature(const struct tls_cert_files *s)
{
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < s->opt->count; i++) {
        sum = tls_cert_files_mix_file(sum, s->opt->certificates[i].cert);
        sum = tls_cert_files_mix_file(sum, s->opt->certificates[i].key);
    }
    sum = tls_cert_files_mix_file(sum, s->opt->client_ca);
    return tls_cert_files_mix_file(sum, s->opt->client_crl);
}

/* ---------------------------------------------------------------- what others see of it */

/* A certificate that several listeners have is one to the metrics. */
static void tls_cert_files_show_expiry(struct net_metrics *m, const char *file, int64_t not_after)
{
    size_t n = strlen(file), skip = 0, i;
    if (n >= NET_CERTIFICATE_NAME_BYTES) {
        skip = n - (NET_CERTIFICATE_NAME_BYTES - 1);
    }
    for (i = 0; i < m->certificate_count && strcmp(m->certificates[i].name, file + skip) != 0;
         i++) {
    }
    if (i == NET_CERTIFICATES_MAX) {
        return;
    }
    if (i == m->certificate_count) {
        snprintf(m->certificates[i].name, sizeof m->certificates[i].name, "%s", file + skip);
        m->certificate_count++;
    }
    m->certificates[i].not_after = not_after;
}

static void tls_cert_files_announce(struct tls_cert_files *s)
{
    int64_t now = loop_unix_ms(s->loop) / 1000;
    for (size_t i = 0; i < tls_context_count(s->current); i++) {
        const char *file = s->opt->certificates[i].cert;
        int64_t not_after = tls_context_not_after(s->current, i);
        tls_cert_files_show_expiry(s->metrics, file, not_after);
        if (not_after < now + SOON_S) {
            log_warn(
                "tls", not_after < now ? "certificate has expired" : "certificate expires soon",
                LOG_F(log_str("certificate", file), log_int("days", (not_after - now) / 86400)));
        }
    }
}

/* ---------------------------------------------------------------- loading */

static void tls_cert_files_reload(struct tls_cert_files *s)
{
    struct tls_context *next;
    struct err e = {0};
    if (tls_context_load(s->opt, s->tickets, &next, &e)) {
        s->metrics->tls_reload_failures++;
        log_warn("tls", "changed certificates cannot be loaded, the earlier ones stay",
                 LOG_F(log_str("error", e.text)));
        return;
    }
    tls_context_unref(s->current);
    s->current = next;
    s->metrics->tls_reloads++;
    log_info(
        "tls", "certificates loaded",
        LOG_F(log_str("first", s->opt->certificates[0].cert), log_uint("count", s->opt->count)));
    tls_cert_files_announce(s);
}

static void tls_cert_files_on_look(struct deadline *d)
{
    struct tls_cert_files *s = container_of(d, struct tls_cert_files, look);
    uint64_t now = tls_cert_files_signature(s);
    if (now != s->loaded && now == s->seen) { /* nobody has written since the last look */
        s->loaded = now;
        tls_cert_files_reload(s);
    }
    s->seen = now;
    deadline_arm(loop_deadline_class(s->loop, LOOK_MS, tls_cert_files_on_look), &s->look);
}

int tls_cert_files_open(struct loop *loop, const struct tls_listener_options *opt,
                        struct tls_ticket_chain *tickets, struct net_metrics *metrics,
                        struct tls_cert_files **out, struct err *e)
{
    struct tls_cert_files *s = xcalloc(1, sizeof *s);
    s->loop = loop;
    s->opt = opt;
    s->tickets = tickets;
    s->metrics = metrics;
    deadline_init(&s->look);
    s->loaded = s->seen =
        tls_cert_files_signature(s); /* before: what changes meanwhile is loaded again */
    int rc = tls_context_load(opt, tickets, &s->current, e);
    if (rc) {
        free(s);
        return rc;
    }
    tls_cert_files_announce(s);
    deadline_arm(loop_deadline_class(loop, LOOK_MS, tls_cert_files_on_look), &s->look);
    *out = s;
    return 0;
}

struct tls_context *tls_cert_files_current(const struct tls_cert_files *s)
{
    return s->current;
}

void tls_cert_files_close(struct tls_cert_files *s)
{
    if (s) {
        deadline_disarm(&s->look);
        tls_context_unref(s->current);
        free(s);
    }
}
