/* The key sets of the configuration, by name, and the one question policies have: is this token
 * good? One keyring per process; it outlives policies.
 *
 * Keys come from files, which are looked at again every few seconds and on keyring_reload(),
 * or from a JWKS URL, fetched in the background and kept while it cannot be reached. New keys take
 * the place of old ones only where they can be read. A verified token is remembered until it
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
    unsigned algs;               /* JWA_BIT(); 0: all that the keys fit */
    unsigned refresh_s, stale_s; /* of a URL */
    unsigned fresh_ms;           /* of a URL: tokens cannot make it be asked more often */
};

struct keyring;
struct keyset;

/* Reads secrets and files; what is wrong with one is in `e`, with the name of its set. URLs are
 * left for keyring_start(). */
int keyring_open(struct keyring **out, const struct keyset_options *v, size_t n, size_t cache_bytes,
                 struct err *e);
/* Begins to fetch and to watch. Borrows loop and client until keyring_stop(), metrics until
 * keyring_close(). */
void keyring_start(struct keyring *k, struct loop *loop, struct http_client *client,
                   struct auth_metrics *metrics);
/* Reads every file again and asks every URL soon. What is no good is logged, and its keys stay. */
void keyring_reload(struct keyring *k);
/* Tokens can still be verified, but nothing new is read. NULL is fine, and so is twice. */
void keyring_stop(struct keyring *k);
/* Stops and frees. NULL is fine. */
void keyring_close(struct keyring *k);

/* NULL: none of that name. Lives as long as the keyring. */
struct keyset *keyring_find(struct keyring *k, struct slice name);
/* The set for a position from 0 on; NULL at the end. */
struct keyset *keyring_at(struct keyring *k, size_t i);
const char *keyset_name(const struct keyset *s);
/* What tokens of the set may be signed with, whatever keys it holds at the moment. */
unsigned keyset_algs(const struct keyset *s);

/* jwt_verify() with the set's keys, or what was found before. JWT_FAILED: nothing can be said about
 * the token now: keys were not fetched yet, or the token names one that is not known yet and is
 * being looked for. Never JWT_UNKNOWN_KEY. */
enum jwt_outcome keyset_verify(struct keyset *s, struct slice token, const struct jwt_options *o,
                               int64_t now_s, struct jwt *out);

#endif
