/* Any text as an address to listen on, a network, a peer, and X-Forwarded-For. Properties: what was
 * parsed and written parses to the same; the client's address is the peer unless that is trusted,
 * and is never "unix" on a hop's word alone. */
#include "net/message/forwarded.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x) ((x) ? (void)0 : abort())

static void check_round_trip(const struct peer_address *a)
{
    struct peer_address back;
    char text[ADDRESS_TEXT_MAX];
    peer_address_text(a, text);
    MUST(peer_address_parse(slice_str(text), &back) && memcmp(a, &back, sizeof back) == 0);
}

static void check_texts(const char *text)
{
    struct address listen;
    struct network n;
    struct err e = {.code = 0};
    if (address_parse(text, &listen, &e) != 0) {
        MUST(e.code < 0 && strlen(e.text) > 0);
    } else if (listen.is_unix) {
        MUST(listen.path[0] == '/' && address_is_local(&listen));
    }
    if (network_parse(text, &n, &e) == 0) {
        MUST(n.bits <= 128);
        /* the base of a short IPv6 prefix may look like a peer of another family */
        char base[ADDRESS_TEXT_MAX];
        peer_address_text(&n.base, base);
        bool other = !n.is_unix && (n.bits < 96 || strcmp(base, "unix") == 0);
        MUST(other || network_contains(&n, &n.base));
    }
}

static void check_client(struct slice forwarded)
{
    static const char *const networks[] = {"10.0.0.0/8", "::1", "fd00::/8"};
    struct network trusted[3];
    struct err e;
    struct peer_address inside, outside, out;
    struct slice first = forwarded, second = {"", 0};
    const char *cut = forwarded.n ? memchr(forwarded.p, '\n', forwarded.n) : NULL;
    if (cut) {
        first.n = (size_t)(cut - forwarded.p);
        second = slice_of(cut + 1, forwarded.n - first.n - 1);
    }
    struct http_header fields[] = {{slice_str("X-Forwarded-For"), first},
                                   {slice_str("x-forwarded-for"), second}};
    for (size_t i = 0; i < 3; i++) {
        MUST(network_parse(networks[i], &trusted[i], &e) == 0);
    }
    MUST(peer_address_parse(slice_str("10.0.0.1"), &inside));
    MUST(peer_address_parse(slice_str("192.0.2.1"), &outside));
    client_address(&outside, fields, 2, trusted, 3, &out);
    MUST(memcmp(&out, &outside, sizeof out) == 0);
    client_address(&inside, fields, cut ? 2 : 1, trusted, 3, &out);
    check_round_trip(&out);
    char text[ADDRESS_TEXT_MAX];
    peer_address_text(&out, text);
    MUST(strcmp(text, "unix") != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peer_address a;
    struct slice input = slice_of((const char *)data, size);
    char *text = malloc(size + 1);
    MUST(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    check_texts(text);
    if (peer_address_parse(input, &a)) {
        check_round_trip(&a);
    }
    check_client(input);
    free(text);
    return 0;
}
