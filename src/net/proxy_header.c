/* See proxy_header.h. */
#include "net/proxy_header.h"

#include "base/decimal.h"

#include <arpa/inet.h>
#include <string.h>

static const char version_1[] = "PROXY ";
static const char version_2[] = "\r\n\r\n\0\r\nQUIT\n"; /* 12 bytes, without the NUL of C */

enum {
    HEAD_2_BYTES = 16,
    SIGNATURE_2_BYTES = 12,
    TCP4_BYTES = 12, /* two addresses, two ports */
    TCP6_BYTES = 36,
    UNIX_BYTES = 216,
    IP4_TEXT_MAX = 15,
};

static ssize_t proxy_header_fail(struct proxy_header *out, const char *error)
{
    out->error = error;
    return UV_EINVAL;
}

bool proxy_header_begins(const char *data, size_t len)
{
    return (len >= sizeof version_1 - 1 && memcmp(data, version_1, sizeof version_1 - 1) == 0) ||
           (len >= SIGNATURE_2_BYTES && memcmp(data, version_2, SIGNATURE_2_BYTES) == 0);
}

/* ---------------------------------------------------------------- version 1 */

/* The word before the next space, or the rest; *text moves behind the space. */
static struct slice proxy_header_word(struct slice *text)
{
    const char *space = text->n ? memchr(text->p, ' ', text->n) : NULL;
    size_t n = space ? (size_t)(space - text->p) : text->n;
    struct slice word = slice_of(text->p, n);
    n += space != NULL;
    *text = slice_of(text->p + n, text->n - n);
    return word;
}

static bool proxy_header_is_port(struct slice s)
{
    uint64_t port;
    bool padded = s.n > 1 && s.p[0] == '0';
    return !padded && decimal_parse(s, UINT16_MAX, &port);
}

static bool proxy_header_address(struct slice s, bool v4, struct peer_address *out)
{
    bool colon = s.n && memchr(s.p, ':', s.n);
    return s.n && colon != v4 && (!v4 || s.n <= IP4_TEXT_MAX) && peer_address_parse(s, out);
}

/* What stands between "PROXY " and CRLF. */
static ssize_t proxy_header_line(struct slice text, struct proxy_header *out)
{
    struct peer_address to;
    struct slice family = proxy_header_word(&text);
    if (slice_is(family, "UNKNOWN")) {
        return 1; /* whatever follows is to be ignored */
    }
    bool v4 = slice_is(family, "TCP4");
    if (!v4 && !slice_is(family, "TCP6")) {
        return proxy_header_fail(out, "PROXY: expected TCP4, TCP6 or UNKNOWN");
    }
    struct slice source = proxy_header_word(&text), target = proxy_header_word(&text);
    struct slice from_port = proxy_header_word(&text);
    if (!proxy_header_address(source, v4, &out->client) || !proxy_header_address(target, v4, &to)) {
        return proxy_header_fail(out, "PROXY: expected two addresses of that family");
    }
    if (!proxy_header_is_port(from_port) || !proxy_header_is_port(text)) {
        return proxy_header_fail(out, "PROXY: expected two ports, and nothing behind them");
    }
    out->has_client = true;
    return 1;
}

static ssize_t proxy_header_parse_1(const char *data, size_t len, struct proxy_header *out)
{
    size_t most = len < PROXY_HEADER_1_MAX_BYTES ? len : PROXY_HEADER_1_MAX_BYTES;
    const char *end = memchr(data, '\n', most);
    if (!end) {
        return most < PROXY_HEADER_1_MAX_BYTES
                   ? 0
                   : proxy_header_fail(out, "PROXY: no end of line within 107 bytes");
    }
    size_t n = (size_t)(end - data), head = sizeof version_1 - 1;
    if (n < head + 1 || data[n - 1] != '\r') {
        return proxy_header_fail(out, "PROXY: expected CR and LF at the end of the line");
    }
    ssize_t rc = proxy_header_line(slice_of(data + head, n - 1 - head), out);
    return rc < 0 ? rc : (ssize_t)n + 1;
}

/* ---------------------------------------------------------------- version 2 */

/* Type, length, value, to the end exactly. */
static bool proxy_header_are_tlvs(const unsigned char *p, size_t n)
{
    while (n >= 3) {
        size_t len = (size_t)p[1] << 8 | p[2];
        if (len > n - 3) {
            return false;
        }
        p += 3 + len;
        n -= 3 + len;
    }
    return n == 0;
}

static ssize_t proxy_header_addresses(const unsigned char *p, size_t n, unsigned family,
                                      struct proxy_header *out)
{
    size_t used = 0;
    switch (family) {
    case 0x00: /* unspecified: the proxy does not know */
        return 1;
    case 0x11:
        used = TCP4_BYTES;
        break;
    case 0x21:
        used = TCP6_BYTES;
        break;
    case 0x31:
        used = UNIX_BYTES;
        break;
    default:
        return proxy_header_fail(out, "PROXY: expected TCP over IPv4 or IPv6, or a Unix stream");
    }
    if (n < used) {
        return proxy_header_fail(out, "PROXY: too short for its addresses");
    }
    if (!proxy_header_are_tlvs(p + used, n - used)) {
        return proxy_header_fail(out, "PROXY: malformed additions");
    }
    if (family == 0x11) {
        peer_address_set_ipv4(&out->client, p);
    } else if (family == 0x21) {
        memcpy(out->client.ip, p, 16);
    } else {
        return 1; /* a neighbour of the proxy: its own address says as much */
    }
    if (peer_address_is_unix(&out->client)) {
        return proxy_header_fail(out, "PROXY: \"::\" is nobody's address");
    }
    out->has_client = true;
    return 1;
}

static ssize_t proxy_header_parse_2(const char *data, size_t len, struct proxy_header *out)
{
    if (len < HEAD_2_BYTES) {
        return 0;
    }
    const unsigned char *p = (const unsigned char *)data;
    size_t rest = (size_t)p[14] << 8 | p[15];
    unsigned version = p[12] >> 4, command = p[12] & 15;
    if (version != 2 || command > 1) {
        return proxy_header_fail(out, "PROXY: unknown version or command");
    }
    if (HEAD_2_BYTES + rest > PROXY_HEADER_2_MAX_BYTES) {
        return proxy_header_fail(out, "PROXY: longer than 2064 bytes");
    }
    if (len < HEAD_2_BYTES + rest) {
        return 0;
    }
    if (command == 1) {
        ssize_t rc = proxy_header_addresses(p + HEAD_2_BYTES, rest, p[13], out);
        if (rc < 0) {
            return rc;
        }
    }
    return (ssize_t)(HEAD_2_BYTES + rest);
}

ssize_t proxy_header_parse(const char *data, size_t len, struct proxy_header *out)
{
    size_t n1 = sizeof version_1 - 1, n2 = SIGNATURE_2_BYTES;
    *out = (struct proxy_header){.has_client = false};
    if (memcmp(data, version_1, len < n1 ? len : n1) == 0) {
        return len < n1 ? 0 : proxy_header_parse_1(data, len, out);
    }
    if (memcmp(data, version_2, len < n2 ? len : n2) == 0) {
        return len < n2 ? 0 : proxy_header_parse_2(data, len, out);
    }
    return proxy_header_fail(out, "the PROXY protocol was expected: is the proxy told to send it?");
}
