/* `tidegate token`: signs a token with a key of the configuration, or says why one is not accepted. */
#ifndef CLI_CLI_TOKEN_H
#define CLI_CLI_TOKEN_H

#include "base/program/options.h"
#include "base/strbuf.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP. */
int cli_token(char **words, size_t n);
/* Appends the token that `word` is, or that the file holds which it names (@FILE, @-: standard input).
 * `about` names the argument in messages. 0, or the exit code after a message. */
int cli_token_read(const struct options *o, const char *about, const char *word,
                   struct strbuf *out);

extern const char cli_token_details[];
extern const struct option_row cli_token_rows[];

#endif
