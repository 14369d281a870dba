#include "reload/policy_watch.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "lua/load/lua_sources.h"

#include <stdlib.h>
#include <string.h>

enum { DEBOUNCE_MS = 200, LOOK_MS = 1000, DIRECTORIES_MAX = 32 };

/* inotify(7) by way of libuv: what happens to the names in one directory. */
struct directory {
    uv_fs_event_t handle;
    struct policy_watch *watch;
    char *path;
};

struct policy_watch {
    struct loop *loop;
    void (*changed)(void *ctx);
    void *ctx;
    const struct lua_sources *sources;
    struct directory *directories[DIRECTORIES_MAX]; /* owned, each until its handle is closed */
    unsigned count;
    struct deadline settle, look;
    bool told; /* of these sources */
};

static void policy_watch_check(struct policy_watch *w)
{
    if (!w->told && w->sources && lua_sources_changed(w->sources)) {
        w->told = true;
        w->changed(w->ctx); /* may set other sources */
    }
}

static void on_settled(struct deadline *d)
{
    policy_watch_check(container_of(d, struct policy_watch, settle));
}

static void touch(struct policy_watch *w)
{
    deadline_arm(loop_deadline_class(w->loop, DEBOUNCE_MS, on_settled), &w->settle);
}

static void on_look(struct deadline *d)
{
    struct policy_watch *w = container_of(d, struct policy_watch, look);
    if (!list_linked(&w->settle.node) && !w->told && lua_sources_changed(w->sources)) {
        touch(w); /* the writer may not be done */
    }
    deadline_arm(loop_deadline_class(w->loop, LOOK_MS, on_look), &w->look);
}

static void on_event(uv_fs_event_t *h, const char *name, int events, int status)
{
    struct directory *dir = container_of(h, struct directory, handle);
    (void)name; /* of whatever lies there; the files tell */
    (void)events;
    (void)status; /* even an error is reason to look */
    touch(dir->watch);
}

static void policy_watch_on_closed(uv_handle_t *h)
{
    struct directory *dir = container_of((uv_fs_event_t *)h, struct directory, handle);
    free(dir->path);
    free(dir);
}

static void forget_directories(struct policy_watch *w)
{
    while (w->count) {
        uv_close((uv_handle_t *)&w->directories[--w->count]->handle, policy_watch_on_closed);
    }
}

static bool is_watched(const struct policy_watch *w, const char *path)
{
    for (unsigned i = 0; i < w->count; i++) {
        if (strcmp(w->directories[i]->path, path) == 0) {
            return true;
        }
    }
    return false;
}

/* Takes `path`. */
static void watch_directory(struct policy_watch *w, char *path)
{
    if (w->count == DIRECTORIES_MAX || is_watched(w, path)) {
        free(path);
        return;
    }
    struct directory *dir = xcalloc(1, sizeof *dir);
    dir->watch = w;
    dir->path = path;
    REQUIRE(uv_fs_event_init(loop_uv(w->loop), &dir->handle) == 0);
    w->directories[w->count++] = dir;
    int rc = uv_fs_event_start(&dir->handle, on_event, path, 0);
    if (rc) {
        log_debug("policy", "directory cannot be watched, its files are looked at once a second",
                  LOG_F(log_str("directory", path), log_str("error", uv_strerror(rc))));
    }
}

struct policy_watch *policy_watch_new(struct loop *loop, void (*changed)(void *ctx), void *ctx)
{
    struct policy_watch *w = xcalloc(1, sizeof *w);
    w->loop = loop;
    w->changed = changed;
    w->ctx = ctx;
    deadline_init(&w->settle);
    deadline_init(&w->look);
    return w;
}

void policy_watch_set(struct policy_watch *w, const struct lua_sources *sources)
{
    w->sources = sources;
    w->told = false;
    forget_directories(w); /* the same name may be another directory by now */
    for (size_t i = 0; i < sources->n; i++) {
        const char *path = sources->v[i].path;
        const char *slash = strrchr(path, '/');
        watch_directory(w, slash > path ? xstrndup(path, (size_t)(slash - path)) : xstrdup("/"));
    }
    deadline_arm(loop_deadline_class(w->loop, LOOK_MS, on_look), &w->look);
}

void policy_watch_close(struct policy_watch *w)
{
    if (w) {
        deadline_disarm(&w->settle);
        deadline_disarm(&w->look);
        forget_directories(w);
        free(w);
    }
}
