/* `tidegate restart`: asks a running supervisor for a rolling restart and waits for its end. */
#ifndef CLI_CLI_RESTART_H
#define CLI_CLI_RESTART_H

#include "config/config.h"

/* Finds it by its admin listener. Answers the exit code; what went wrong is on stderr. */
int cli_restart(const struct config *cfg);

#endif
