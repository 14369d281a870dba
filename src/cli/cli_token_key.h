/* The key that `tidegate token` signs with. */
#ifndef CLI_CLI_TOKEN_KEY_H
#define CLI_CLI_TOKEN_KEY_H

#include "auth/jwt.h"
#include "base/program/options.h"
#include "config/config.h"
#include "tools/jwt_sign.h"

struct token_key_words {
    const char *set, *kid, *alg, *private_key; /* each may be NULL */
};

struct token_key {
    struct jwt_signer *signer; /* owned */
    enum jwt_alg alg;
    char *kid; /* owned; NULL: none */
};

/* 0, or the exit code after a message. `out` is to be closed in any case. */
int token_key_open(const struct options *o, const struct config *cfg,
                   const struct token_key_words *w, struct token_key *out);
void token_key_close(struct token_key *k);

#endif
