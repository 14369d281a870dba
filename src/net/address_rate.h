/* How often each peer address may do something: a token bucket for each. Addresses of one IPv6 network of 64
 * bits are one. Uses memory only for addresses whose bucket is not full, and for a bounded number of those. The
 * hash is keyed, because clients choose their addresses. Loop thread only. */
#ifndef NET_ADDRESS_RATE_H
#define NET_ADDRESS_RATE_H

#include "net/address.h"

#include <stdint.h>

struct address_rate;

/* A bucket holds `burst` tokens and gets `per_s` a second; at most `most` addresses are remembered (not 0): then
 * the one that was longest quiet is forgotten, which fills its bucket. */
struct address_rate *address_rate_new(unsigned per_s, unsigned burst, size_t most);
void address_rate_free(struct address_rate *r); /* NULL is fine */
/* Takes a token of `addr`. False: there is none, or memory is short. `now_ms` never goes back. */
__attribute__((warn_unused_result)) bool
address_rate_take(struct address_rate *r, const struct peer_address *addr, uint64_t now_ms);
/* Addresses remembered. */
size_t address_rate_addresses(const struct address_rate *r);

#endif
