#include "server/server_keys.h"

#include "base/alloc.h"
#include "base/require.h"

#include <stdlib.h>

enum { FRESH_MS = 30000 };

static unsigned algs_of(const struct config_strings *names)
{
    unsigned algs = 0;
    for (size_t i = 0; i < names->n; i++) {
        int alg = jwa_find(slice_str(names->v[i]));
        algs |= alg < 0 ? 0 : JWA_BIT(alg); /* the schema knows the same names */
    }
    return algs;
}

/* One of the five is set: the schema's rules see to it. */
static void set_source(struct keyset_options *o, const struct config_keys *k)
{
    const struct {
        enum key_source source;
        const char *where;
    } given[] = {{KEY_SECRET, k->secret},
                 {KEY_SECRET_FILE, k->secret_file},
                 {KEY_PUBLIC_FILE, k->public_key_file},
                 {KEY_JWKS_FILE, k->jwks_file},
                 {KEY_JWKS_URL, k->jwks_url}};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        if (given[i].where) {
            o->source = given[i].source;
            o->where = given[i].where;
        }
    }
    REQUIRE(o->where);
}

int server_keys_open(struct keyring **out, const struct config *cfg, struct err *e)
{
    struct keyset_options *v = xcalloc(cfg->keys.n, sizeof *v);
    for (size_t i = 0; i < cfg->keys.n; i++) {
        const struct config_keys *k = &cfg->keys.v[i];
        v[i] = (struct keyset_options){.name = k->name,
                                       .ca_file = k->ca_file,
                                       .algs = algs_of(&k->algorithms),
                                       .refresh_s = (unsigned)k->refresh_s,
                                       .stale_s = (unsigned)k->stale_s,
                                       .fresh_ms = FRESH_MS};
        set_source(&v[i], k);
    }
    int rc = keyring_open(out, v, cfg->keys.n, (size_t)cfg->policy.token_cache_bytes, e);
    free(v);
    return rc;
}
