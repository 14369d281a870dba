#include "base/alloc.h"

#include "base/require.h"

#include <stdlib.h>
#include <string.h>

/* Of jemalloc, which a build with a sanitizer goes without. Its header renames functions. */
__attribute__((weak)) int mallctl(const char *name, void *old, size_t *old_size, void *new_value,
                                  size_t new_size);

void *xmalloc(size_t size)
{
    void *p = malloc(size ? size : 1);
    REQUIRE(p != NULL);
    return p;
}

void *xcalloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    REQUIRE(p != NULL);
    return p;
}

void *xrealloc(void *old, size_t size)
{
    void *p = realloc(old, size ? size : 1);
    REQUIRE(p != NULL);
    return p;
}

char *xstrndup(const char *text, size_t len)
{
    char *copy = xmalloc(len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *xstrdup(const char *text)
{
    return xstrndup(text, strlen(text));
}

void alloc_trim(void)
{
    if (mallctl) { /* where it fails memory stays as it is */
        (void)mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
        (void)mallctl("arena.4096.purge", NULL, NULL, NULL, 0); /* of all arenas */
    }
}
