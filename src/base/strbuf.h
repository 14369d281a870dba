/* Growable byte buffer with a hard limit, for content whose size the network or an operator chooses.
 * All append functions return 0, UV_ENOBUFS (would exceed `max`) or UV_ENOMEM; on failure the
 * content is unchanged. `data` is NUL-terminated whenever it is not NULL. */
#ifndef BASE_STRBUF_H
#define BASE_STRBUF_H

#include "base/slice.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct strbuf {
    char *data; /* owned; NULL while nothing was appended */
    size_t len, cap;
    size_t max; /* most bytes of content ever held */
};

void strbuf_init(struct strbuf *b, size_t max);
/* Frees the memory and keeps `max`: the buffer may be used again. */
void strbuf_clear(struct strbuf *b);
/* The same for secrets: nothing of it stays in the memory. What was appended before the buffer grew may: make
 * room for all of it first. */
void strbuf_wipe(struct strbuf *b);
/* Forgets the content, keeps the memory. */
void strbuf_reset(struct strbuf *b);
__attribute__((warn_unused_result)) int strbuf_append(struct strbuf *b, const char *p, size_t n);
__attribute__((warn_unused_result)) int strbuf_append_str(struct strbuf *b, const char *text);
__attribute__((warn_unused_result, format(printf, 2, 3))) int strbuf_printf(struct strbuf *b,
                                                                            const char *fmt, ...);
__attribute__((warn_unused_result)) int strbuf_append_decimal(struct strbuf *b, uint64_t n);
/* Makes room for `n` more bytes; they are at data + len. The caller adds to len what it wrote. */
__attribute__((warn_unused_result)) int strbuf_reserve(struct strbuf *b, size_t n);
/* Drops the first `n` bytes. */
void strbuf_consume(struct strbuf *b, size_t n);
/* The content, borrowed until the next change. */
struct slice strbuf_slice(const struct strbuf *b);
/* Gives the memory to the caller (free()); the buffer is empty afterwards. NULL when empty. */
char *strbuf_detach(struct strbuf *b);

#endif
