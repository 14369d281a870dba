/* The mark: every id that was handed out here lies below a number that stands in events.db-lock,
 * beside the database and so outside of any copy of it. Where an older copy is put in place and the
 * clock is slow, it says what the clock would hide. */
#include "store/sqlite/sqlite_db.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

/* Written so far ahead, so that it is written rarely. Not synced: it has to outlive the process. */
enum { MARK_AHEAD = 1 << 16, MARK_TEXT = 21 };

uint64_t sqlite_mark_read(int fd)
{
    char text[MARK_TEXT + 1] = "";
    ssize_t n = pread(fd, text, MARK_TEXT, 0);
    uint64_t mark = n == MARK_TEXT && text[MARK_TEXT - 1] == '\n' ? strtoull(text, NULL, 10) : 0;
    return mark < EVENT_ID_MAX - MARK_AHEAD ? mark : 0;
}

int sqlite_mark_keep_above(struct sqlite_db *db, uint64_t id)
{
    char text[MARK_TEXT + 1];
    if (db->mark >= id + MARK_AHEAD / 2) {
        return 0;
    }
    uint64_t mark = id + MARK_AHEAD;
    (void)snprintf(text, sizeof text, "%020" PRIu64 "\n", mark);
    ssize_t n = pwrite(db->lock_fd, text, MARK_TEXT, 0);
    if (n != MARK_TEXT) {
        return n < 0 ? uv_translate_sys_error(errno) : UV_EIO;
    }
    db->mark = mark;
    return 0;
}
