/* `tidegate doctor`: is the machine, the database, the way to the clients fit for a broker? */
#ifndef DOCTOR_DOCTOR_H
#define DOCTOR_DOCTOR_H

#include "base/program/options.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP. */
int doctor(char **words, size_t n);

extern const char doctor_details[];
extern const struct option_row doctor_rows[];

#endif
