/* The sending half of HTTP/2 on a connection: streams, their turns, and what leaves for the socket.
 *
 * Every byte is made by nghttp2 and gathered in the connection's `out`, which leaves with one system
 * call at the end of the turn, whatever the number of streams. How many bytes of a stream are taken
 * is the least of its window, the connection's window, and the room in `out`. What is refused for
 * want of a window waits for WINDOW_UPDATE inside nghttp2; what is refused for want of room waits in
 * `waiting`, and gets its turn in that order.
 *
 * Nothing here calls the owner of a stream, but for a deadline: that is h2_settle()'s, at points
 * where no owner is under way. h2_conn.c has the receiving half, h2_stream.c what handlers may do with a stream. */
#ifndef NET_H2_H2_SESSION_H
#define NET_H2_H2_SESSION_H

#include "net/h2/h2_flood.h"
#include "net/h2/h2_frames.h"
#include "net/h2/h2_request.h"
#include "net/http/conn.h"

#include <nghttp2/nghttp2.h>

struct h2 {
    struct conn *conn;   /* owns this */
    nghttp2_session *ng; /* owned */
    struct list streams; /* struct h2_stream by their node, oldest first; owned */
    struct list waiting; /* by their turn: have more to send than there was room for */
    struct list drained; /* by their turn: what was queued has left, the owner is to hear of it */
    struct list ready;   /* by their turn: requests that are complete, or refused */
    struct list gone;    /* by their turn: ended by the client, the owner is to hear of it */
    struct h2_stream *dispatching; /* handed to the handler just now; NULL: none, or it is gone */
    struct h2_stream *body;        /* the oldest with a body to come; NULL: none */
    size_t given;                  /* window for the bodies of the others, beyond their first */
    unsigned stream_count;
    struct h2_flood flood;
    size_t block_bytes; /* names and values of the header block under way */
    struct h2_frames frames;
    struct { /* what a stream_write() under way offers */
        struct h2_stream *stream;
        const uv_buf_t *bufs;
        size_t offset; /* in bufs[0] */
        size_t left, total;
    } offer;
    bool busy : 1;   /* inside nghttp2 */
    bool failed : 1; /* no further bytes are taken or made */
    bool goaway : 1; /* said: no further streams */
    bool error : 1;  /* and that was because of what the client sent */
    bool bodies : 1; /* some requests may wait for a window for their bodies */
};

/* One request and its answer. */
struct h2_stream {
    struct stream stream;
    struct h2 *h2;
    struct list node;            /* in h2->streams */
    struct list turn;            /* in one of the other lists, or in none */
    struct h2_request *rq;       /* owned; until it is handed over */
    struct peer_address *client; /* owned; of who is behind a proxy, if it is counted */
    struct frame *fields;        /* of stream_set_fields(); a reference */
    struct frame *queued;        /* a reference; to be sent from queued_offset on */
    struct deadline deadline; /* the body must come; then: what is queued, or the end, must leave */
    uint32_t queued_offset;
    int32_t id;
    enum close_reason why : 8; /* in `gone` */
    bool counted : 1;          /* in server->h2_stream_count */
    bool peer_counted : 1;     /* in server->addresses */
    bool client_counted : 1;   /* in server->addresses, for `client` */
    bool head_only : 1;
    bool expects_continue : 1;
    bool asked : 1;     /* the handler got its head */
    bool asking : 1;    /* and does not want the body yet */
    bool answering : 1; /* the response was submitted */
    bool ended : 1;     /* nothing follows what is queued */
    bool lingering : 1; /* answered, and the client should stop sending */
    bool gone : 1;      /* for nghttp2 */
};

/* Never NULL. Has no id for handlers yet: it gets that when its request is handed over. */
struct h2_stream *h2_stream_new(struct h2 *h, int32_t id);
/* Unlinks and frees it; its owner hears nothing. */
void h2_stream_free(struct h2_stream *s);
/* Its owner has let go of it, or has been told: what is left of it is the session's. */
void h2_stream_disown(struct h2_stream *s);
/* Its owner hears that it is over, then is none any more. */
void h2_stream_tell(struct h2_stream *s, enum close_reason why);
/* Forgets the request: it is not wanted, or was handed over. */
void h2_stream_drop_request(struct h2_stream *s);
/* Resets it; what is queued is dropped. nghttp2 says when it is gone. */
void h2_stream_reset(struct h2_stream *s, uint32_t code);
/* Its body must come in time, or, once it was handed over, what is queued must make progress. */
void h2_stream_arm(struct h2_stream *s);
/* It was answered before its request was complete. NULL is fine. */
void h2_stream_linger(struct h2_stream *s);
/* Room in `out` for a stream that has `n` bytes to send. */
size_t h2_room(const struct h2 *h, size_t n);
/* It has more to send: it gets a turn. */
void h2_stream_wait(struct h2_stream *s);
/* Lets those in `waiting` try again. */
void h2_serve_waiting(struct h2 *h);
/* Moves all that nghttp2 has to send to `out`. Not inside nghttp2. */
void h2_pump(struct h2 *h);
/* No further bytes are taken; the connection ends when `out` has left. */
void h2_fail(struct h2 *h, enum close_reason why);

/* For nghttp2: where the bytes of a stream come from. */
nghttp2_data_provider h2_stream_source(struct h2_stream *s);
int h2_on_send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *header, size_t n,
                    nghttp2_data_source *source, void *user);

#endif
