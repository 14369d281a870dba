/* Counts the connections of each peer address. Uses memory only for addresses that hold some. The
 * hash is keyed, because clients with an IPv6 network choose their addresses. Loop thread only. */
#ifndef NET_ADDRESS_LIMIT_H
#define NET_ADDRESS_LIMIT_H

#include "net/address.h"

struct address_limit;

struct address_limit *address_limit_new(void);
/* NULL is fine. Connections may still be counted. */
void address_limit_free(struct address_limit *l);
/* Counts one more connection of `addr`. False, and not counted: it holds `max` already (0: no limit),
 * or memory is short. */
__attribute__((warn_unused_result)) bool
address_limit_take(struct address_limit *l, const struct peer_address *addr, unsigned max);
/* Takes one connection off the count. */
void address_limit_release(struct address_limit *l, const struct peer_address *addr);
/* Addresses that hold connections. */
size_t address_limit_addresses(const struct address_limit *l);

#endif
