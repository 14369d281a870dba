#include "event/position.h"

#include "base/require.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const names[] = {
    [PRIME_EVENT] = "event", [PRIME_ID] = "id", [PRIME_DATA] = "data", [PRIME_NONE] = "none"};

bool prime_parse(struct slice name, enum prime *out)
{
    for (unsigned i = PRIME_EVENT; i <= PRIME_NONE; i++) {
        if (slice_is(name, names[i])) {
            *out = (enum prime)i;
            return true;
        }
    }
    return false;
}

const char *prime_name(enum prime how)
{
    return names[how];
}

void position_fields(const char *event, enum prime how, uint64_t at, struct position_text *text,
                     struct sse_fields *f)
{
    REQUIRE(how != PRIME_DEFAULT);
    if (how == PRIME_NONE || at == 0) { /* 0: of a store that has no beginning, in memory */
        return;
    }
    f->id = at;
    if (how == PRIME_EVENT) {
        int n = snprintf(text->data, sizeof text->data, "{\"position\":\"%" PRIu64 "\"}", at);
        f->event = slice_str(event);
        f->data = slice_of(text->data, (size_t)n);
    } else if (how == PRIME_DATA) {
        f->data = slice_str("");
    }
}

struct frame *position_frames_get(struct position_frames *p, const char *event, enum prime how,
                                  uint64_t at, struct slice mark)
{
    REQUIRE(how != PRIME_DEFAULT && how != PRIME_NONE);
    if (p->at != at) {
        position_frames_clear(p);
        p->at = at;
    }
    struct frame **slot = &p->v[mark.n ? PRIME_DEFAULT : how];
    if (mark.n) {
        frame_unref(*slot);
        *slot = NULL;
    }
    if (!*slot) {
        struct position_text text;
        struct sse_fields f = {.mark = mark};
        position_fields(event, how, at, &text, &f);
        *slot = sse_frame(&f);
    }
    return *slot;
}

void position_frames_clear(struct position_frames *p)
{
    for (unsigned i = 0; i < PRIME_NONE; i++) {
        frame_unref(p->v[i]);
    }
    *p = (struct position_frames){.at = 0};
}
