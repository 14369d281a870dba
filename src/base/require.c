#include "base/require.h"

#include <stdio.h>
#include <stdlib.h>

/* Plain stderr, not the logger: when this runs, neither memory nor the logger can be relied on. */
_Noreturn void require_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "level=fatal msg=\"invariant failed\" what=\"%s\" at=%s:%d\n", what, file,
            line);
    abort();
}
