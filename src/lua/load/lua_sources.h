/* The files that a policy was loaded from: their hash is its version, and stat(2) shows later whether
 * they have changed. */
#ifndef LUA_LOAD_LUA_SOURCES_H
#define LUA_LOAD_LUA_SOURCES_H

#include "base/digest.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

enum { LUA_SOURCES_MAX = 1000 };

struct lua_source {
    char *path; /* owned */
    /* of stat(2) when the file was read; all 0: it could not be opened */
    dev_t device;
    ino_t inode;
    int64_t size, mtime_ns, ctime_ns;
    bool data; /* no Lua of the policy: only whether it has changed counts */
};

struct lua_sources {
    struct lua_source *v; /* owned, in the order of loading */
    size_t n;
    struct digest *digest; /* owned; NULL once the version is made */
    char version[DIGEST_HEX_BYTES];
};

void lua_sources_init(struct lua_sources *s);
void lua_sources_clear(struct lua_sources *s);
/* Adds a file before it is read; `st` is NULL if it could not be opened. UV_E2BIG: too many. */
__attribute__((warn_unused_result)) int lua_sources_add(struct lua_sources *s, const char *path,
                                                        const struct stat *st);
/* Adds a file that holds data, such as a secret. */
__attribute__((warn_unused_result)) int lua_sources_add_data(struct lua_sources *s,
                                                             const char *path);
/* Adds its content to the hash, under the name that scripts use. */
__attribute__((warn_unused_result)) int lua_sources_hash(struct lua_sources *s, const char *chunk,
                                                         struct slice text);
/* Call it when everything is loaded: sets `version`. */
__attribute__((warn_unused_result)) int lua_sources_finish(struct lua_sources *s);
/* From now on a change counts from what stat(2) returns now. */
void lua_sources_look_again(struct lua_sources *s);
/* Does stat(2) now return other values for one of the files? */
bool lua_sources_changed(const struct lua_sources *s);
/* The directory of `file` (absolute), with symbolic links resolved; `require` reads only below it.
 * The caller frees it; NULL: errno says why. */
char *lua_sources_directory(const char *file);

#endif
