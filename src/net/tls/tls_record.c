/* See tls_record.h. Functions that judge what came return 0 or the alert (RFC 8446, 6). */
#include "net/tls/tls_record.h"

#include "base/require.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum tls_record_type { RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_DATA = 23 };

enum tls_record_alert {
    ALERT_NONE = 0, /* of what is judged; on the wire it is close_notify */
    ALERT_CLOSE_NOTIFY = 0,
    ALERT_UNEXPECTED_MESSAGE = 10,
    ALERT_BAD_RECORD_MAC = 20,
    ALERT_RECORD_OVERFLOW = 22,
    ALERT_ILLEGAL_PARAMETER = 47,
    ALERT_DECODE_ERROR = 50,
    ALERT_INTERNAL_ERROR = 80,
    ALERT_USER_CANCELED = 90,
    ALERT_RECEIVED = 256, /* none is sent: the peer has sent one */
};

enum {
    SEALED_MIN = TLS_TAG_BYTES + 1,
    SEALED_MAX = TLS_RECORD_BYTES + 1 + TLS_TAG_BYTES,
    MESSAGE_KEY_UPDATE = 24,
    UPDATE_BYTES = 5,
    LEVEL_WARNING = 1,
    LEVEL_FATAL = 2,
    ALERT_BYTES = 2,
};

bool tls_record_begin(struct tls_record *r, uint64_t write_seq, uint64_t read_seq)
{
    bool ok = tls_suite_derive(r->suite, &r->write);
    r->write.seq = write_seq;
    r->read.seq = read_seq;
    return ok;
}

static void tls_record_drop_partial(struct tls_record *r)
{
    if (r->partial) {
        strbuf_clear(r->partial);
        free(r->partial);
        r->partial = NULL;
    }
}

void tls_record_clear(struct tls_record *r)
{
    tls_record_drop_partial(r);
    if (r->suite) {
        tls_suite_forget(r->suite, &r->read);
    }
    OPENSSL_cleanse(r, sizeof *r);
}

/* ---------------------------------------------------------------- sending */

static int tls_record_put(struct tls_record *r, enum tls_record_type type, const char *plain,
                          size_t n, struct strbuf *out)
{
    size_t sealed = n + 1 + TLS_TAG_BYTES;
    int rc = strbuf_reserve(out, TLS_HEADER_BYTES + sealed);
    if (rc) {
        return rc;
    }
    char *to = out->data + out->len;
    const unsigned char header[TLS_HEADER_BYTES] = {RECORD_DATA, 3, 3, (unsigned char)(sealed >> 8),
                                                    (unsigned char)(sealed & 255)};
    memcpy(to, header, sizeof header);
    if (!tls_suite_seal(r->suite, &r->write, header, slice_of(plain, n), (unsigned char)type,
                        to + TLS_HEADER_BYTES)) {
        r->ended = true;
        return UV_EPROTO;
    }
    out->len += TLS_HEADER_BYTES + sealed;
    out->data[out->len] = '\0';
    return 0;
}

/* A KeyUpdate that asks for none, then the next key. */
static int tls_record_update(struct tls_record *r, struct strbuf *out)
{
    static const char update[UPDATE_BYTES] = {MESSAGE_KEY_UPDATE, 0, 0, 1, 0};
    int rc = tls_record_put(r, RECORD_HANDSHAKE, update, sizeof update, out);
    if (rc == 0 && !tls_suite_next(r->suite, &r->write)) {
        r->ended = true;
        rc = UV_EPROTO;
    }
    r->owes_update = r->owes_update && rc != 0;
    return rc;
}

int tls_record_seal(struct tls_record *r, const char *plain, size_t n, struct strbuf *out)
{
    REQUIRE(n <= TLS_RECORD_BYTES);
    if (r->ended) {
        return UV_EPROTO;
    }
    if (r->owes_update || r->write.seq >= TLS_RECORD_KEY_RECORDS) {
        int rc = tls_record_update(r, out);
        if (rc) {
            return rc;
        }
    }
    return tls_record_put(r, RECORD_DATA, plain, n, out);
}

/* The last that is sent. Where there is no room for it the peer does without. */
static void tls_record_put_alert(struct tls_record *r, int level, int alert, struct strbuf *out)
{
    const char body[ALERT_BYTES] = {(char)level, (char)alert};
    if (!r->ended) {
        (void)tls_record_put(r, RECORD_ALERT, body, sizeof body, out);
        r->ended = true;
    }
}

void tls_record_end(struct tls_record *r, struct strbuf *out)
{
    tls_record_put_alert(r, LEVEL_WARNING, ALERT_CLOSE_NOTIFY, out);
}

/* ---------------------------------------------------------------- receiving: records of bytes */

/* With its header, as far as that has come. */
static size_t tls_record_size(struct slice s)
{
    return s.n < TLS_HEADER_BYTES
               ? TLS_HEADER_BYTES
               : TLS_HEADER_BYTES + ((size_t)(unsigned char)s.p[3] << 8 | (unsigned char)s.p[4]);
}

/* The version means nothing (RFC 8446, 5.1), but is protected with the rest. */
static int tls_record_check_header(struct slice s)
{
    if (s.n == 0) {
        return ALERT_NONE;
    }
    if ((unsigned char)s.p[0] != RECORD_DATA) {
        return ALERT_UNEXPECTED_MESSAGE; /* a new handshake, for instance */
    }
    if (s.n < TLS_HEADER_BYTES) {
        return ALERT_NONE;
    }
    size_t sealed = tls_record_size(s) - TLS_HEADER_BYTES;
    if (sealed > SEALED_MAX) {
        return ALERT_RECORD_OVERFLOW;
    }
    return sealed < SEALED_MIN ? ALERT_BAD_RECORD_MAC : ALERT_NONE;
}

static bool tls_record_is_whole(struct slice s)
{
    return s.n > TLS_HEADER_BYTES && s.n >= tls_record_size(s);
}

/* Moves bytes from *in behind those that wait for the rest of their record. */
static int tls_record_gather(struct tls_record *r, struct slice *in)
{
    if (!r->partial) {
        r->partial = malloc(sizeof *r->partial);
        if (!r->partial) {
            return ALERT_INTERNAL_ERROR;
        }
        strbuf_init(r->partial, TLS_HEADER_BYTES + SEALED_MAX);
    }
    int alert = ALERT_NONE;
    while (in->n && alert == ALERT_NONE && !tls_record_is_whole(strbuf_slice(r->partial))) {
        size_t lacks = tls_record_size(strbuf_slice(r->partial)) - r->partial->len;
        size_t n = in->n < lacks ? in->n : lacks;
        if (strbuf_append(r->partial, in->p, n)) {
            return ALERT_INTERNAL_ERROR;
        }
        *in = slice_of(in->p + n, in->n - n);
        alert = tls_record_check_header(strbuf_slice(r->partial));
    }
    return alert;
}

/* The next whole record: where it lies, or gathered from several reads. record->n is 0: more has to come. */
static int tls_record_take(struct tls_record *r, struct slice *in, struct slice *record)
{
    *record = slice_of("", 0);
    int alert = r->partial ? ALERT_NONE : tls_record_check_header(*in);
    if (alert == ALERT_NONE && !r->partial && tls_record_is_whole(*in)) {
        *record = slice_of(in->p, tls_record_size(*in));
        *in = slice_of(in->p + record->n, in->n - record->n);
        return ALERT_NONE;
    }
    if (alert == ALERT_NONE && in->n) {
        alert = tls_record_gather(r, in);
    }
    if (alert == ALERT_NONE && r->partial && tls_record_is_whole(strbuf_slice(r->partial))) {
        *record = strbuf_slice(r->partial);
    }
    return alert;
}

/* ---------------------------------------------------------------- receiving: what is in records */

static int tls_record_on_alert(struct tls_record *r, struct slice body)
{
    if (body.n != ALERT_BYTES) {
        return ALERT_DECODE_ERROR;
    }
    switch ((unsigned char)body.p[1]) { /* the level means nothing (RFC 8446, 6) */
    case ALERT_CLOSE_NOTIFY:
        r->peer_ended = true;
        return ALERT_NONE;
    case ALERT_USER_CANCELED:
        return ALERT_NONE; /* close_notify follows */
    default:
        return ALERT_RECEIVED;
    }
}

/* A KeyUpdate, whole or piece by piece. Its end is that of a record: what follows has another key. */
static int tls_record_on_handshake(struct tls_record *r, struct slice body)
{
    static const unsigned char head[UPDATE_BYTES - 1] = {MESSAGE_KEY_UPDATE, 0, 0, 1};
    for (size_t i = 0; i < body.n; i++) {
        if (r->update_n == UPDATE_BYTES) {
            return ALERT_UNEXPECTED_MESSAGE;
        }
        r->update[r->update_n++] = (unsigned char)body.p[i];
        if (r->update[0] != MESSAGE_KEY_UPDATE) {
            return ALERT_UNEXPECTED_MESSAGE;
        }
    }
    size_t known = r->update_n < sizeof head ? r->update_n : sizeof head;
    if (memcmp(r->update, head, known) != 0) {
        return ALERT_DECODE_ERROR;
    }
    if (r->update_n < UPDATE_BYTES) {
        return ALERT_NONE;
    }
    if (r->update[UPDATE_BYTES - 1] > 1) {
        return ALERT_ILLEGAL_PARAMETER;
    }
    /* The answer goes out before our next data, and is one for all that ask until then (RFC 8446, 4.6.3). */
    r->owes_update = r->owes_update || r->update[UPDATE_BYTES - 1] == 1;
    r->update_n = 0;
    return tls_suite_next_of_peer(r->suite, &r->read) ? ALERT_NONE : ALERT_INTERNAL_ERROR;
}

/* `inner`: what was decrypted, which has the type as its last byte that is not 0. */
static int tls_record_judge(struct tls_record *r, struct slice inner, size_t *data)
{
    size_t n = inner.n;
    while (n && inner.p[n - 1] == 0) {
        n--;
    }
    if (n == 0) {
        return ALERT_UNEXPECTED_MESSAGE;
    }
    struct slice body = slice_of(inner.p, n - 1);
    unsigned char type = (unsigned char)inner.p[n - 1];
    if (r->update_n && type != RECORD_HANDSHAKE) {
        return ALERT_UNEXPECTED_MESSAGE; /* in the middle of a message */
    }
    if (type == RECORD_DATA && body.n) {
        *data = body.n;
        r->idle = 0;
        return ALERT_NONE;
    }
    if (++r->idle > TLS_RECORD_IDLE_MAX || (body.n == 0 && type != RECORD_DATA)) {
        return ALERT_UNEXPECTED_MESSAGE;
    }
    switch (type) {
    case RECORD_DATA:
        return ALERT_NONE;
    case RECORD_ALERT:
        return tls_record_on_alert(r, body);
    case RECORD_HANDSHAKE:
        return tls_record_on_handshake(r, body);
    default:
        return ALERT_UNEXPECTED_MESSAGE;
    }
}

static int tls_record_decrypt(struct tls_record *r, struct slice record, char *plain, size_t *data)
{
    struct slice sealed = slice_of(record.p + TLS_HEADER_BYTES, record.n - TLS_HEADER_BYTES);
    if (!tls_suite_open(r->suite, &r->read, (const unsigned char *)record.p, sealed, plain)) {
        return ALERT_BAD_RECORD_MAC;
    }
    return tls_record_judge(r, slice_of(plain, sealed.n - TLS_TAG_BYTES), data);
}

int tls_record_open(struct tls_record *r, struct slice in, char *plain, size_t *got,
                    struct strbuf *out)
{
    int alert = ALERT_NONE;
    *got = 0;
    while (alert == ALERT_NONE && !r->broken && !r->peer_ended) {
        struct slice record;
        size_t data = 0;
        alert = tls_record_take(r, &in, &record);
        if (alert == ALERT_NONE && record.n == 0) {
            return 0;
        }
        if (alert == ALERT_NONE) {
            alert = tls_record_decrypt(r, record, plain + *got, &data);
            tls_record_drop_partial(r);
        }
        *got += data;
    }
    if (alert != ALERT_NONE) {
        r->broken = true;
        tls_record_drop_partial(r);
        if (alert != ALERT_RECEIVED) {
            tls_record_put_alert(r, LEVEL_FATAL, alert, out);
        }
        r->ended = true;
    }
    return r->broken ? UV_EPROTO : UV_EOF;
}
