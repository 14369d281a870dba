#include "auth/jwa.h"

const struct jwa jwa_table[JWT_ALG_COUNT] = {
#define X(name, type, digest, bytes) [JWT_##name] = {#name, type, digest, bytes},
    JWT_ALGS(X)
#undef X
};

int jwa_find(struct slice name)
{
    for (int i = 0; i < JWT_ALG_COUNT; i++) {
        if (slice_is(name, jwa_table[i].name)) {
            return i;
        }
    }
    return -1;
}

unsigned jwa_of_type(enum jwk_type type)
{
    unsigned algs = 0;
    for (int i = 0; i < JWT_ALG_COUNT; i++) {
        if (jwa_table[i].type == type) {
            algs |= JWA_BIT(i);
        }
    }
    return algs;
}

unsigned jwa_symmetric(void)
{
    return jwa_of_type(JWK_OCT);
}

unsigned jwa_asymmetric(void)
{
    return (JWA_BIT(JWT_ALG_COUNT) - 1) & ~jwa_symmetric();
}
