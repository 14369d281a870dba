/* The files a policy was made of, as they were read: their hash is its version, and a look at them
 * later tells whether there is anything new. */
#ifndef LUA_POLICY_LUA_SOURCES_H
#define LUA_POLICY_LUA_SOURCES_H

#include "base/digest.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

enum { LUA_SOURCES_MAX = 1000 };

struct lua_source {
    char *path; /* owned */
    /* what stat(2) said when it was read; all 0: it could not be */
    dev_t device;
    ino_t inode;
    int64_t size, mtime_ns, ctime_ns;
};

struct lua_sources {
    struct lua_source *v; /* owned, in the order of loading */
    size_t n;
    struct digest *digest; /* owned; NULL once the version is made */
    char version[DIGEST_HEX_BYTES];
};

void lua_sources_init(struct lua_sources *s);
void lua_sources_clear(struct lua_sources *s);
/* A file is about to be read; `st` is NULL when it could not be opened. UV_E2BIG: too many. */
__attribute__((warn_unused_result)) int lua_sources_add(struct lua_sources *s, const char *path,
                                                        const struct stat *st);
/* Its content, under the name scripts know it by. */
__attribute__((warn_unused_result)) int lua_sources_hash(struct lua_sources *s, const char *chunk,
                                                         struct slice text);
/* Everything was loaded: makes `version`. */
__attribute__((warn_unused_result)) int lua_sources_finish(struct lua_sources *s);
/* Does stat(2) now say something else of one of the files? */
bool lua_sources_changed(const struct lua_sources *s);
/* The directory of `file` (absolute), with symbolic links resolved: what `require` stays below.
 * free() it; NULL: errno says why. */
char *lua_sources_directory(const char *file);

#endif
