/* Reads whole files, up to a limit: configurations, keys, policies, input of commands. */
#ifndef BASE_PROGRAM_READ_FILE_H
#define BASE_PROGRAM_READ_FILE_H

#include "base/strbuf.h"

#include <stdio.h>

/* Appends the rest of `f`. 0; UV_ENOBUFS: more than `out->max` allows; UV_ENOMEM; else the negative
 * errno of the read. On failure `out` may hold a part of it. */
__attribute__((warn_unused_result)) int read_stream(FILE *f, struct strbuf *out);
/* The same for the file at `path`; NULL and "-" are standard input. */
__attribute__((warn_unused_result)) int read_file(const char *path, struct strbuf *out);

#endif
