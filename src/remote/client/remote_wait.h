/* The end of a command that runs until someone stops it. */
#ifndef REMOTE_CLIENT_REMOTE_WAIT_H
#define REMOTE_CLIENT_REMOTE_WAIT_H

#include <stdbool.h>
#include <stdint.h>

/* From now on SIGINT, SIGTERM and SIGHUP do not end the process: remote_wait() tells of them. */
void remote_wait_begin(void);
/* Waits for one of those signals, at most `ms` (0: only looks). True: one came. */
bool remote_wait(uint64_t ms);

#endif
