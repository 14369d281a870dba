/* HTTP/1.1 on a connection: requests, their order, their answers.
 *
 * Parses requests, hands them to the server's handler as exchanges (streams), sends their answers in
 * the order of the requests, whatever the order they are given in. Owns one partial request and the
 * exchanges. exchange.c implements their stream. */
#ifndef NET_HTTP_HTTP1_H
#define NET_HTTP_HTTP1_H

#include "net/http/conn.h"

struct http1 {
    struct conn conn;
    struct http_request *rq; /* being read, or complete and waiting its turn; NULL: none */
    struct list exchanges;   /* oldest first */
    unsigned exchange_count;
    bool streaming : 1;     /* the one exchange is an open event stream */
    bool barrier : 1;       /* nothing behind the exchange under way may start */
    bool last : 1;          /* nothing behind it is handled at all: its answer says close */
    bool served : 1;        /* at least one request was handled */
    bool continue_sent : 1; /* 100 Continue, for rq */
    bool receiving : 1;     /* the newest exchange is that of rq, whose body is under way */
    bool asking : 1;        /* its head is with the handler: no more of the body yet */
    bool stream_ends : 1;   /* regularly: its last chunk is still to be sent */
    bool late : 1;          /* its first request waits for the task conn.flush */
};

/* One request and its answer; born when the request is complete, or its head where the body takes
 * longer; gone when the answer has left for `out`. exchange.c implements its stream. */
struct exchange {
    struct stream stream;
    struct http1 *http1;
    struct list node; /* in http1->exchanges */
    struct http_framing framing;
    bool done : 1;       /* answered, waiting for those before it */
    bool chunk_ends : 1; /* behind the queued frame */
    bool cut_event : 1;  /* the last write left part of an event behind, and it was not queued */
    bool counted : 1;    /* in server->addresses, for `client` */
    bool refused : 1;    /* its client has too many */
    uint32_t chunk_left; /* promised by the head of a chunk, and neither taken nor queued */
    struct strbuf out;   /* the fields of stream_set_fields(); then the answer, while it waits */
    struct peer_address client[]; /* one, if it may be counted */
};

extern const struct conn_protocol http1_protocol;

/* Its event stream is open, and nothing has ended the connection. */
bool http1_is_streaming(const struct http1 *h);
/* Is the body of that exchange's request still under way? */
bool http1_receives(const struct http1 *h, const struct exchange *ex);
/* It was answered before: nothing more of it, or behind it, is read. */
void http1_drop_body(struct http1 *h);
/* Moves the answers whose turn has come to `out`, in order, and frees their exchanges. */
int http1_release_answers(struct http1 *h);
/* Ends an event stream so that the client sees that nothing is missing, as soon as what was written
 * has left for the socket. */
void http1_end_stream(struct http1 *h);

#endif
