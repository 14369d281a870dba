/* Which open streams a command is about: its options, and the broker's list of them. */
#ifndef REMOTE_REMOTE_STREAMS_H
#define REMOTE_REMOTE_STREAMS_H

#include "remote/remote_admin.h"

enum {
    REMOTE_STREAMS_MAX = 10000, /* most that a broker lists */
    REMOTE_WHO_MAX = 8,
    REMOTE_WHO_TEXT_MAX = 256,
};

/* All that is given must hold. */
struct remote_streams {
    const char *client, *topic, *tag; /* NULL: any */
    const char *who[REMOTE_WHO_MAX];
    size_t who_count;
};

#define REMOTE_WHO_ROW(words, streams)                                                             \
    OPTION_ROW("--who", "FIELD=VALUE",                                                             \
               "only those of this identity, by a field that the configuration lets operators "    \
               "see (admin_identity): --who sub=ann",                                              \
               OPTION_LIST, offsetof(struct words, streams.who), .max = REMOTE_WHO_MAX,            \
               .count_at = offsetof(struct words, streams.who_count), .many = "fields")

#define REMOTE_STREAMS_ROWS(words, streams)                                                        \
    OPTION_ROW("--client", "ADDRESS", "only those of this address", OPTION_TEXT,                   \
               offsetof(struct words, streams.client)),                                            \
        OPTION_ROW("--topic", "TOPIC",                                                             \
                   "only those that were granted exactly this topic or pattern", OPTION_TEXT,      \
                   offsetof(struct words, streams.topic)),                                         \
        OPTION_ROW("--tag", "TAG", "only those that the policy gave this tag", OPTION_TEXT,        \
                   offsetof(struct words, streams.tag)),                                           \
        REMOTE_WHO_ROW(words, streams)

/* Is it about some streams, and not all? */
bool remote_streams_some(const struct remote_streams *s);
/* 0, or EX_USAGE after a message: a --who is no FIELD=VALUE. */
int remote_streams_check(const struct options *o, const struct remote_streams *s);
/* Asks for at most `limit` of them. 0, or the exit code after a message. `out` is to be cleared in any
 * case. */
int remote_streams_ask(struct remote_admin *a, const struct remote_streams *s, uint64_t limit,
                       struct remote_answer *out);
/* Orders something about all of them: DELETE /connections, POST /connections/resubscribe. `reason` may be
 * NULL. As above. */
int remote_streams_order(struct remote_admin *a, const struct remote_streams *s, const char *method,
                         const char *path, const char *reason, struct remote_answer *out);
/* "sub=ann tenant=acme", of a stream in a document, cut where it is too long; "": nothing may be seen. */
const char *remote_who(const json_t *connection, char out[REMOTE_WHO_TEXT_MAX]);

#endif
