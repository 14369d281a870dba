/* Keys of specs: private keys to sign tokens with, as userdata, and the sets of public keys that a
 * test broker verifies with. */
#ifndef TOOLS_TEST_KEYS_H
#define TOOLS_TEST_KEYS_H

#include "auth/keyring.h"

#include <lua.h>

struct test_keys {
    struct keyset_options *sets; /* as files that hold JWK Sets, readable while this lives */
    size_t n;
};

/* Pushes the key sets of {name = JWK Set as JSON} at `arg`, a userdata; raises what is wrong. They
 * are read as those of a configuration are, from files: in memory, closed with test_keys_close() or
 * by the collector. */
struct test_keys *test_keys_push(lua_State *L, int arg);
void test_keys_close(struct test_keys *k);

/* key(alg [, secret]) -> a new private key for the algorithms that share a type with `alg`, which
 * has
 *   k:sign(alg, text) -> bytes; raises where the algorithm is not of the key's type
 *   k:public()        -> {kty, crv}, {member of a JWK = bytes} */
int test_keys_new(lua_State *L);
/* Once per state, before all others. */
void test_keys_open(lua_State *L);

#endif
