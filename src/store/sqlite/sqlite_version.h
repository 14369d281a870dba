/* Which SQLite this process runs on, for the `version` command. */
#ifndef STORE_SQLITE_SQLITE_VERSION_H
#define STORE_SQLITE_SQLITE_VERSION_H

/* "3.40.1": of the library found at run time. */
const char *sqlite_version_text(void);

#endif
