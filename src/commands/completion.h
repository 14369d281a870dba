/* `tidegate completion`: scripts for shells, made of the table of commands. */
#ifndef COMMANDS_COMPLETION_H
#define COMMANDS_COMPLETION_H

#include "commands/command.h"

#include <stdbool.h>
#include <stddef.h>

/* Prints the script for `shell`: "bash", "zsh" or "fish". False: it is none of them. */
bool completion_print(const char *shell, const struct command *commands, size_t n);

extern const char completion_details[];

#endif
