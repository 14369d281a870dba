/* See test_cover.h. */
#include "tools/test/test_cover.h"

#include "base/alloc.h"
#include "lua/load/lua_policy_file.h"
#include "lua/vm/lua_host.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

struct cover_file {
    char *path;     /* owned; where it really is */
    uint32_t *hits; /* owned; of line i + 1 */
    size_t n;
    struct cover_file *next;
};

/* A file that a policy has loaded, which is not closed yet. */
struct cover_chunk {
    const struct lua_host *host;
    char *name; /* owned; as functions say it, with "@" */
    struct cover_file *file;
    bool first; /* the policy's own file */
    struct cover_chunk *next;
};

struct cover_condition {
    char *text; /* owned */
    size_t offset;
    uint64_t yes, no;
};

struct cover_filter {
    char *path, *name, *where, *text; /* owned; path: of the policy */
    struct cover_condition *v;        /* owned */
    size_t n;
    struct cover_filter *next;
};

struct test_cover {
    struct lua_cover record;
    struct cover_file *files;
    struct cover_chunk *chunks;
    struct cover_filter *filters;
    /* The chunk of the line before: most often that of the next. */
    const struct lua_host *last_host;
    const char *last_source; /* of Lua; compared as a pointer only while that host is open */
    struct cover_file *last;
};

static struct cover_file *test_cover_file(struct test_cover *c, const char *path)
{
    struct cover_file **at = &c->files;
    while (*at && strcmp((*at)->path, path) != 0) {
        at = &(*at)->next;
    }
    if (!*at) {
        *at = xcalloc(1, sizeof **at);
        (*at)->path = xstrdup(path);
    }
    return *at;
}

static void test_cover_loaded(void *ctx, const struct lua_host *host, const char *path,
                              const char *chunk)
{
    struct test_cover *c = ctx;
    struct cover_chunk **at = &c->chunks;
    bool first = true;
    for (; *at; at = &(*at)->next) {
        first = first && (*at)->host != host;
    }
    size_t n = strlen(chunk) + 2;
    struct cover_chunk *one = *at = xcalloc(1, sizeof *one);
    one->host = host;
    one->name = xmalloc(n);
    one->name[0] = '@';
    memcpy(one->name + 1, chunk, n - 1);
    one->file = test_cover_file(c, path);
    one->first = first;
}

static struct cover_file *test_cover_find(const struct test_cover *c, const struct lua_host *host,
                                          const char *source)
{
    for (const struct cover_chunk *k = c->chunks; k; k = k->next) {
        if (k->host == host && strcmp(k->name, source) == 0) {
            return k->file;
        }
    }
    return NULL; /* the sandbox's own */
}

static void test_cover_line(lua_State *L, lua_Debug *ar)
{
    const struct lua_host *host = lua_vm_host(L);
    struct test_cover *c = host->cover->ctx;
    if (!lua_getinfo(L, "Sl", ar) || ar->currentline < 1) {
        return;
    }
    if (host != c->last_host || ar->source != c->last_source) {
        c->last = test_cover_find(c, host, ar->source);
        c->last_host = host;
        c->last_source = ar->source;
    }
    struct cover_file *f = c->last;
    size_t line = (size_t)ar->currentline;
    if (f && line > f->n) {
        f->hits = xrealloc(f->hits, line * sizeof *f->hits);
        memset(f->hits + f->n, 0, (line - f->n) * sizeof *f->hits);
        f->n = line;
    }
    if (f && f->hits[line - 1] < UINT32_MAX) {
        f->hits[line - 1]++;
    }
}

static void test_cover_count(struct cover_filter *f, size_t i, const struct filter_condition *c)
{
    if (i == f->n) {
        f->v = xrealloc(f->v, (f->n + 1) * sizeof *f->v);
        f->v[f->n++] =
            (struct cover_condition){.text = xstrndup(c->text.p, c->text.n), .offset = c->offset};
    }
    f->v[i].yes += c->yes;
    f->v[i].no += c->no;
}

struct counting {
    struct cover_filter *f;
    size_t i;
};

static void test_cover_on_condition(void *ctx, const struct filter_condition *c)
{
    struct counting *x = ctx;
    test_cover_count(x->f, x->i++, c);
}

static void test_cover_filter(struct test_cover *c, const char *path, const struct lua_function *fn)
{
    struct slice text = filter_text(fn->text);
    struct cover_filter **at = &c->filters;
    for (; *at; at = &(*at)->next) {
        if (strcmp((*at)->path, path) == 0 && strcmp((*at)->name, fn->name) == 0 &&
            slice_eq(slice_str((*at)->text), text)) {
            break;
        }
    }
    if (!*at) {
        *at = xcalloc(1, sizeof **at);
        **at = (struct cover_filter){.path = xstrdup(path),
                                     .name = xstrdup(fn->name),
                                     .where = xstrdup(fn->where),
                                     .text = xstrndup(text.p, text.n)};
    }
    struct counting x = {*at, 0};
    filter_each_condition(fn->text, test_cover_on_condition, &x);
}

static void test_cover_closing(void *ctx, const struct lua_host *host,
                               const struct lua_policy_file *file)
{
    struct test_cover *c = ctx;
    const char *path = NULL;
    for (const struct cover_chunk *k = c->chunks; k && !path; k = k->next) {
        path = k->host == host && k->first ? k->file->path : NULL;
    }
    for (size_t i = 0; path && i < file->filters.n; i++) {
        if (file->filters.v[i].text) {
            test_cover_filter(c, path, &file->filters.v[i]);
        }
    }
    for (struct cover_chunk **at = &c->chunks; *at;) {
        struct cover_chunk *k = *at;
        if (k->host == host) {
            *at = k->next;
            free(k->name);
            free(k);
        } else {
            at = &k->next;
        }
    }
    c->last_host = NULL;
}

struct test_cover *test_cover_new(void)
{
    struct test_cover *c = xcalloc(1, sizeof *c);
    c->record = (struct lua_cover){test_cover_line, test_cover_loaded, test_cover_closing, c};
    return c;
}

const struct lua_cover *test_cover_of(const struct test_cover *c)
{
    return c ? &c->record : NULL;
}

void test_cover_free(struct test_cover *c)
{
    if (!c) {
        return;
    }
    while (c->files) {
        struct cover_file *f = c->files;
        c->files = f->next;
        free(f->path);
        free(f->hits);
        free(f);
    }
    while (c->chunks) {
        struct cover_chunk *k = c->chunks;
        c->chunks = k->next;
        free(k->name);
        free(k);
    }
    while (c->filters) {
        struct cover_filter *f = c->filters;
        c->filters = f->next;
        for (size_t i = 0; i < f->n; i++) {
            free(f->v[i].text);
        }
        free(f->v);
        free(f->path);
        free(f->name);
        free(f->where);
        free(f->text);
        free(f);
    }
    free(c);
}

/* ---------------------------------------------------------------- for scripts */

static void test_cover_set(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void test_cover_set_count(lua_State *L, const char *name, uint64_t n)
{
    lua_pushinteger(L, (lua_Integer)n);
    lua_setfield(L, -2, name);
}

static void test_cover_append(lua_State *L)
{
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

static void test_cover_push_file(lua_State *L, const struct cover_file *f)
{
    lua_createtable(L, 0, 2);
    test_cover_set(L, "path", f->path);
    lua_newtable(L);
    for (size_t i = 0; i < f->n; i++) {
        if (f->hits[i]) {
            lua_pushinteger(L, f->hits[i]);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
    }
    lua_setfield(L, -2, "lines");
}

static void test_cover_push_filter(lua_State *L, const struct cover_filter *f)
{
    lua_createtable(L, 0, 5);
    test_cover_set(L, "path", f->path);
    test_cover_set(L, "name", f->name);
    test_cover_set(L, "where", f->where);
    test_cover_set(L, "text", f->text);
    lua_createtable(L, (int)f->n, 0);
    for (size_t i = 0; i < f->n; i++) {
        lua_createtable(L, 0, 4);
        test_cover_set(L, "text", f->v[i].text);
        test_cover_set_count(L, "offset", f->v[i].offset);
        test_cover_set_count(L, "yes", f->v[i].yes);
        test_cover_set_count(L, "no", f->v[i].no);
        test_cover_append(L);
    }
    lua_setfield(L, -2, "conditions");
}

void test_cover_push(lua_State *L, const struct test_cover *c)
{
    luaL_checkstack(L, 10, NULL);
    lua_createtable(L, 0, 2);
    lua_newtable(L);
    for (const struct cover_file *f = c->files; f; f = f->next) {
        test_cover_push_file(L, f);
        test_cover_append(L);
    }
    lua_setfield(L, -2, "files");
    lua_newtable(L);
    for (const struct cover_filter *f = c->filters; f; f = f->next) {
        test_cover_push_filter(L, f);
        test_cover_append(L);
    }
    lua_setfield(L, -2, "filters");
}
