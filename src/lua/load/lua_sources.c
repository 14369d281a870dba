#include "lua/load/lua_sources.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

void lua_sources_init(struct lua_sources *s)
{
    *s = (struct lua_sources){.digest = digest_new()};
}

void lua_sources_clear(struct lua_sources *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->v[i].path);
    }
    free(s->v);
    digest_free(s->digest);
    *s = (struct lua_sources){0};
}

static int64_t nanoseconds(const struct timespec *t)
{
    return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

static void lua_sources_note(struct lua_source *f, const struct stat *st)
{
    f->device = st->st_dev;
    f->inode = st->st_ino;
    f->size = st->st_size;
    f->mtime_ns = nanoseconds(&st->st_mtim);
    f->ctime_ns = nanoseconds(&st->st_ctim);
}

int lua_sources_add(struct lua_sources *s, const char *path, const struct stat *st)
{
    if (s->n == LUA_SOURCES_MAX) {
        return UV_E2BIG;
    }
    s->v = xrealloc(s->v, (s->n + 1) * sizeof *s->v);
    struct lua_source *f = &s->v[s->n++];
    *f = (struct lua_source){.path = xstrdup(path)};
    if (st) {
        lua_sources_note(f, st);
    }
    return 0;
}

int lua_sources_add_data(struct lua_sources *s, const char *path)
{
    struct stat st;
    int rc = lua_sources_add(s, path, stat(path, &st) == 0 ? &st : NULL);
    if (rc == 0) {
        s->v[s->n - 1].data = true;
    }
    return rc;
}

/* Lengths go first: no two sets of files look alike. */
static int hash_part(struct digest *d, struct slice s)
{
    uint64_t n = s.n;
    unsigned char length[8];
    for (unsigned i = 0; i < sizeof length; i++) {
        length[i] = (unsigned char)(n >> (8 * i));
    }
    int rc = digest_add(d, length, sizeof length);
    return rc ? rc : digest_add(d, s.p, s.n);
}

int lua_sources_hash(struct lua_sources *s, const char *chunk, struct slice text)
{
    if (!s->digest) {
        return UV_ENOMEM;
    }
    int rc = hash_part(s->digest, slice_str(chunk));
    return rc ? rc : hash_part(s->digest, text);
}

int lua_sources_finish(struct lua_sources *s)
{
    int rc = s->digest ? digest_hex(s->digest, s->version) : UV_ENOMEM;
    digest_free(s->digest);
    s->digest = NULL;
    return rc;
}

/* All zeros where there is none. */
static struct lua_source lua_sources_now(const char *path)
{
    struct lua_source now = {0};
    struct stat st;
    if (stat(path, &st) == 0) {
        lua_sources_note(&now, &st);
    }
    return now;
}

void lua_sources_look_again(struct lua_sources *s)
{
    for (size_t i = 0; i < s->n; i++) {
        struct lua_source now = lua_sources_now(s->v[i].path);
        now.path = s->v[i].path;
        now.data = s->v[i].data;
        s->v[i] = now;
    }
}

bool lua_sources_changed(const struct lua_sources *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct lua_source *was = &s->v[i];
        struct lua_source now = lua_sources_now(was->path);
        if (now.device != was->device || now.inode != was->inode || now.size != was->size ||
            now.mtime_ns != was->mtime_ns || now.ctime_ns != was->ctime_ns) {
            return true;
        }
    }
    return false;
}

char *lua_sources_directory(const char *file)
{
    const char *slash = strrchr(file, '/');
    char *dir = slash && slash > file ? xstrndup(file, (size_t)(slash - file)) : xstrdup("/");
    char *resolved = realpath(dir, NULL);
    free(dir);
    return resolved;
}
