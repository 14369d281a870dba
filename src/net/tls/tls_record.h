/* The record layer of TLS 1.3 (RFC 8446, 5) after the handshake, on bytes: what is left of TLS once OpenSSL has
 * agreed on keys with the peer. Pure: no socket, no OpenSSL connection, no clock.
 *
 * The peer may send application data, alerts, and KeyUpdates. Everything else ends the connection with the alert
 * that RFC 8446 has for it. One thread at a time, that of the suites. */
#ifndef NET_TLS_TLS_RECORD_H
#define NET_TLS_TLS_RECORD_H

#include "base/strbuf.h"
#include "net/tls/tls_suite.h"

enum {
    TLS_RECORD_BYTES = 16 * 1024, /* most plain text of a record */
    TLS_RECORD_IDLE_MAX = 32,     /* most records in a row that bring no application data */
    /* After so many records of ours comes another key. AES-GCM is good for 2^24.5 (RFC 8446, 5.5). */
    TLS_RECORD_KEY_RECORDS = (1 << 23) - 1,
};

struct tls_record {
    const struct tls_suite *suite; /* borrowed */
    struct tls_keys write;
    struct tls_peer_keys read;
    struct strbuf *partial;  /* owned: the beginning of a record; NULL: none */
    unsigned char update[5]; /* the beginning of a KeyUpdate */
    unsigned char update_n;  /* of which so much has come */
    unsigned char idle;      /* records in a row without application data */
    bool owes_update : 1;    /* the peer wants us to change our key before we send more data */
    bool peer_ended : 1;     /* close_notify has come */
    bool ended : 1;          /* close_notify, or an alert, was the last that we send */
    bool broken : 1;         /* nothing of the peer counts any more */
};

/* Goes on where a handshake has ended: r->suite, both secrets, and the numbers of the next records are set. False:
 * libcrypto failed. Any thread. `r` may be moved until something is read. */
__attribute__((warn_unused_result)) bool tls_record_begin(struct tls_record *r, uint64_t write_seq,
                                                          uint64_t read_seq);
/* Wipes its keys. */
void tls_record_clear(struct tls_record *r);

/* Appends a record of `n` bytes, at most TLS_RECORD_BYTES, to `out`; before it a KeyUpdate where one is due. 0,
 * UV_EPROTO (there is an end already, or libcrypto failed), or what strbuf says. */
__attribute__((warn_unused_result)) int tls_record_seal(struct tls_record *r, const char *plain,
                                                        size_t n, struct strbuf *out);
/* Decrypts what came. `plain` has room for in.n + TLS_RECORD_BYTES bytes; *got is set, also on failure. 0; UV_EOF:
 * the peer has ended its side properly; UV_EPROTO: it has not kept to the protocol, or says that we have not. An
 * alert for it is appended to `out`. */
__attribute__((warn_unused_result)) int tls_record_open(struct tls_record *r, struct slice in,
                                                        char *plain, size_t *got,
                                                        struct strbuf *out);
/* Appends close_notify, if there is room in `out` and nothing has ended what we send. */
void tls_record_end(struct tls_record *r, struct strbuf *out);

#endif
