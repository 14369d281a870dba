/* Why a token is, or is not, accepted. */
#ifndef CLI_CLI_TOKEN_VERIFY_H
#define CLI_CLI_TOKEN_VERIFY_H

#include "base/slice.h"
#include "config/config.h"

/* With the key set of that name, NULL: with all. Prints the claims, or the reasons on stderr. Answers
 * the exit code. */
int cli_token_verify(const struct config *cfg, const char *set, struct slice token);

#endif
