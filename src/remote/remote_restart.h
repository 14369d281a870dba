/* `tidegate restart`: asks a running supervisor for a rolling restart and waits for its end. */
#ifndef REMOTE_REMOTE_RESTART_H
#define REMOTE_REMOTE_RESTART_H

#include "config/config.h"

/* Finds it by its admin listener. Answers the exit code; what went wrong is on stderr. */
int remote_restart(const struct config *cfg);

#endif
