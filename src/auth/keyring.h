/* The key sets of the configuration, by name. Verifies tokens for policies. One keyring per process;
 * it outlives policies.
 *
 * Keys come from files, which are checked for changes every few seconds and on keyring_reload(), or
 * from a JWKS URL, which is fetched in the background. New keys replace the old ones only if they can
 * be read; the old ones stay while the URL cannot be reached. A verified token is cached until it
 * expires or its key set changes. */
#ifndef AUTH_KEYRING_H
#define AUTH_KEYRING_H

#include "auth/jwt.h"
#include "auth/metrics.h"
#include "base/err.h"
#include "net/client/http_client.h"
#include "net/loop.h"

enum key_source {
    KEY_SECRET,
    KEY_SECRET_FILE,
    KEY_PUBLIC_FILE, /* PEM */
    KEY_JWKS_FILE,
    KEY_JWKS_URL,
};

/* Borrowed for the call. */
struct keyset_options {
    const char *name;
    enum key_source source;
    const char *where;           /* the secret, the path, the URL */
    const char *ca_file;         /* of a URL; NULL: the system's authorities */
    unsigned algs;               /* JWA_BIT(); 0: all that match the type of the keys */
    unsigned refresh_s, stale_s; /* of a URL */
    unsigned fresh_ms;           /* of a URL: shortest time between fetches that tokens cause */
};

struct keyring;
struct keyset;

/* Reads secrets and files; on failure `e` names the set and the reason. keyring_start() fetches
 * URLs. */
int keyring_open(struct keyring **out, const struct keyset_options *v, size_t n, size_t cache_bytes,
                 struct err *e);
/* Begins to fetch and to watch. Borrows loop and client until keyring_stop(), metrics until
 * keyring_close(). */
void keyring_start(struct keyring *k, struct loop *loop, struct http_client *client,
                   struct auth_metrics *metrics);
/* Reads every file again and fetches every URL soon. A failure is logged, and the old keys stay. */
void keyring_reload(struct keyring *k);
/* Stops reading and fetching; tokens can still be verified. NULL is fine, and so is a second call. */
void keyring_stop(struct keyring *k);
/* Stops and frees. NULL is fine. */
void keyring_close(struct keyring *k);

/* NULL: none of that name. Lives as long as the keyring. */
struct keyset *keyring_find(struct keyring *k, struct slice name);
/* The set for a position from 0 on; NULL at the end. */
struct keyset *keyring_at(struct keyring *k, size_t i);
const char *keyset_name(const struct keyset *s);
/* The algorithms that tokens of the set may be signed with, whatever keys it has at the moment. */
unsigned keyset_algs(const struct keyset *s);
/* False: no token of the set can be verified. */
bool keyset_has_keys(const struct keyset *s);
/* Why its source could not be read the last time, borrowed until the next loop turn; NULL: it could. */
const char *keyset_failure(const struct keyset *s);

/* jwt_verify() with the set's keys, or the cached result. JWT_FAILED: the token cannot be verified
 * now, because keys were not fetched yet, or because the token names an unknown key and a fetch is in
 * progress. Never returns JWT_UNKNOWN_KEY. */
enum jwt_outcome keyset_verify(struct keyset *s, struct slice token, const struct jwt_options *o,
                               int64_t now_s, struct jwt *out);

#endif
