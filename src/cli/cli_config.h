/* The configuration that a command works with. */
#ifndef CLI_CLI_CONFIG_H
#define CLI_CLI_CONFIG_H

#include "config/config.h"

/* 0, or the exit code after a message on stderr: one line for each problem. `command` is for the
 * message; NULL: none is named. `conf` NULL: the defaults. `overrides` may be NULL. */
int cli_config_load(const char *command, const char *conf, const struct config_overrides *overrides,
                    struct config *cfg);

/* The configuration of a command that names none; `command` (if not NULL) says so on stderr: $TIDEGATE_CONF,
 * ./tidegate.lua or /etc/tidegate/tidegate.lua, the first that is there. NULL: none is. The last one
 * counts only where it can be read: it is the operator's. */
const char *cli_config_default(const char *command);

#endif
