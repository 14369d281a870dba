/* Private to keyring*.c: the structs they work on. */
#ifndef AUTH_KEYRING_STATE_H
#define AUTH_KEYRING_STATE_H

#include "auth/jwt_cache.h"
#include "auth/keyring.h"

#include <openssl/types.h>
#include <sys/stat.h>

struct keyset {
    struct keyring *k;
    char *name, *where, *ca_file; /* owned; of a secret `where` is NULL */
    enum key_source source;
    unsigned wanted;     /* as configured; 0: all */
    unsigned algs;       /* what tokens may be signed with */
    struct jwks *keys;   /* a reference; NULL: not fetched yet */
    uint64_t generation; /* of the keys; never that of others */

    struct stat seen; /* of a file, when it was read */

    uint64_t refresh_ms, stale_ms, fresh_ms;
    uint64_t tried_ms, fetched_ms, due_ms;       /* loop time; 0: never */
    uint64_t fetch;                              /* id of the request under way; 0: none */
    unsigned failures;                           /* in a row */
    unsigned char text_digest[JWT_DIGEST_BYTES]; /* of what the keys were read from */
};

struct keyring {
    size_t n;
    struct keyset *sets; /* owned */
    uint64_t generations;
    struct jwt_cache *cache; /* owned */
    EVP_MD_CTX *md;          /* owned */
    struct loop *loop;       /* NULL: not started; so are the two below */
    struct http_client *client;
    struct auth_metrics *metrics;
    struct auth_metrics unseen; /* what is counted before the start */
    struct deadline tick;
    unsigned ticks;
};

/* Makes the keys of what the source said. The same text again changes nothing, so that verified
 * tokens stay known; *is_new says so. On failure the old keys stay. */
int keyset_take(struct keyset *s, struct slice text, bool *is_new, struct err *e);

/* keyring_file.c */
/* Reads the file of the set; its keys stay where that fails. */
int keyset_read_file(struct keyset *s, bool *is_new, struct err *e);
/* The same, where it has changed or `force`; logs what happened. */
void keyset_reread_file(struct keyset *s, bool force);

/* keyring_url.c */
/* Fetches where it is due. */
void keyset_tick(struct keyset *s);
/* A token names a key that is not there. True: what there is may be out of date, ask again later.
 */
bool keyset_look_for_more(struct keyset *s);

#endif
