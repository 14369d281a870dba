/* Private to subscriber*.c and delivery.c: the struct they work on. */
#ifndef BROKER_SUBSCRIBER_STATE_H
#define BROKER_SUBSCRIBER_STATE_H

#include "audience/audience.h"
#include "audience/conflation.h"
#include "audience/write_batch.h"
#include "broker/broker_parts.h"
#include "broker/subscriber.h"
#include "policy/saved_request.h"

enum subscriber_state {
    SUB_STARTING, /* waiting for the store to say where max_age begins */
    SUB_LIVE,     /* considered everything; in audience->live */
    SUB_PARKED,   /* the same, but rate limited: in audience->parked, woken by events */
    SUB_RUNNABLE, /* behind; in broker->runnable */
    SUB_BLOCKED,  /* behind; the socket takes nothing more for now */
    SUB_PAGING,   /* behind; waiting for a page of the store */
    SUB_PACED,    /* behind; out of events_per_s for now */
    SUB_HELD,     /* behind; the policy has to say first what it may see */
};

/* A gap that was sent to a stream: it misses the ids in (after, upto]. */
struct subscriber_gap {
    uint64_t after, upto;
    bool lagged;    /* else retention took them */
    bool compacted; /* and it was sent the newest of them */
};
enum { SUBSCRIBER_GAPS_MAX = 8 };
struct subscriber_gaps {
    uint64_t forgotten; /* where the last one ended that there was no room for; 0: none */
    unsigned n;
    struct subscriber_gap v[SUBSCRIBER_GAPS_MAX]; /* the newest, oldest first */
};

/* What a module keeps with some subscribers, in a list. `gone` says whose it is; it is called when the
 * subscriber ends and takes the part out of the list. */
struct subscriber_part {
    struct subscriber_part *next;
    void (*gone)(struct subscriber *sub, struct subscriber_part *part);
};

/* Where a stream ends by itself. */
struct subscriber_end_place {
    struct subscriber_part part;
    struct subscriber *sub;
    struct deadline tick; /* while its end may be one that is still to come */
    uint64_t until;       /* the last id it may get; UINT64_MAX: none */
    int64_t until_ms;     /* the same by the time of events; INT64_MAX: none */
    uint64_t left;        /* events it may still get; UINT64_MAX: no bound */
};

struct pace; /* token bucket */
struct expiry;

/* 256 bytes, of which there are as many as clients. */
struct subscriber {
    struct stream *stream;
    struct broker *b;
    struct audience *audience; /* a reference */
    struct list place;         /* see subscriber_set_state() */
    struct list all;           /* in broker->subscribers */
    struct deadline beat;
    struct deadline_class *beat_class;
    struct pace *pace;             /* owned; NULL: no events_per_s */
    struct expiry *expiry;         /* owned; NULL: the identity does not end */
    struct expiry *grant_end;      /* owned; NULL: the policy is not to be asked again */
    struct saved_request *saved;   /* a reference: to be asked about again */
    struct subscriber_part *parts; /* owned by their modules */
    uint64_t id;                   /* the stream's */
    uint64_t cursor;               /* last id considered; while live, see subscriber_position() */
    uint64_t ordinal; /* place in the log behind the cursor, for lag; while it is behind */
    /* for explain.c */
    uint64_t start;       /* the id it began behind */
    uint64_t asked_after; /* the id its client asked for the events behind of */
    uint64_t ruled_from;  /* what it had considered by earlier rules ends here; 0: nothing */
    struct subscriber_gaps *gaps; /* owned; NULL: none */
    uint64_t reset_to;            /* it has seen lost events: send a gap, continue here; 0: no */
    uint64_t delivered;
    uint64_t told; /* the last id that it was sent: of an event, or its position */
    uint64_t opened_ms;
    uint64_t max_lag; /* 0: no bound */
    struct peer_address client;
    unsigned beat_ms; /* the duration of beat_class */
    unsigned retry_ms;
    uint16_t beats; /* since its position was sent, saturating */
    enum subscriber_state state : 8;
    enum prime prime : 8; /* not PRIME_DEFAULT */
    enum close_reason
        finish : 6;        /* why it ends when its socket has taken the rest; 0: it goes on */
    bool close_on_lag : 1; /* or it skips */
    bool caught_up : 1;    /* from now on being behind is lag: see subscriber_is_excused() */
    bool no_replay : 1;    /* the policy grants no history, whatever was asked */
    bool earliest : 1;     /* asked for what there is: what retention removed is no gap to it */
    bool gzip : 1;         /* it is a struct subscriber_gzip */
    bool gzip_begun : 1;   /* the head of its body has been sent */
    bool counted : 1;      /* for quotas: see stream_quotas.h */
    bool gzip_stored : 1;  /* the policy wants nothing of it compressed (any more) */
    bool latest : 1;       /* it has a part: see subscriber_snapshot.c */
    bool barred : 1;       /* sent no event until the policy has been asked again */
    bool no_gap : 1;       /* the policy wants nothing said of what retention removed */
    bool finite : 1;       /* it has an end: see subscriber_set_end() */
};

/* One whose body is compressed. */
struct subscriber_gzip {
    struct subscriber sub;
    struct gzip_body body;
};

_Static_assert(sizeof(struct subscriber) <= 256, "it has grown: see above");

/* Takes over `s`, and the reference to `saved`; SUB_STARTING. NULL: the policy cannot bind the
 * subscription, `s` is still the caller's. */
struct subscriber *subscriber_new(struct broker *b, struct stream *s, const struct verdict *v,
                                  struct saved_request *saved, const struct peer_address *client,
                                  bool takes_gzip);
/* The policy was asked again: 0 nothing that the client sees has changed, 1 it was moved to another
 * audience, negative: not possible now. */
int subscriber_regrant(struct subscriber *sub, const struct subscription *s);
/* The part of the module whose `gone` that is; NULL: it has none. */
struct subscriber_part *subscriber_part_of(const struct subscriber *sub,
                                           void (*gone)(struct subscriber *sub,
                                                        struct subscriber_part *part));
void subscriber_part_add(struct subscriber *sub, struct subscriber_part *part);
void subscriber_part_remove(struct subscriber *sub, const struct subscriber_part *part);
/* It is open: its member is there, if it is somebody's. */
void subscriber_open_presence(struct subscriber *sub);
/* The topic of its member; absent: it is nobody's. */
struct slice subscriber_presence(const struct subscriber *sub);
/* Its tags, borrowed; returns how many. */
size_t subscriber_tags(const struct subscriber *sub, struct slice out[POLICY_TAGS_MAX]);
bool subscriber_has_tags(const struct subscriber *sub);
/* It is sent no event from now on, until subscriber_regrant(). */
void subscriber_bar(struct subscriber *sub);
/* It was handed the last that it is for: ends when its socket has taken that, at once if it has. */
void subscriber_finish(struct subscriber *sub, enum close_reason why);
/* An event of that id ends it that it is not sent: its client is told of the position, if it is told of any, so that
 * it gets no more when it comes back. */
void subscriber_end_at(struct subscriber *sub, enum close_reason why, uint64_t id);
/* It was given the part of history that it was for: says so with sse.end_event, and finishes. The id of that event
 * (EVENT_ID_END) tells the broker of a reconnect that there is nothing more to come. `reason`: for the client, a
 * constant without quotes. */
void subscriber_finish_part(struct subscriber *sub, const char *reason);
/* The policy has withdrawn the grant: says so, and ends it. */
void subscriber_revoke(struct subscriber *sub, struct slice reason);
/* "live", "paced", ...: for people. */
const char *subscriber_state_name(const struct subscriber *sub);
void subscriber_set_state(struct subscriber *sub, enum subscriber_state st);
bool subscriber_is_behind(enum subscriber_state st);
/* Writes the place of one that is live into its cursor: it was implied by its audience. */
void subscriber_note_position(struct subscriber *sub);
/* The last id considered, live or not. */
uint64_t subscriber_position(const struct subscriber *sub);
/* That, where the client has not been told of it; else 0. */
uint64_t subscriber_untold_position(const struct subscriber *sub);
/* Writes a frame that is in the form of its body. As below. */
bool subscriber_write(struct subscriber *sub, struct frame *f);
/* Writes one frame; what the socket does not take is queued and the state becomes SUB_BLOCKED.
 * False: the subscriber is gone. */
bool subscriber_send_frame(struct subscriber *sub, struct frame *f);
/* The same for a frame and, where it is not NULL, one that many share. */
bool subscriber_send_frames(struct subscriber *sub, struct frame *f, struct frame *more);
/* Lets go of it; its stream is closed, or has another owner. */
void subscriber_free(struct subscriber *sub, enum close_reason why);
extern const struct stream_events subscriber_stream_events;

/* subscriber_gzip.c, for those with `gzip` */
/* Is the audience large enough? */
bool subscriber_gzip_pays(const struct audience *a, const struct broker *b);
/* What it is sent next is not what all others of its audience are sent. Any subscriber. */
void subscriber_leave_epoch(struct subscriber *sub);
/* The batch in the form of its body, borrowed; NULL: no memory. Counts as sent. */
struct frame *subscriber_gzip_batch(struct subscriber *sub, struct write_batch *g);
/* The same for other bytes, as a new reference; `ends`: they are the last. */
struct frame *subscriber_gzip_frame(struct subscriber *sub, struct slice bytes, bool ends);

/* subscriber_heartbeat.c */
void subscriber_set_heartbeat(struct subscriber *sub, unsigned seconds);
/* The socket was just given bytes: the time of silence starts again. */
void subscriber_sent(struct subscriber *sub);

/* subscriber_lag.c */
/* Events that became visible since the one at its cursor. */
uint64_t subscriber_lag(const struct subscriber *sub);
/* Moves the cursor of one that is behind over `passed` events of the log. */
void subscriber_advance(struct subscriber *sub, uint64_t id, unsigned passed);
/* True: the lag rule has ended it, or moved it to the head. */
bool subscriber_apply_lag_rule(struct subscriber *sub);
/* The in-band signal that history is missing; `requested` as the client gave it. */
struct frame *subscriber_gap_frame(const struct subscriber *sub, const char *reason,
                                   struct slice requested, uint64_t resumed_from);
/* Retention, or the lag rule, took what comes after the cursor. False: the subscriber is gone. */
bool subscriber_send_gap(struct subscriber *sub, const char *reason, uint64_t resumed_from);
/* Notes that it was sent a gap: it misses the ids after its cursor, up to `upto`, all or (`compacted`) but the newest
 * of each topic. */
void subscriber_note_gap(struct subscriber *sub, uint64_t upto, bool lagged, bool compacted);

/* subscriber_snapshot.c: streams that are sent the newest event of each topic. */
/* Of a grant: where it starts, and what its lag rule is. */
void subscriber_set_latest(struct subscriber *sub, const struct subscription *s);
/* From its cursor on, then `live`, then what came meanwhile. */
void subscriber_snapshot_begin(struct subscriber *sub);
/* The id that the one it is being sent ends with; 0: it is sent none. */
uint64_t subscriber_snapshot(const struct subscriber *sub);
/* Where the one ended, or will, that it began with; 0: it began without. */
uint64_t subscriber_snapshot_first(const struct subscriber *sub);
/* It has been sent all of it: goes on in the log. False: the subscriber is gone. */
bool subscriber_snapshot_end(struct subscriber *sub);
/* What it was sent is of a state of the store that is gone. */
void subscriber_snapshot_drop(struct subscriber *sub);
/* Retention took what comes after its cursor, or (`lagged`) it is too far behind: if its grant says so it
 * gets the newest events instead, and is told. False: not so. May end it. */
bool subscriber_compact(struct subscriber *sub, bool lagged);
/* History, and what it misses while it is held, is no lag. One that is sent the newest events where it lags is excused
 * until it is where the head was: it may be too slow to be at the head ever. Others are until they are there. */
bool subscriber_is_excused(struct subscriber *sub);
/* It is held, and will be excused anew. */
void subscriber_excuse(struct subscriber *sub);

/* subscriber_timing.c */
/* 0: none. */
void subscriber_set_pace(struct subscriber *sub, double events_per_s);
void subscriber_set_expiry(struct subscriber *sub, int64_t unix_ms);
/* The policy is asked about the stream again then; 0: not at all. */
void subscriber_set_grant_end(struct subscriber *sub, int64_t unix_ms);
int64_t subscriber_grant_end(const struct subscriber *sub); /* 0: none */
void subscriber_clear_timing(struct subscriber *sub);
/* Events that may be sent now; 0: none, wait. UINT_MAX without a pace. */
unsigned subscriber_allowance(struct subscriber *sub);
void subscriber_spend(struct subscriber *sub, unsigned events);
/* Out of allowance: SUB_PACED until there may be some. */
void subscriber_wait_for_pace(struct subscriber *sub);
/* It ends where `x` says (until, until_ms, left). It is never SUB_LIVE, but SUB_PARKED: what it gets may end
 * within a batch. Once, before it has begun. */
void subscriber_set_end(struct subscriber *sub, const struct subscriber_end_place *x);
/* NULL: it has none. */
struct subscriber_end_place *subscriber_end_place_of(const struct subscriber *sub);
/* It has come to its end: why; else NULL. */
const char *subscriber_at_end(const struct subscriber *sub);

#endif
