/* The record layer of TLS 1.3 with a peer that has the right keys and sends what it likes, cut anywhere, and bytes
 * besides that are no records. Properties: what is read is what was sealed as data, in order, none twice, none
 * invented; what we write the peer can read, also across KeyUpdates; nothing comes behind an end. */
#include "net/tls/tls_record.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x) ((x) ? (void)0 : abort())

enum {
    TEXT_MAX = 1 << 16,
    OUT_MAX = 1 << 18,
    DATA = 23,
    HANDSHAKE = 22,
    HEADER = TLS_HEADER_BYTES
};

struct input {
    const uint8_t *p, *end;
};

struct run {
    struct input in;
    struct tls_record ours, theirs;
    struct strbuf wire;     /* sealed, not yet delivered */
    char sealed[TEXT_MAX];  /* the text of all data records of the peer, */
    size_t sealed_n, got_n; /* and how much of it was read */
    bool ended, broken;
};

static uint8_t byte_of(struct input *in)
{
    return in->p < in->end ? *in->p++ : 0;
}

static struct slice bytes_of(struct input *in, size_t most)
{
    size_t left = (size_t)(in->end - in->p), n = most < left ? most : left;
    struct slice s = slice_of((const char *)in->p, n);
    in->p += n;
    return s;
}

/* In memory of exactly the sizes promised, so that a sanitizer sees each byte beyond. */
static int open_exactly(struct tls_record *r, struct slice in, char *text, size_t *n,
                        struct strbuf *out)
{
    char *copy = malloc(in.n ? in.n : 1), *plain = malloc(in.n + TLS_RECORD_BYTES);
    MUST(copy && plain);
    if (in.n) {
        memcpy(copy, in.p, in.n);
    }
    int rc = tls_record_open(r, slice_of(copy, in.n), plain, n, out);
    MUST(*n <= in.n + TLS_RECORD_BYTES);
    if (text) {
        MUST(*n <= TEXT_MAX);
        memcpy(text, plain, *n);
    }
    free(copy);
    free(plain);
    return rc;
}

/* What we send must be what the peer reads. */
static void heard(struct run *r, const struct strbuf *out, struct slice expected, int state)
{
    static char text[TEXT_MAX];
    struct strbuf answer;
    size_t n;
    strbuf_init(&answer, OUT_MAX);
    int rc = open_exactly(&r->theirs, strbuf_slice(out), text, &n, &answer);
    MUST(rc == state && n == expected.n && (n == 0 || memcmp(text, expected.p, n) == 0));
    strbuf_clear(&answer);
}

static void deliver(struct run *r, struct slice bytes)
{
    static char text[TEXT_MAX];
    struct strbuf out;
    size_t n;
    strbuf_init(&out, OUT_MAX);
    int rc = open_exactly(&r->ours, bytes, text, &n, &out);
    MUST(rc == 0 || rc == UV_EOF || rc == UV_EPROTO);
    MUST(n <= r->sealed_n - r->got_n && memcmp(text, r->sealed + r->got_n, n) == 0);
    MUST(n == 0 || (!r->ended && !r->broken));
    MUST(!r->broken || rc == UV_EPROTO);
    MUST(!r->ended || rc == UV_EOF);
    MUST(rc == UV_EPROTO || out.len == 0);
    r->got_n += n;
    r->ended = rc == UV_EOF;
    if (rc == UV_EPROTO && out.len) {
        MUST(!r->broken);
        heard(r, &out, slice_of("", 0), UV_EPROTO);
    }
    r->broken = rc == UV_EPROTO;
    strbuf_clear(&out);
}

/* A record of the peer with that content: text, type, padding. */
static void forge(struct run *r, struct slice text, unsigned char type, size_t padding)
{
    char content[TLS_RECORD_BYTES + 1] = {0};
    size_t n = text.n + 1 + padding;
    if (type == 0 || n > sizeof content || r->wire.len + n + 64 > OUT_MAX ||
        r->sealed_n + text.n > TEXT_MAX) {
        return;
    }
    memcpy(content, text.p ? text.p : "", text.n);
    content[text.n] = (char)type;
    size_t sealed = n + TLS_TAG_BYTES;
    const unsigned char header[HEADER] = {DATA, 3, 3, (unsigned char)(sealed >> 8),
                                          (unsigned char)(sealed & 255)};
    MUST(strbuf_append(&r->wire, (const char *)header, HEADER) == 0 &&
         strbuf_reserve(&r->wire, sealed) == 0);
    MUST(tls_suite_seal(r->theirs.suite, &r->theirs.write, header, slice_of(content, n - 1),
                        (unsigned char)content[n - 1], r->wire.data + r->wire.len));
    r->wire.len += sealed;
    if (type == DATA) {
        memcpy(r->sealed + r->sealed_n, content, text.n);
        r->sealed_n += text.n;
    }
}

static void say(struct run *r, size_t n)
{
    struct strbuf out;
    struct slice text = bytes_of(&r->in, n);
    if (text.n == 0) {
        return; /* of which the peer would take no more than a few in a row */
    }
    strbuf_init(&out, OUT_MAX);
    int rc = tls_record_seal(&r->ours, text.p, text.n, &out);
    MUST(rc == (r->broken ? UV_EPROTO : 0));
    if (rc == 0) {
        heard(r, &out, text, 0);
    }
    strbuf_clear(&out);
}

static void step(struct run *r)
{
    static const char updates[2][5] = {{24, 0, 0, 1, 0}, {24, 0, 0, 1, 1}};
    uint8_t what = byte_of(&r->in), n = byte_of(&r->in);
    switch (what % 8) {
    case 0:
        forge(r, bytes_of(&r->in, n), DATA, what / 8);
        return;
    case 1:
        forge(r, bytes_of(&r->in, n % 8), byte_of(&r->in), what / 8);
        return;
    case 2:
        forge(r, slice_of(updates[n & 1], 5), HANDSHAKE, what / 8);
        MUST(tls_suite_next(r->theirs.suite, &r->theirs.write));
        return;
    case 3: { /* some of what is on the wire */
        size_t some = n < r->wire.len ? n : r->wire.len;
        deliver(r, slice_of(r->wire.data, some));
        strbuf_consume(&r->wire, some);
        return;
    }
    case 4:
        deliver(r, strbuf_slice(&r->wire));
        strbuf_reset(&r->wire);
        return;
    case 5:
        if (r->wire.len) {
            r->wire.data[n % r->wire.len] ^= (char)(1 << (what / 32));
        }
        return;
    case 6:
        deliver(r, bytes_of(&r->in, n));
        return;
    default:
        say(r, n);
        return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tls_suites *suites;
    static struct run r;
    if (!suites) {
        suites = tls_suites_new();
        MUST(suites != NULL);
    }
    r.ours = r.theirs = (struct tls_record){0};
    r.sealed_n = r.got_n = 0;
    r.ended = r.broken = false;
    r.in = (struct input){data, data + size};
    strbuf_init(&r.wire, OUT_MAX);
    uint8_t first = byte_of(&r.in);
    r.ours.suite = r.theirs.suite = tls_suites_find(suites, (uint16_t)(0x1301 + first % 3));
    memset(r.ours.write.secret, 'a', TLS_SECRET_MAX);
    memset(r.theirs.read.secret, 'a', TLS_SECRET_MAX);
    memset(r.ours.read.secret, 'b', TLS_SECRET_MAX);
    memset(r.theirs.write.secret, 'b', TLS_SECRET_MAX);
    /* near the number where keys change */
    uint64_t at = first & 128 ? TLS_RECORD_KEY_RECORDS - 1 - (first & 3) : 0;
    MUST(tls_record_begin(&r.ours, at, 0) && tls_record_begin(&r.theirs, 0, at));
    while (r.in.p < r.in.end) {
        step(&r);
    }
    tls_record_clear(&r.ours);
    tls_record_clear(&r.theirs);
    strbuf_clear(&r.wire);
    return 0;
}
