/* What HTTP/1.1 puts around the bytes of a chunk (RFC 9112, 7.1): their number in front, a line end
 * behind. */
#ifndef NET_HTTP_HTTP_CHUNK_H
#define NET_HTTP_HTTP_CHUNK_H

#include <stdint.h>

enum { HTTP_CHUNK_HEAD_MAX = 10 }; /* "ffffffff", CR, LF */

/* Writes the head of a chunk of `n` bytes so that it ends at `end`; returns how long it is. */
static inline unsigned http_chunk_head_before(char *end, uint32_t n)
{
    char *at = end;
    *--at = '\n';
    *--at = '\r';
    do {
        *--at = "0123456789abcdef"[n & 15];
        n >>= 4;
    } while (n);
    return (unsigned)(end - at);
}

#endif
