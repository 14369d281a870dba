/* What the open streams of this process count for: see quota/quota_table.h. Kept beside them, so that a stream
 * that counts for nothing has no byte of it. */
#ifndef BROKER_STREAM_QUOTAS_H
#define BROKER_STREAM_QUOTAS_H

#include "policy/policy.h"
#include "quota/metrics.h"
#include "quota/quota_table.h"

struct broker;
struct stream_quotas;

/* Said to who is denied; the number is the quota's. */
#define QUOTA_FULL_REASON "all %u streams that may be open at a time are open: close one first"

/* Says on the stream that a newer one took its place in a quota of `max`, and ends it. False: not now, because it has
 * not begun; asked again later. */
typedef bool (*stream_displace_cb)(struct broker *b, uint64_t stream, unsigned max);

struct stream_quotas *stream_quotas_new(struct broker *b, stream_displace_cb displace);
void stream_quotas_free(struct stream_quotas *q); /* all streams closed */
/* See broker_set_quotas(). */
void stream_quotas_set(struct stream_quotas *q, struct quota_user *user,
                       struct quota_metrics *metrics, void (*tell)(void *ctx, uint64_t workers),
                       void *ctx);

/* From now on the stream counts for what the subscription says, and for nothing else; not granted: for what it did.
 * `which`: denied, by which of the subscription's. Counts what was not granted in the metrics. */
enum quota_answer stream_quotas_change(struct stream_quotas *q, uint64_t stream,
                                       const struct subscription *s, size_t *which);
/* It has ended. No effect on one that counts for nothing. */
void stream_quotas_close(struct stream_quotas *q, uint64_t stream);
/* Copies what it counts for; the keys are borrowed until that changes. Returns how many. */
size_t stream_quotas_of(const struct stream_quotas *q, uint64_t stream,
                        struct quota_want out[QUOTAS_PER_STREAM]);

/* Ends those whose place a newer stream has, some in each turn of the loop. */
void stream_quotas_end_displaced(struct stream_quotas *q);
/* Once a second: the same, and gives back what processes held that have ended. */
void stream_quotas_sweep(struct stream_quotas *q);

#endif
