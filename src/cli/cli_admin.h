/* Where a command finds the admin service of a running broker. */
#ifndef CLI_CLI_ADMIN_H
#define CLI_CLI_ADMIN_H

#include "base/program/options.h"
#include "net/address.h"

#define CLI_ADMIN_DEFAULT "127.0.0.1:8081" /* as in config_schema.lua */

/* `conf`: the configuration that was named; `admin`: the address instead; both may be NULL. Without
 * both: that of the configuration that is there (cli_config.h), else the default. 0, or the exit code
 * after a message. */
int cli_admin_address(const struct options *o, const char *conf, const char *admin,
                      struct address *out);

#endif
