/* See tls_secrets.h. */
#include "net/tls/tls_secrets.h"

#include "base/text/hex.h"

#include <openssl/crypto.h>
#include <string.h>

/* "CLIENT_TRAFFIC_SECRET_0 <random> <secret>", in hexadecimal: true, and the secret, if it has that name. */
static bool tls_secrets_read(const char *line, const char *name, struct tls_secret *to)
{
    size_t name_n = strlen(name);
    if (strncmp(line, name, name_n) != 0 || line[name_n] != ' ') {
        return false;
    }
    const char *digits = strrchr(line, ' ') + 1;
    size_t n = strlen(digits) / 2;
    *to = (struct tls_secret){.n = n <= TLS_SECRET_MAX ? n : 0};
    for (size_t i = 0; i < to->n; i++) {
        int high = hex_value(digits[2 * i]), low = hex_value(digits[2 * i + 1]);
        if (high < 0 || low < 0) {
            to->n = 0;
            break;
        }
        to->bytes[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

void tls_secrets_on_line(const SSL *ssl, const char *line)
{
    struct tls_secrets *s = SSL_get_app_data(ssl);
    if (s && !tls_secrets_read(line, "CLIENT_TRAFFIC_SECRET_0", &s->client)) {
        (void)tls_secrets_read(line, "SERVER_TRAFFIC_SECRET_0", &s->server);
    }
}

static void tls_secrets_on_message(int by_server, int version, int type, const void *bytes,
                                   size_t n, SSL *ssl, void *arg)
{
    struct tls_secrets *s = arg;
    struct tls_secret *k = by_server ? &s->server : &s->client;
    (void)version, (void)bytes, (void)n, (void)ssl;
    if (type == SSL3_RT_HEADER && k->n) {
        k->records++;
    }
}

void tls_secrets_watch(SSL *ssl, struct tls_secrets *s)
{
    (void)SSL_set_app_data(ssl, s); /* where that fails none is ever known */
    SSL_set_msg_callback(ssl, tls_secrets_on_message);
    (void)SSL_set_msg_callback_arg(ssl, s);
}

void tls_secrets_clear(struct tls_secrets *s)
{
    OPENSSL_cleanse(s, sizeof *s);
}
