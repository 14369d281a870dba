/* Whatever a key server answers: a set that is taken holds keys of one kind only, each bound to
 * algorithms of its own type. */
#include "auth/jwks.h"
#include "base/logging.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct jwks *s, unsigned algs)
{
    if (s->n == 0 || s->n > JWKS_MAX_KEYS) {
        abort();
    }
    for (size_t i = 0; i < s->n; i++) {
        const struct jwk *k = &s->keys[i];
        if (k->algs == 0 || (k->algs & ~(algs & jwa_of_type(k->type))) ||
            (k->type == JWK_OCT) != s->symmetric || (k->public == NULL) != s->symmetric ||
            (k->secret != NULL) != s->symmetric) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set_level(LOG_LEVEL_ERROR);
    unsigned algs = size && data[0] & 1 ? jwa_asymmetric() : jwa_asymmetric() | jwa_symmetric();
    struct slice text = size ? slice_of((const char *)data + 1, size - 1) : slice_of("", 0);
    struct jwks *s;
    struct err e;
    if (jwks_parse(text, algs, "fuzz", &s, &e) == 0) {
        check(s, algs);
        jwks_free(s);
    }
    if (jwks_from_pem(text, algs, &s, &e) == 0) {
        check(s, algs & jwa_asymmetric());
        jwks_free(s);
    }
    return 0;
}
