/* POST: body -> events -> policy -> store -> answer, after the commit and not before. */
#ifndef BROKER_PUBLISHER_H
#define BROKER_PUBLISHER_H

#include "net/http/stream.h"
#include "policy/policy.h"

struct broker;

/* Takes over `s`. `prq` is borrowed for the call. */
void publisher_request(struct broker *b, struct stream *s, const struct policy_request *prq);

#endif
