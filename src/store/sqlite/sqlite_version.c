#include "store/sqlite/sqlite_version.h"

#include <sqlite3.h>

const char *sqlite_version_text(void)
{
    return sqlite3_libversion();
}
