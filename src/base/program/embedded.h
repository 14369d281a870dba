/* Files of the tree carried inside the binary: Lua libraries, the try-out page. */
#ifndef BASE_PROGRAM_EMBEDDED_H
#define BASE_PROGRAM_EMBEDDED_H

#include <stddef.h>
#include <string.h>

struct embedded {
    const char *path; /* as in the tree: "scripts/lib/schema.lua" */
    const char *data; /* NUL-terminated for convenience */
    size_t size;
};

/* NULL when there is none of that path. Lives as long as the process. */
const struct embedded *embedded_find(const char *path);

#endif
