/* See tls_tickets.h. */
#include "net/tls/tls_tickets.h"

#include <openssl/core_names.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <string.h>
#include <uv.h>

enum {
    KEY_BYTES = 32,
    NAME_BYTES = 16,
    HOURS_MAX = 366 * 24, /* a clock that jumps further does not cost more */
    READ_TRIES = 100,
};

union chain_key {
    uint64_t words[TLS_TICKET_WORDS];
    unsigned char bytes[KEY_BYTES];
};

/* out = HMAC-SHA-256(key, label) */
static bool tls_tickets_derive(const union chain_key *key, const char *label, unsigned char *out)
{
    return HMAC(EVP_sha256(), key->bytes, KEY_BYTES, (const unsigned char *)label, strlen(label),
                out, NULL) != NULL;
}

static bool tls_tickets_read(struct tls_ticket_chain *chain, uint64_t hour, union chain_key *out)
{
    size_t at = hour % TLS_TICKET_SLOTS;
    if (atomic_load(&chain->slots[at].hour) != hour) {
        return false;
    }
    for (size_t i = 0; i < TLS_TICKET_WORDS; i++) {
        out->words[i] = atomic_load(&chain->slots[at].key[i]);
    }
    return atomic_load(&chain->slots[at].hour) == hour;
}

/* Several may write the same hour at a time: they write the same. */
static void tls_tickets_write(struct tls_ticket_chain *chain, uint64_t hour,
                              const union chain_key *key)
{
    size_t at = hour % TLS_TICKET_SLOTS;
    atomic_store(&chain->slots[at].hour, 0);
    for (size_t i = 0; i < TLS_TICKET_WORDS; i++) {
        atomic_store(&chain->slots[at].key[i], key->words[i]);
    }
    atomic_store(&chain->slots[at].hour, hour);
}

static uint64_t tls_tickets_newest(struct tls_ticket_chain *chain)
{
    uint64_t newest = 0;
    for (size_t i = 0; i < TLS_TICKET_SLOTS; i++) {
        uint64_t hour = atomic_load(&chain->slots[i].hour);
        newest = hour > newest ? hour : newest;
    }
    return newest;
}

/* The key of `now`; of a later hour if there is one: a clock that went back does not bring back a key. Answers
 * its hour, 0 on failure. */
static uint64_t tls_tickets_current(struct tls_ticket_chain *chain, uint64_t now,
                                    union chain_key *out)
{
    for (unsigned tries = 0; tries < READ_TRIES; tries++) {
        uint64_t hour = tls_tickets_newest(chain);
        if (hour == 0 || !tls_tickets_read(chain, hour, out)) {
            continue; /* another one is writing there */
        }
        uint64_t steps = now > hour ? now - hour : 0;
        if (steps > HOURS_MAX) {
            hour = now - HOURS_MAX;
            steps = HOURS_MAX;
        }
        for (; steps; steps--) {
            union chain_key next;
            if (!tls_tickets_derive(out, "next", next.bytes)) {
                return 0;
            }
            *out = next;
            hour++;
            if (steps <= 2) {
                tls_tickets_write(chain, hour, out);
            }
        }
        return hour;
    }
    return 0;
}

int tls_tickets_init(struct tls_ticket_chain *chain, uint64_t now_s)
{
    union chain_key key;
    if (tls_tickets_newest(chain)) {
        return 0;
    }
    if (RAND_priv_bytes(key.bytes, KEY_BYTES) != 1) {
        return UV_EIO;
    }
    tls_tickets_write(chain, now_s / TLS_TICKET_KEY_S, &key);
    OPENSSL_cleanse(&key, sizeof key);
    return 0;
}

static bool tls_tickets_start(const union chain_key *key, const unsigned char *iv,
                              EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
    unsigned char aes[KEY_BYTES], hmac[KEY_BYTES];
    char digest[] = "SHA256";
    bool ok =
        tls_tickets_derive(key, "encrypt", aes) && tls_tickets_derive(key, "authenticate", hmac);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, hmac, KEY_BYTES),
                           OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_end()};
    ok = ok && EVP_MAC_CTX_set_params(mac, params) == 1 &&
         EVP_CipherInit_ex2(cipher, EVP_aes_256_cbc(), aes, iv, encrypt, NULL) == 1;
    OPENSSL_cleanse(aes, sizeof aes);
    OPENSSL_cleanse(hmac, sizeof hmac);
    return ok;
}

int tls_tickets_key(struct tls_ticket_chain *chain, uint64_t now_s, unsigned char *name,
                    unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
    union chain_key key;
    unsigned char own[KEY_BYTES];
    int answer = 0; /* no such key: a full handshake */
    uint64_t hour = tls_tickets_current(chain, now_s / TLS_TICKET_KEY_S, &key);
    if (!hour || !tls_tickets_derive(&key, "name", own)) {
        return encrypt ? -1 : 0;
    }
    if (encrypt) {
        memcpy(name, own, NAME_BYTES);
        bool ok = RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 &&
                  tls_tickets_start(&key, iv, cipher, mac, 1);
        answer = ok ? 1 : -1;
    } else if (CRYPTO_memcmp(name, own, NAME_BYTES) == 0) {
        answer = tls_tickets_start(&key, iv, cipher, mac, 0) ? 1 : 0;
    } else if (tls_tickets_read(chain, hour - 1, &key) && tls_tickets_derive(&key, "name", own) &&
               CRYPTO_memcmp(name, own, NAME_BYTES) == 0) {
        answer = tls_tickets_start(&key, iv, cipher, mac, 0) ? 2 : 0; /* and a new ticket */
    }
    OPENSSL_cleanse(&key, sizeof key);
    return answer;
}
