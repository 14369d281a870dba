/* The `keys` of a configuration, as a keyring. */
#ifndef SERVER_SERVER_KEYS_H
#define SERVER_SERVER_KEYS_H

#include "auth/keyring.h"
#include "config/config.h"

/* Reads secrets and files; on failure `e` begins with "keys.NAME". */
int server_keys_open(struct keyring **out, const struct config *cfg, struct err *e);

#endif
