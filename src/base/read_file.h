/* Files read whole, up to a bound: configurations, keys, policies, what a command is given. */
#ifndef BASE_READ_FILE_H
#define BASE_READ_FILE_H

#include "base/strbuf.h"

#include <stdio.h>

/* Appends all that `f` still has. 0; UV_ENOBUFS where it is more than `out->max` allows; UV_ENOMEM;
 * else the negative errno of the read. `out` may hold a part of it then. */
__attribute__((warn_unused_result)) int read_stream(FILE *f, struct strbuf *out);
/* The same for the file at `path`; NULL and "-" are standard input. */
__attribute__((warn_unused_result)) int read_file(const char *path, struct strbuf *out);

#endif
