#include "store/sqlite/timing/sqlite_wal_index.h"

#include <stddef.h>

enum {
    INDEX_BLOCK_BYTES = 32768, /* how SQLite maps it */
    CHANGES_OFFSET = 8,        /* iChange, 4 bytes in the order of the machine */
};

const uint32_t *sqlite_wal_index_counter(sqlite3 *db)
{
    sqlite3_file *file = NULL;
    void volatile *block = NULL;
    int rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (rc != SQLITE_OK || !file || !file->pMethods || file->pMethods->iVersion < 2 ||
        file->pMethods->xShmMap(file, 0, INDEX_BLOCK_BYTES, 0, &block) != SQLITE_OK || !block) {
        return NULL;
    }
    return (const uint32_t *)((uintptr_t)block + CHANGES_OFFSET);
}

int64_t sqlite_wal_index_changes(const uint32_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}
