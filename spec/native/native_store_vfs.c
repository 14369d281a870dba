/* A layer over SQLite's files that can be told to fail, as disks do: vfs_fail{sync = n, write = n}
 * lets the next n calls on log files (-wal) fail, read = n the next n of readers on events.db; a
 * number may be huge. vfs_syncs() counts the successful syncs of logs. */
#include "native_store.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

struct file {
    sqlite3_file base;
    bool log;           /* the write-ahead log */
    bool reader;        /* events.db, opened for reading */
    sqlite3_file *real; /* right behind this struct */
};

static atomic_int fail_sync, fail_write, fail_read, syncs;

static sqlite3_file *real(sqlite3_file *f)
{
    return ((struct file *)(void *)f)->real;
}

static bool due(sqlite3_file *base, atomic_int *n)
{
    const struct file *f = (struct file *)(void *)base;
    if (!(n == &fail_read ? f->reader : f->log) || atomic_load(n) <= 0) {
        return false;
    }
    atomic_fetch_sub(n, 1);
    return true;
}

static const sqlite3_io_methods *methods_of(sqlite3_file *f)
{
    return real(f)->pMethods;
}

static int f_close(sqlite3_file *f)
{
    return methods_of(f)->xClose(real(f));
}
static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    return due(f, &fail_read) ? SQLITE_IOERR_READ : methods_of(f)->xRead(real(f), p, n, at);
}
static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    return due(f, &fail_write) ? SQLITE_IOERR_WRITE : methods_of(f)->xWrite(real(f), p, n, at);
}
static int f_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return methods_of(f)->xTruncate(real(f), size);
}
static int f_sync(sqlite3_file *f, int flags)
{
    if (due(f, &fail_sync)) {
        return SQLITE_IOERR_FSYNC;
    }
    if (((struct file *)(void *)f)->log) {
        atomic_fetch_add(&syncs, 1);
    }
    return methods_of(f)->xSync(real(f), flags);
}
static int f_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return methods_of(f)->xFileSize(real(f), size);
}
static int f_lock(sqlite3_file *f, int level)
{
    return methods_of(f)->xLock(real(f), level);
}
static int f_unlock(sqlite3_file *f, int level)
{
    return methods_of(f)->xUnlock(real(f), level);
}
static int f_reserved(sqlite3_file *f, int *out)
{
    return methods_of(f)->xCheckReservedLock(real(f), out);
}
static int f_control(sqlite3_file *f, int op, void *arg)
{
    return methods_of(f)->xFileControl(real(f), op, arg);
}
static int f_sector(sqlite3_file *f)
{
    return methods_of(f)->xSectorSize(real(f));
}
static int f_characteristics(sqlite3_file *f)
{
    return methods_of(f)->xDeviceCharacteristics(real(f));
}
static int f_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    return methods_of(f)->xShmMap(real(f), page, size, extend, out);
}
static int f_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return methods_of(f)->xShmLock(real(f), offset, n, flags);
}
static void f_shm_barrier(sqlite3_file *f)
{
    methods_of(f)->xShmBarrier(real(f));
}
static int f_shm_unmap(sqlite3_file *f, int delete_it)
{
    return methods_of(f)->xShmUnmap(real(f), delete_it);
}

static const sqlite3_io_methods methods = {.iVersion = 2,
                                           .xClose = f_close,
                                           .xRead = f_read,
                                           .xWrite = f_write,
                                           .xTruncate = f_truncate,
                                           .xSync = f_sync,
                                           .xFileSize = f_size,
                                           .xLock = f_lock,
                                           .xUnlock = f_unlock,
                                           .xCheckReservedLock = f_reserved,
                                           .xFileControl = f_control,
                                           .xSectorSize = f_sector,
                                           .xDeviceCharacteristics = f_characteristics,
                                           .xShmMap = f_shm_map,
                                           .xShmLock = f_shm_lock,
                                           .xShmBarrier = f_shm_barrier,
                                           .xShmUnmap = f_shm_unmap};

static sqlite3_vfs *below;
static sqlite3_vfs layer;

static int v_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *base, int flags, int *out)
{
    struct file *f = (struct file *)(void *)base;
    (void)vfs;
    f->real = (sqlite3_file *)(void *)(f + 1);
    f->log = (flags & SQLITE_OPEN_WAL) != 0;
    f->reader = (flags & SQLITE_OPEN_MAIN_DB) && (flags & SQLITE_OPEN_READONLY);
    int rc = below->xOpen(below, name, f->real, flags, out);
    f->base.pMethods = f->real->pMethods ? &methods : NULL;
    return rc;
}

static int number(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    int n = (int)luaL_optinteger(L, -1, 0);
    lua_pop(L, 1);
    return n;
}

static int l_vfs_fail(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    atomic_store(&fail_sync, number(L, "sync"));
    atomic_store(&fail_write, number(L, "write"));
    atomic_store(&fail_read, number(L, "read"));
    return 0;
}

static int l_vfs_syncs(lua_State *L)
{
    lua_pushinteger(L, atomic_load(&syncs));
    return 1;
}

void native_store_vfs(lua_State *L)
{
    if (!below) {
        below = sqlite3_vfs_find(NULL);
        layer = *below;
        layer.zName = "failing";
        layer.pNext = NULL;
        layer.szOsFile = below->szOsFile + (int)sizeof(struct file);
        layer.xOpen = v_open;
        (void)sqlite3_vfs_register(&layer, 1);
    }
    lua_pushcfunction(L, l_vfs_fail);
    lua_setfield(L, -2, "vfs_fail");
    lua_pushcfunction(L, l_vfs_syncs);
    lua_setfield(L, -2, "vfs_syncs");
}
