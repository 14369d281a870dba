/* The heart of a worker: what requests, subscribers, audiences and the event log share.
 *
 * events come in through broker_tail() (from the store, in id order) and leave through the streams
 * of subscribers in the flush step. Nothing here touches a socket. */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include "broker/broker_types.h"
#include "broker/metrics.h"
#include "net/http/http_server.h"
#include "net/loop.h"
#include "policy/policy.h"
#include "quota/metrics.h"
#include "quota/quota_table.h"
#include "store/store.h"

struct broker;

/* `policy` may come later (broker_set_policy()), before the first request, and `store` after it: until then
 * streams are told to come back. Borrows everything.
 */
struct broker *broker_new(struct loop *loop, const struct broker_options *opt,
                          struct broker_metrics *metrics);
void broker_free(struct broker *b); /* all streams closed, the store closed */
void broker_set_store(struct broker *b, struct store *store);
/* It is about to be closed. */
void broker_leave_store(struct broker *b);
struct eraser *broker_eraser(struct broker *b); /* NULL: the store is not open yet */
void broker_set_policy(struct broker *b, struct policy *policy); /* the first one */
/* Another policy takes over, at once, for new questions, live delivery and replay. The old one has
 * no binding left and may be closed when it is not busy. `mode` is for the streams that are open;
 * those whose filter or format is gone are asked about in any case. */
void broker_swap_policy(struct broker *b, struct policy *policy, enum reload_mode mode);
/* Asks the policy again about one open stream, or all. False: no such stream. */
bool broker_resubscribe(struct broker *b, uint64_t id);
void broker_resubscribe_all(struct broker *b);
/* The policy is asked again about these streams; nothing is delivered to them until it has answered. `tag`:
 * they were selected by it, and those that are being opened with it are meant, too; absent: not so. */
void broker_ask_again(struct broker *b, struct slice tag, const uint64_t *ids, size_t n);
/* Ends them with the revoked signal. `reason`: for their clients. */
void broker_end_streams(struct broker *b, struct slice tag, const uint64_t *ids, size_t n,
                        struct slice reason);
/* Where streams that count for a quota are counted, before the first of them. Borrows all for its life. `tell`:
 * these workers (bit number - 1) have streams to end; they call broker_end_displaced(). May be NULL. */
void broker_set_quotas(struct broker *b, struct quota_user *user, struct quota_metrics *metrics,
                       void (*tell)(void *ctx, uint64_t workers), void *ctx);
/* Ends streams whose place in a quota a newer one has. Cheap when there are none. */
void broker_end_displaced(struct broker *b);
void broker_set_server(struct broker *b, struct http_server *server);

/* store_tail_cb; ctx is the broker. */
void broker_tail(void *ctx, struct event *const *events, size_t n);

/* store_leap_cb; ctx is the broker. */
void broker_leap(void *ctx, const struct store_leap *leap);

/* Refuses new streams and publishes from now on and ends every stream with a jittered retry:. */
void broker_drain(struct broker *b);
unsigned broker_stream_count(const struct broker *b);

void broker_each_connection(const struct broker *b,
                            void (*each)(void *ctx, const struct broker_connection *c), void *ctx);
/* loop_set_unix_ms() was called: ends what has expired by that clock, has the policy asked again
 * where a grant says so. */
void broker_clock_moved(struct broker *b);
/* Is the policy being asked about streams that are open, or about to be? */
bool broker_resubscribing(const struct broker *b);
/* false: no such stream. */
bool broker_disconnect(struct broker *b, uint64_t id);

#endif
