/* See test_tls.h. */
#include "tools/test/test_tls.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define TEST_TLS_FIELD "X-Tidegate-Test-Tls"

static void test_tls_copy(char *out, size_t size, const char *text)
{
    (void)snprintf(out, size, "%s", text ? text : ""); /* the texts of tests are short */
}

/* The alternative names of that kind; false: not a list of texts, or too many of them. */
static bool test_tls_add_names(struct test_tls *t, const json_t *list, enum tls_name_kind kind)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        size_t n = name ? strlen(name) : 0;
        if (!name || n + 2 > sizeof t->names - t->info.names.n) {
            return false;
        }
        t->names[t->info.names.n] = (char)kind;
        memcpy(t->names + t->info.names.n + 1, name, n + 1);
        t->info.names.n += n + 2;
    }
    return json_is_array(list);
}

static bool test_tls_read_client(struct test_tls *t, json_t *o)
{
    const char *subject, *issuer, *serial, *sha256;
    json_int_t not_after;
    json_t *dns, *uri, *email;
    if (json_unpack(o, "{s:s, s:s, s:s, s:s, s:I, s:o, s:o, s:o}", "subject", &subject, "issuer",
                    &issuer, "serial", &serial, "sha256", &sha256, "not_after", &not_after, "dns",
                    &dns, "uri", &uri, "email", &email)) {
        return false;
    }
    t->info.has_client = true;
    t->info.not_after = (int64_t)not_after;
    test_tls_copy(t->subject, sizeof t->subject, subject);
    test_tls_copy(t->issuer, sizeof t->issuer, issuer);
    test_tls_copy(t->serial, sizeof t->serial, serial);
    test_tls_copy(t->sha256, sizeof t->sha256, sha256);
    t->info.subject = t->subject;
    t->info.issuer = t->issuer;
    t->info.serial = t->serial;
    t->info.sha256 = t->sha256;
    t->info.names = slice_of(t->names, 0);
    return test_tls_add_names(t, dns, TLS_NAME_DNS) && test_tls_add_names(t, uri, TLS_NAME_URI) &&
           test_tls_add_names(t, email, TLS_NAME_EMAIL);
}

static bool test_tls_read(struct test_tls *t, const json_t *root)
{
    const char *version, *cipher, *sni = NULL, *alpn = NULL;
    int resumed;
    json_t *client = NULL;
    if (json_unpack((json_t *)(uintptr_t)root, "{s:s, s:s, s?s, s?s, s:b, s?o}", "version",
                    &version, "cipher", &cipher, "sni", &sni, "alpn", &alpn, "resumed", &resumed,
                    "client", &client)) {
        return false;
    }
    test_tls_copy(t->version, sizeof t->version, version);
    test_tls_copy(t->cipher, sizeof t->cipher, cipher);
    test_tls_copy(t->sni, sizeof t->sni, sni);
    test_tls_copy(t->alpn, sizeof t->alpn, alpn);
    t->info = (struct tls_info){.version = t->version,
                                .cipher = t->cipher,
                                .sni = t->sni,
                                .alpn = t->alpn,
                                .resumed = resumed != 0};
    return !client || test_tls_read_client(t, client);
}

bool test_tls_take(struct test_tls *t, struct http_request *rq)
{
    for (size_t i = 0; i < rq->header_count; i++) {
        if (!slice_is_nocase(rq->headers[i].name, TEST_TLS_FIELD)) {
            continue;
        }
        json_t *root = json_loadb(rq->headers[i].value.p, rq->headers[i].value.n, 0, NULL);
        bool good = root && test_tls_read(t, root);
        json_decref(root);
        rq->header_count--;
        memmove(rq->headers + i, rq->headers + i + 1, (rq->header_count - i) * sizeof *rq->headers);
        rq->tls_told = good ? &t->info : NULL;
        return good;
    }
    return true;
}
