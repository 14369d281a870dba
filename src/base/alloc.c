#include "base/alloc.h"

#include "base/require.h"

#include <stdlib.h>
#include <string.h>

/* Of jemalloc, which a build with a sanitizer goes without. Its header renames functions. */
__attribute__((weak)) int mallctl(const char *name, void *old, size_t *old_size, void *new_value,
                                  size_t new_size);
__attribute__((weak)) void dallocx(void *p, int flags);

enum { TCACHE_NONE = 1 << 8 }; /* MALLOCX_TCACHE_NONE */

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

unsigned alloc_new_arena(void)
{
    unsigned arena = 0;
    size_t size = sizeof arena;
    return mallctl && mallctl("arenas.create", &arena, &size, NULL, 0) == 0 ? arena : 0;
}

void alloc_use_arena(unsigned arena)
{
    if (arena && mallctl) { /* where it fails it has one of its own */
        (void)mallctl("thread.arena", NULL, NULL, &arena, sizeof arena);
    }
}

void alloc_free_to_arena(void *p)
{
    if (p && dallocx) {
        dallocx(p, TCACHE_NONE);
    } else {
        free(p);
    }
}
