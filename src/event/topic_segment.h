/* Any text as one literal segment of a topic, and back: '%', '/', '*' and control characters stand there as %XX, as
 * tidegate.segment() of PostgreSQL writes the first three. Pure. */
#ifndef EVENT_TOPIC_SEGMENT_H
#define EVENT_TOPIC_SEGMENT_H

#include "base/slice.h"
#include "base/strbuf.h"
#include "net/message/http_query.h"

/* `text` is UTF-8. 0, or negative as strbuf_append(). */
__attribute__((warn_unused_result)) int topic_segment_append(struct strbuf *out, struct slice text);
/* UV_EINVAL: a '%' without two hex digits behind it, or what comes out is not UTF-8. Else as strbuf_append(). */
__attribute__((warn_unused_result)) int topic_segment_decode(struct strbuf *out,
                                                             struct slice segment);
/* "chan/{channel}": each {name} becomes the value of that name, as a segment. 0; UV_ENOENT: there is no such name; or
 * negative as strbuf_append(). */
__attribute__((warn_unused_result)) int topic_fill(struct strbuf *out, const char *pattern,
                                                   const struct http_query *values);

#endif
