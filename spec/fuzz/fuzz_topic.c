/* Topics: lines of input are patterns and names. A matcher written without the code under test must
 * agree, and the index must find exactly the patterns that match, also after some are taken out. */
#include "audience/topic_index.h"
#include "event/event.h"
#include "event/topic.h"

#include <stdint.h>
#include <stdlib.h>

enum { LINES_MAX = 24, PARTS_MAX = 256 };

struct parts {
    struct slice v[PARTS_MAX];
    size_t n;
};

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void split(struct slice s, struct parts *out)
{
    size_t start = 0;
    out->n = 0;
    for (size_t i = 0; i <= s.n; i++) {
        if (i == s.n || s.p[i] == '/') {
            require(out->n < PARTS_MAX);
            out->v[out->n++] = slice_of(s.p + start, i - start);
            start = i + 1;
        }
    }
}

static bool naive_match(struct slice pattern, struct slice name)
{
    struct parts p, n;
    split(pattern, &p);
    split(name, &n);
    bool rest = slice_is(p.v[p.n - 1], "**");
    size_t fixed = p.n - (rest ? 1 : 0);
    if (rest ? n.n <= fixed : n.n != fixed) {
        return false;
    }
    for (size_t i = 0; i < fixed; i++) {
        if (!slice_is(p.v[i], "*") && !slice_eq(p.v[i], n.v[i])) {
            return false;
        }
    }
    return true;
}

/* The rules of topic.h once more, byte by byte. */
static bool naive_valid(struct slice s, bool wildcards)
{
    struct parts p;
    if (s.n == 0 || s.n > EVENT_TOPIC_MAX_BYTES || !utf8_ok(s)) {
        return false;
    }
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool c1 = c == 0xc2 && (unsigned char)s.p[i + 1] <= 0x9f;
        if (c < 0x20 || c == 0x7f || c1) {
            return false;
        }
    }
    split(s, &p);
    for (size_t i = 0; i < p.n; i++) {
        bool star = p.v[i].n && memchr(p.v[i].p, '*', p.v[i].n);
        bool one = slice_is(p.v[i], "*"), all = slice_is(p.v[i], "**") && i == p.n - 1;
        if (p.v[i].n == 0 || (star && (!wildcards || (!one && !all)))) {
            return false;
        }
    }
    return true;
}

struct found {
    unsigned times[LINES_MAX];
};

static void visit(void *ctx, void *member)
{
    struct found *f = ctx;
    f->times[(uintptr_t)member - 1]++;
}

static void check_index(const struct topic_index *ix, const struct slice *lines, size_t n,
                        const bool *held, struct slice name)
{
    struct found f = {0};
    topic_index_match(ix, name, visit, &f);
    for (size_t i = 0; i < n; i++) {
        require(f.times[i] == (held[i] && naive_match(lines[i], name) ? 1U : 0U));
    }
}

static void check_lines(const struct slice *lines, size_t n)
{
    struct topic_index *ix = topic_index_new();
    bool held[LINES_MAX] = {false};
    for (size_t i = 0; i < n; i++) {
        struct topic_slot *slot =
            topic_pattern_check(lines[i]) ? NULL : topic_index_slot(ix, lines[i]);
        held[i] = slot && !slot->value; /* a line may stand twice */
        if (held[i]) {
            slot->value = (void *)(uintptr_t)(i + 1);
        }
    }
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < n; i++) {
            if (!topic_name_check(lines[i])) {
                check_index(ix, lines, n, held, lines[i]);
            }
        }
        for (size_t i = round; i < n && round == 0; i += 2) {
            if (held[i]) {
                struct topic_slot *slot = topic_index_slot(ix, lines[i]);
                slot->value = NULL;
                topic_index_prune(slot);
                held[i] = false;
            }
        }
    }
    topic_index_free(ix);
}

static void check_pair(struct slice a, struct slice b)
{
    if (!topic_pattern_check(a) && !topic_name_check(b)) {
        require(topic_match(a, b) == naive_match(a, b));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice lines[LINES_MAX];
    const char *p = (const char *)data;
    size_t n = 0, start = 0;
    for (size_t i = 0; i <= size && n < LINES_MAX; i++) {
        if (i == size || p[i] == '\n') {
            lines[n++] = slice_of(size ? p + start : "", i - start);
            start = i + 1;
        }
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = topic_name_check(lines[i]), *pattern = topic_pattern_check(lines[i]);
        require(!name == naive_valid(lines[i], false));
        require(!pattern == naive_valid(lines[i], true));
        require(pattern || topic_is_pattern(lines[i]) == (name != NULL));
        require(topic_segment_ok(lines[i]) == (!name && !memchr(lines[i].p, '/', lines[i].n)));
        for (size_t k = 0; k < n; k++) {
            check_pair(lines[i], lines[k]);
        }
    }
    check_lines(lines, n);
    return 0;
}
