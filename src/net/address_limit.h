/* Counts what each peer address holds at a time: connections, bytes. Uses memory only for addresses that hold
 * some. Addresses of one IPv6 network of 64 bits are one: that is what one host has. The hash is
 * keyed, because clients choose their addresses. Loop thread only. */
#ifndef NET_ADDRESS_LIMIT_H
#define NET_ADDRESS_LIMIT_H

#include "net/address.h"

struct address_limit;

struct address_limit *address_limit_new(void);
/* NULL is fine. Something may still be counted. */
void address_limit_free(struct address_limit *l);
/* Counts `n` more of `addr`. False, and not counted: it would hold more than `max` (0: no limit), or
 * memory is short. */
__attribute__((warn_unused_result)) bool
address_limit_take(struct address_limit *l, const struct peer_address *addr, size_t n, size_t max);
/* Takes `n` off the count. */
void address_limit_release(struct address_limit *l, const struct peer_address *addr, size_t n);
/* Addresses that hold something. */
size_t address_limit_addresses(const struct address_limit *l);

#endif
