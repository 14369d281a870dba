/* A body in chunks (RFC 9112, 7.1): what stands around the bytes of a chunk, and how many of them
 * have left when the kernel cuts a write anywhere. Pure.
 *
 * The head of a chunk promises bytes. When they do not leave at once, whatever comes next fills the
 * promise before a new chunk begins, so that nothing has to be kept for it. */
#ifndef NET_MESSAGE_HTTP_CHUNK_H
#define NET_MESSAGE_HTTP_CHUNK_H

#include "base/slice.h"

#include <stdint.h>

enum { HTTP_CHUNK_HEAD_MAX = 10 }; /* "ffffffff", CR, LF */

#define HTTP_CHUNK_END "\r\n"
#define HTTP_CHUNK_LAST "0\r\n\r\n"

/* One write: `before` bytes of the payload, `middle`, the other bytes, `tail`. */
struct http_chunk_write {
    size_t total; /* bytes of payload */
    size_t before;
    struct slice middle, tail;
    char text[2 + HTTP_CHUNK_HEAD_MAX]; /* `middle` points into it */
};

/* Writes the head of a chunk of `n` bytes so that it ends at `end`; returns how long it is. */
unsigned http_chunk_head_before(char *end, uint32_t n);
/* `left` bytes of an earlier chunk are promised; `total`, not 0, are to be written. */
void http_chunk_plan(struct http_chunk_write *w, uint32_t left, size_t total);
/* The kernel took `n` bytes of all that. Returns how many of the payload, sets what is promised now,
 * and what has to leave before anything else (borrowed from `w`). */
size_t http_chunk_taken(const struct http_chunk_write *w, size_t n, uint32_t *left,
                        struct slice *rest);

#endif
