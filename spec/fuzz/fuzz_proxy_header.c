/* Any bytes as a header of the PROXY protocol. Properties: what is complete is no longer than it may be, is not
 * complete when a byte is missing, and does not change with what follows; a client is never "unix". */
#include "net/proxy_header.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x) ((x) ? (void)0 : abort())

/* In memory of exactly that size, so that a sanitizer sees each byte read behind it. */
static ssize_t parse(const uint8_t *data, size_t size, struct proxy_header *out)
{
    char *copy = malloc(size);
    MUST(copy != NULL);
    memcpy(copy, data, size);
    ssize_t n = proxy_header_parse(copy, size, out);
    if (n != 0) {
        MUST(n > 0 || out->error);
    }
    if (n > 0) {
        MUST(proxy_header_begins(copy, size));
    }
    free(copy);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header whole, part;
    if (size == 0) {
        return 0;
    }
    ssize_t n = parse(data, size, &whole);
    if (n == 0) {
        MUST(size < PROXY_HEADER_2_MAX_BYTES);
        return 0;
    }
    if (n < 0) {
        return 0;
    }
    MUST((size_t)n <= size && n <= PROXY_HEADER_2_MAX_BYTES);
    MUST(!whole.has_client || !peer_address_is_unix(&whole.client));
    MUST(parse(data, (size_t)n, &part) == n && part.has_client == whole.has_client &&
         memcmp(&part.client, &whole.client, sizeof part.client) == 0);
    MUST(n == 1 || parse(data, (size_t)n - 1, &part) == 0);
    return 0;
}
