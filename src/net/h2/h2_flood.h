/* How many unusual frames (h2_frames.h) and glitches a client may send on one HTTP/2 connection: some
 * hundreds at once, and some each second. More is a flood: the connection ends. */
#ifndef NET_H2_H2_FLOOD_H
#define NET_H2_H2_FLOOD_H

#include "net/http/conn.h"

enum { H2_FLOOD_AT_ONCE = 512 }; /* a page with many streams is closed */

struct h2_flood {
    uint64_t at_ms;    /* loop time of `left` */
    uint32_t left;     /* frames that are still tolerated */
    uint32_t glitches; /* counted by the owner, to be taken at the end of a turn */
};

void h2_flood_init(struct h2_flood *f, uint64_t now_ms);
/* False: too many in too short a time. */
bool h2_flood_take(struct h2_flood *f, const struct conn *c, size_t n);
/* Counts the connection that floods, and logs it, or how many there were. */
void h2_flood_note(const struct conn *c);

#endif
