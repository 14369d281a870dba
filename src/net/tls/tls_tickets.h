/* The keys of TLS session tickets (RFC 5077, RFC 8446 4.6.1): one for each hour, the same in all workers.
 *
 * The key of an hour is a hash of the key of the hour before, so that every worker makes the next key for
 * itself and all make the same: there is no lock, nobody rotates, and a worker that is killed at any point
 * leaves nothing half done. The memory of a process holds no key that is older than what is in
 * the four places below. Any thread may call these functions. */
#ifndef NET_TLS_TLS_TICKETS_H
#define NET_TLS_TLS_TICKETS_H

#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdint.h>

enum { TLS_TICKET_KEY_S = 3600, TLS_TICKET_SLOTS = 4, TLS_TICKET_WORDS = 4 };

/* Lives in memory that all workers share, or in the memory of the only one. Zeroed: no key yet. */
struct tls_ticket_chain {
    struct {
        _Atomic uint64_t hour; /* since 1970; 0: empty, or being written */
        _Atomic uint64_t key[TLS_TICKET_WORDS];
    } slots[TLS_TICKET_SLOTS]; /* by hour modulo their number */
};

/* Makes the first key, unless there is one already. Before any other process or thread uses the chain. 0 or
 * UV_EIO: the system has no random bytes. */
int tls_tickets_init(struct tls_ticket_chain *chain, uint64_t now_s);

/* For SSL_CTX_set_tlsext_ticket_key_evp_cb(): `chain` encrypts with the key of this hour, and decrypts with that
 * and the one before. */
int tls_tickets_key(struct tls_ticket_chain *chain, uint64_t now_s, unsigned char *name,
                    unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt);

#endif
