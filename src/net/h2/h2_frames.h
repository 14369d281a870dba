/* Where the frames of HTTP/2 begin and end in what a client sends, and which of them a well-behaved
 * client seldom sends. Reads frame headers only; what they mean is nghttp2's. Pure. */
#ifndef NET_H2_H2_FRAMES_H
#define NET_H2_H2_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct h2_frames {
    unsigned char header[9];
    uint8_t have;      /* bytes of the header */
    uint8_t type;      /* of the frame that `left` belongs to */
    bool block;        /* the fields of a request are to be continued */
    bool after_header; /* the header is complete, `left` bytes follow */
    bool broken;       /* PRIORITY came for stream 0 (RFC 9113, 6.3), which nghttp2 passes over */
    uint32_t left;
    uint64_t whole; /* frames, and runs of them that carry one block of fields, that are complete */
};

/* In front of the preface, which counts as a frame. */
void h2_frames_init(struct h2_frames *f);
/* Moves over bytes. Returns how many of the frames that begin in them are unusual: RST_STREAM, PING,
 * SETTINGS, GOAWAY, PRIORITY, CONTINUATION, unknown ones, and DATA without bytes or end. */
size_t h2_frames_feed(struct h2_frames *f, const unsigned char *data, size_t len);
/* What has begun keeps the connection from going on until its rest is there. The rest of DATA does
 * not count: the request that it belongs to has a deadline of its own. */
bool h2_frames_unfinished(const struct h2_frames *f);
/* What has begun is the fields of a request. */
bool h2_frames_head_unfinished(const struct h2_frames *f);

#endif
