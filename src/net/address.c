/* Addresses of listeners, peers and trusted proxies. Configuration hands in the texts, the
 * listener asks who a peer is. */
#include "net/address.h"

#include "base/decimal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

static const unsigned char mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_ipv4(const struct peer_address *a)
{
    return memcmp(a->ip, mapped_prefix, sizeof mapped_prefix) == 0;
}

bool peer_address_is_unix(const struct peer_address *a)
{
    static const struct peer_address none;
    return memcmp(a, &none, sizeof none) == 0;
}

void peer_address_set_ipv4(struct peer_address *a, const void *ip)
{
    memcpy(a->ip, mapped_prefix, sizeof mapped_prefix);
    memcpy(a->ip + 12, ip, 4);
}

static bool copy_text(struct slice s, char *out, size_t size)
{
    if (s.n == 0 || s.n >= size || memchr(s.p, '\0', s.n)) {
        return false;
    }
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return true;
}

/* "mode=0660", "group=www-data"; false: something else. */
static bool parse_unix_setting(struct slice s, struct address *out)
{
    static const char mode[] = "mode=", group[] = "group=";
    if (s.n > sizeof group - 1 && memcmp(s.p, group, sizeof group - 1) == 0) {
        return copy_text(slice_of(s.p + sizeof group - 1, s.n - (sizeof group - 1)), out->group,
                         sizeof out->group);
    }
    size_t digits = s.n - (sizeof mode - 1);
    if (s.n <= sizeof mode - 1 || memcmp(s.p, mode, sizeof mode - 1) != 0 || digits > 4) {
        return false;
    }
    unsigned value = 0;
    for (size_t i = sizeof mode - 1; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '7') {
            return false;
        }
        value = value * 8 + (unsigned)(s.p[i] - '0');
    }
    out->mode = value;
    return value >= 0600 && value <= 0777; /* the broker itself must be able to use it */
}

static bool parse_unix_settings(const char *text, struct address *out)
{
    for (;;) {
        size_t n = strcspn(text, "&");
        if (!parse_unix_setting(slice_of(text, n), out)) {
            return false;
        }
        if (text[n] == '\0') {
            return true;
        }
        text += n + 1;
    }
}

static int parse_unix(const char *text, const char *path, struct address *out, struct err *e)
{
    size_t n = strcspn(path, "?");
    if (path[0] != '/') {
        return err_set(e, UV_EINVAL,
                       "\"%s\": expected an absolute path, as in unix:/run/tidegate.sock", text);
    }
    if (path[n] == '?' && !parse_unix_settings(path + n + 1, out)) {
        return err_set(e, UV_EINVAL,
                       "\"%s\": after \"?\" a mode from 0600 to 0777, a group, or both were "
                       "expected, as in unix:/run/tidegate/http.sock?mode=0660&group=www-data",
                       text);
    }
    if (!copy_text(slice_of(path, n), out->path, sizeof out->path)) {
        return err_set(e, UV_EINVAL, "\"%s\": the path of a Unix socket has at most %zu bytes",
                       text, sizeof out->path - 1);
    }
    out->is_unix = true;
    return 0;
}

static int set_ip(const char *host, bool brackets, unsigned port, struct sockaddr_storage *out)
{
    if (!brackets) {
        return uv_ip4_addr(host, (int)port, (struct sockaddr_in *)out);
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    int rc = uv_ip6_addr(host, (int)port, in6);
    /* uv_ip6_addr takes a zone of an interface that is not there for none */
    return rc == 0 && strchr(host, '%') && in6->sin6_scope_id == 0 ? UV_EINVAL : rc;
}

int address_parse(const char *text, struct address *out, struct err *e)
{
    *out = (struct address){.is_unix = false};
    if (strncmp(text, "unix:", 5) == 0) {
        return parse_unix(text, text + 5, out, e);
    }
    if (strncmp(text, "systemd:", 8) == 0) {
        out->by_name =
            copy_text(slice_str(text + 8), out->path, sizeof out->path) && !strchr(out->path, ':');
        return out->by_name ? 0
                            : err_set(e, UV_EINVAL,
                                      "\"%s\": expected the name of a socket (FileDescriptorName=) "
                                      "behind systemd:, at most %zu bytes without a colon",
                                      text, sizeof out->path - 1);
    }
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    bool brackets = n > 2 && text[0] == '[' && text[n - 1] == ']';
    struct slice host = brackets ? slice_of(text + 1, n - 2) : slice_of(text, n);
    char name[ADDRESS_TEXT_MAX];
    uint64_t port = 0;
    if (!colon || !copy_text(host, name, sizeof name)) {
        return err_set(e, UV_EINVAL,
                       "\"%s\": expected IPV4:PORT, [IPV6]:PORT or unix:/PATH (all addresses: "
                       "0.0.0.0:PORT, [::]:PORT)",
                       text);
    }
    if (!decimal_parse(slice_str(colon + 1), UINT16_MAX, &port)) {
        return err_set(e, UV_EINVAL,
                       "\"%s\": expected a port from 0 to 65535 behind the last colon", text);
    }
    if (set_ip(name, brackets, (unsigned)port, &out->tcp) != 0) {
        return err_set(e, UV_EINVAL,
                       "\"%s\": expected a numeric address, as in 127.0.0.1:%u or [::1]:%u", text,
                       (unsigned)port, (unsigned)port);
    }
    return 0;
}

static void from_sockaddr(const struct sockaddr_storage *from, struct peer_address *out)
{
    static const unsigned char any[4];
    if (from->ss_family == AF_INET) {
        peer_address_set_ipv4(out, &((const struct sockaddr_in *)from)->sin_addr);
    } else if (from->ss_family == AF_INET6) {
        memcpy(out->ip, &((const struct sockaddr_in6 *)from)->sin6_addr, sizeof out->ip);
    } else {
        peer_address_set_ipv4(out, any);
    }
}

void address_text(const struct address *a, char out[ADDRESS_LISTEN_TEXT_MAX])
{
    char ip[ADDRESS_TEXT_MAX] = "";
    if (a->is_unix || a->by_name) {
        snprintf(out, ADDRESS_LISTEN_TEXT_MAX, "%s:%s", a->is_unix ? "unix" : "systemd", a->path);
    } else if (a->tcp.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->tcp;
        uv_ip6_name(in6, ip, sizeof ip);
        snprintf(out, ADDRESS_LISTEN_TEXT_MAX, "[%s]:%u", ip, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&a->tcp;
        uv_ip4_name(in, ip, sizeof ip);
        snprintf(out, ADDRESS_LISTEN_TEXT_MAX, "%s:%u", ip, ntohs(in->sin_port));
    }
}

static bool address_is_loopback(const struct peer_address *ip)
{
    static const unsigned char loopback6[16] = {[15] = 1};
    return is_ipv4(ip) ? ip->ip[12] == 127 : memcmp(ip->ip, loopback6, sizeof loopback6) == 0;
}

bool address_is_local(const struct address *a)
{
    struct peer_address ip;
    if (a->is_unix) {
        return true;
    }
    from_sockaddr(&a->tcp, &ip);
    return address_is_loopback(&ip);
}

bool peer_address_is_local(const struct peer_address *a)
{
    return peer_address_is_unix(a) || address_is_loopback(a);
}

struct peer_address peer_address_holder(const struct peer_address *a)
{
    struct peer_address holder = *a;
    if (!is_ipv4(a)) {
        memset(holder.ip + 8, 0, 8);
    }
    return holder;
}

void peer_address_of(const uv_stream_t *socket, struct peer_address *out)
{
    struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
    int len = sizeof from;
    if (uv_handle_get_type((const uv_handle_t *)socket) == UV_NAMED_PIPE) {
        *out = (struct peer_address){.ip = {0}};
        return;
    }
    if (uv_tcp_getpeername((const uv_tcp_t *)socket, (struct sockaddr *)&from, &len) != 0) {
        from.ss_family = AF_UNSPEC;
    }
    from_sockaddr(&from, out);
}

void local_address_text(const uv_stream_t *socket, char out[ADDRESS_LISTEN_TEXT_MAX])
{
    struct address a = {.is_unix =
                            uv_handle_get_type((const uv_handle_t *)socket) == UV_NAMED_PIPE};
    int len = sizeof a.tcp;
    size_t path = sizeof a.path;
    int rc = a.is_unix
                 ? uv_pipe_getsockname((const uv_pipe_t *)socket, a.path, &path)
                 : uv_tcp_getsockname((const uv_tcp_t *)socket, (struct sockaddr *)&a.tcp, &len);
    if (rc) {
        out[0] = '\0';
    } else {
        address_text(&a, out);
    }
}

static void ipv4_text(const unsigned char ip[4], char *out)
{
    for (unsigned i = 0; i < 4; i++) {
        out += decimal_put(out, ip[i]);
        *out++ = i < 3 ? '.' : '\0';
    }
}

void peer_address_text(const struct peer_address *a, char *out)
{
    if (is_ipv4(a)) {
        ipv4_text(a->ip + 12, out); /* for each request: uv_inet_ntop() prints it with snprintf() */
    } else if (peer_address_is_unix(a) || uv_inet_ntop(AF_INET6, a->ip, out, ADDRESS_TEXT_MAX)) {
        memcpy(out, "unix", 5);
    }
}

static bool parse_ip(struct slice text, struct peer_address *out)
{
    char copy[ADDRESS_TEXT_MAX];
    unsigned char ip4[4];
    /* uv_inet_pton would drop a zone in silence */
    if (!copy_text(text, copy, sizeof copy) || strchr(copy, '%')) {
        return false;
    }
    if (uv_inet_pton(AF_INET, copy, ip4) == 0) {
        peer_address_set_ipv4(out, ip4);
        return true;
    }
    return uv_inet_pton(AF_INET6, copy, out->ip) == 0;
}

bool peer_address_parse(struct slice text, struct peer_address *out)
{
    struct peer_address a = {.ip = {0}};
    if (!slice_is(text, "unix") && (!parse_ip(text, &a) || peer_address_is_unix(&a))) {
        return false;
    }
    *out = a;
    return true;
}

static unsigned char mask_of(unsigned bits, unsigned byte)
{
    unsigned first = byte * 8;
    unsigned keep = bits <= first ? 0 : bits - first >= 8 ? 8 : bits - first;
    return (unsigned char)(0xff00u >> keep);
}

int network_parse(const char *text, struct network *out, struct err *e)
{
    *out = (struct network){.is_unix = strcmp(text, "unix") == 0};
    if (out->is_unix) {
        return 0;
    }
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    if (!parse_ip(slice_of(text, n), &out->base)) {
        return err_set(e, UV_EINVAL,
                       "\"%s\": expected an address, a network as 10.0.0.0/8 or fd00::/8, or unix",
                       text);
    }
    /* a dotted address counts its prefix from its own first bit */
    bool dotted = memchr(text, ':', n) == NULL;
    unsigned most = dotted ? 32 : 128;
    uint64_t bits = most;
    if (slash && !decimal_parse(slice_str(slash + 1), most, &bits)) {
        return err_set(e, UV_EINVAL,
                       "\"%s\": expected a prefix length from 0 to %u behind the slash", text,
                       most);
    }
    out->bits = (unsigned)bits + (dotted ? 96 : 0);
    struct network whole = *out;
    for (unsigned i = 0; i < sizeof whole.base.ip; i++) {
        whole.base.ip[i] &= mask_of(out->bits, i);
    }
    if (memcmp(&whole.base, &out->base, sizeof whole.base) != 0) {
        char base[ADDRESS_TEXT_MAX];
        peer_address_text(&whole.base, base);
        return err_set(e, UV_EINVAL,
                       "\"%s\": bits behind the prefix are set; the network is %s/%u, the single "
                       "address has /%u",
                       text, peer_address_is_unix(&whole.base) ? "::" : base, (unsigned)bits, most);
    }
    return 0;
}

bool networks_contain(const struct network *list, size_t count, const struct peer_address *a)
{
    for (size_t i = 0; i < count; i++) {
        if (network_contains(&list[i], a)) {
            return true;
        }
    }
    return false;
}

bool network_contains(const struct network *n, const struct peer_address *a)
{
    if (n->is_unix || peer_address_is_unix(a)) {
        return n->is_unix && peer_address_is_unix(a);
    }
    if (is_ipv4(a) && n->bits < 96) {
        return false;
    }
    for (unsigned i = 0; i < sizeof a->ip; i++) {
        if ((a->ip[i] ^ n->base.ip[i]) & mask_of(n->bits, i)) {
            return false;
        }
    }
    return true;
}
