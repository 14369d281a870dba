/* `tidegate erase`: takes events out of the store of a running broker, for good. */
#ifndef REMOTE_REMOTE_ERASE_H
#define REMOTE_REMOTE_ERASE_H

#include "base/program/options.h"

extern const char remote_erase_details[];
extern const struct option_row remote_erase_rows[];

/* The exit code, or CLI_HELP. */
int remote_erase(char **words, size_t n);

#endif
