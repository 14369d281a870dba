/* Which audiences an event may be for: by its topic, and below that by the attribute that a filter
 * text wants to have a certain value (filter_discriminator). Ten thousand tenants with one filter
 * text cost one look-up, whatever their number. */
#ifndef AUDIENCE_AUDIENCE_INDEX_H
#define AUDIENCE_AUDIENCE_INDEX_H

#include "event/event.h"

#include <stddef.h>

struct audience;
struct audience_index;

struct audience_index *audience_index_new(void);
/* Every audience must have been taken out. */
void audience_index_free(struct audience_index *ix);
/* Under its topics and by its binding, neither of which may change until audience_index_del(). */
void audience_index_add(struct audience_index *ix, struct audience *a);
void audience_index_del(struct audience_index *ix, struct audience *a);
/* Calls `visit` for every audience that may want the event; those whose filter text is true are
 * among them. One may be visited twice: the caller tells. The index must not change meanwhile.
 * Returns how often an attribute was looked up. */
size_t audience_index_match(const struct audience_index *ix, const struct event *ev,
                            void (*visit)(void *ctx, struct audience *a), void *ctx);

#endif
