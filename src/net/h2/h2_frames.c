#include "net/h2/h2_frames.h"

#include <string.h>

enum {
    PREFACE_BYTES = 24,
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    FRAME_PRIORITY = 2,
    FRAME_WINDOW_UPDATE = 8,
    FRAME_CONTINUATION = 9,
    FRAME_PREFACE = 0xff, /* our own, while the preface is read */
    FLAG_END_STREAM = 1,
    FLAG_END_HEADERS = 4,
};

void h2_frames_init(struct h2_frames *f)
{
    *f = (struct h2_frames){.type = FRAME_PREFACE, .after_header = true, .left = PREFACE_BYTES};
}

/* The header of a frame is complete. Returns 1 for an unusual frame. */
static size_t h2_frames_begin(struct h2_frames *f)
{
    const unsigned char *h = f->header;
    f->left = (uint32_t)h[0] << 16 | (uint32_t)h[1] << 8 | h[2];
    f->type = h[3];
    f->have = 0;
    f->after_header = true;
    switch (f->type) {
    case FRAME_DATA:
        return f->left == 0 && !(h[4] & FLAG_END_STREAM);
    case FRAME_HEADERS:
        f->block = !(h[4] & FLAG_END_HEADERS);
        return 0;
    case FRAME_PRIORITY:
        f->broken |= ((h[5] & 0x7f) | h[6] | h[7] | h[8]) == 0;
        return 1;
    case FRAME_WINDOW_UPDATE:
        return 0;
    case FRAME_CONTINUATION:
        f->block = f->block && !(h[4] & FLAG_END_HEADERS);
        return 1;
    default:
        return 1;
    }
}

size_t h2_frames_feed(struct h2_frames *f, const unsigned char *data, size_t len)
{
    size_t unusual = 0;
    for (size_t at = 0; at < len || (f->after_header && f->left == 0);) {
        if (!f->after_header) {
            size_t n = sizeof f->header - f->have;
            n = n < len - at ? n : len - at;
            memcpy(f->header + f->have, data + at, n);
            f->have += (uint8_t)n;
            at += n;
            unusual += f->have == sizeof f->header ? h2_frames_begin(f) : 0;
        } else {
            size_t n = f->left < len - at ? f->left : len - at;
            f->left -= (uint32_t)n;
            at += n;
            if (f->left == 0) {
                f->after_header = false;
                f->whole += f->block ? 0 : 1;
            }
        }
    }
    return unusual;
}

bool h2_frames_head_unfinished(const struct h2_frames *f)
{
    return f->block || (f->after_header && f->type == FRAME_HEADERS);
}

bool h2_frames_unfinished(const struct h2_frames *f)
{
    return f->block || f->have || (f->after_header && f->type != FRAME_DATA);
}
