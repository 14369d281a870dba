/* Fields -> wire bytes of text/event-stream (WHATWG HTML 9.2.5, 9.2.6). Pure, fuzzed: parsing the
 * frame again yields exactly the fields. */
#ifndef EVENT_SSE_FRAME_H
#define EVENT_SSE_FRAME_H

#include "base/slice.h"
#include "base/strbuf.h"
#include "net/frame.h"

#include <stdbool.h>
#include <stdint.h>

/* How a frame says which topic its event is of. */
enum sse_topic {
    SSE_TOPIC_NONE,
    SSE_TOPIC_COMMENT, /* for people */
    SSE_TOPIC_EVENT,   /* as the name of the event, unless a format has one */
};

struct sse_fields {
    uint64_t id;       /* 0: no id line */
    bool ends;         /* the id is told with EVENT_ID_END */
    struct slice mark; /* it is told with that, too; absent: without */
    struct slice
        event; /* absent, empty or "message": no event line. No CR, LF, NUL: checked before */
    struct slice data; /* p == NULL: no data line (nothing is dispatched); CR, LF and CRLF split */
    unsigned retry_ms; /* 0: no retry line */
    struct slice comment; /* absent: none; CR and LF become spaces */
};

/* Makes a block, which ends with a blank line. A comment and retry alone are lines without a blank
 * line: parsers process them as they read them, and some make an empty message of a block without
 * data. They do not affect the lines that follow.
 *
 * Returns a new reference; NULL: no memory, or `event` holds CR, LF or NUL. */
struct frame *sse_frame(const struct sse_fields *f);
/* The same bytes, appended. 0; UV_EINVAL: `event` holds CR, LF or NUL; UV_ENOBUFS, UV_ENOMEM. */
__attribute__((warn_unused_result)) int sse_frame_append(const struct sse_fields *f,
                                                         struct strbuf *out);

#endif
