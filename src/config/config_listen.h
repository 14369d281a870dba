/* Listening addresses that exclude each other. Pure. */
#ifndef CONFIG_CONFIG_LISTEN_H
#define CONFIG_CONFIG_LISTEN_H

#include "base/strbuf.h"

struct config_place {
    char name[32]; /* where the address was given: "listen[2]", "admin" */
    const char *address;
};

/* Appends a line for each address that one before it has as well. 0; UV_EINVAL: there is one; or memory is short. */
int config_listen_check(const struct config_place *places, size_t n, struct strbuf *problems);

#endif
