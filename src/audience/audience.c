#include "audience/audience.h"

#include "base/alloc.h"
#include "event/topic.h"

#include <stdlib.h>

/* Canonical bytes of a subscription: length-prefixed, so that no two subscriptions share them. */
static int key_part(struct strbuf *key, struct slice s)
{
    uint32_t n = s.p ? (uint32_t)s.n : UINT32_MAX;
    int rc = strbuf_append(key, (const char *)&n, sizeof n);
    return rc ? rc : strbuf_append(key, s.p ? s.p : "", s.n);
}

int audience_key(struct strbuf *key, const struct subscription *s)
{
    int rc = key_part(key, s->filter);
    rc = rc ? rc : key_part(key, s->format);
    rc = rc ? rc : key_part(key, s->params);
    rc = rc ? rc : key_part(key, s->ends);
    rc = rc ? rc : key_part(key, s->mark);
    char how[1 + sizeof s->every_ms] = {s->envelope ? 'e' : '-'}; /* one form for each */
    memcpy(how + 1, &s->every_ms, sizeof s->every_ms);
    struct slice rest = slice_of(how, s->every_ms ? sizeof how : 1);
    rc = rc ? rc : key_part(key, s->envelope || s->every_ms ? rest : slice_of(NULL, 0));
    for (size_t i = 0; rc == 0 && i < s->topic_count; i++) {
        rc = key_part(key, s->topics[i]);
    }
    return rc;
}

static struct slice key_next(const char **at)
{
    uint32_t n;
    memcpy(&n, *at, sizeof n);
    *at += sizeof n;
    if (n == UINT32_MAX) {
        return slice_of(NULL, 0);
    }
    struct slice s = slice_of(*at, n);
    *at += n;
    return s;
}

size_t audience_topics_split(struct slice run, struct slice *out, size_t most)
{
    const char *at = run.p;
    size_t n = 0;
    while (at < run.p + run.n && n < most) {
        out[n++] = key_next(&at);
    }
    return n;
}

size_t audience_names_split(struct slice names, struct slice out[AUDIENCE_NAMES_MAX])
{
    return audience_topics_split(names, out, AUDIENCE_NAMES_MAX);
}

struct audience *audience_new(size_t size, uint64_t id, struct strbuf *key, size_t topic_count)
{
    const char *at = key->data;
    struct slice parts[6];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        parts[i] = key_next(&at);
    }
    struct slice how = parts[5];
    struct audience *a = xcalloc(1, size);
    if (how.n > 1) {
        memcpy(&a->every_ms, how.p + 1, sizeof a->every_ms);
    }
    a->refs = 1;
    a->id = id;
    a->key_len = key->len;
    a->key = strbuf_detach(key);
    a->filter = parts[0];
    a->format = parts[1];
    a->params = parts[2];
    a->ends = parts[3];
    a->mark = parts[4];
    a->envelope = how.p && *how.p == 'e';
    a->topics = xcalloc(topic_count, sizeof *a->topics);
    a->topic_count = topic_count;
    const char *names = at;
    bool plain = topic_count <= AUDIENCE_NAMES_MAX;
    for (size_t i = 0; i < topic_count; i++) {
        a->topics[i] = key_next(&at);
        plain = plain && !topic_is_pattern(a->topics[i]);
    }
    a->run = slice_of(names, (size_t)(at - names));
    a->names = plain ? slice_of(names, (size_t)(at - names)) : slice_of(NULL, 0);
    list_init(&a->live);
    list_init(&a->parked);
    list_init(&a->dirty);
    return a;
}

void audience_free(struct audience *a)
{
    event_list_clear(&a->pending);
    gzip_encoder_free(a->gzip);
    free(a->topics);
    free(a->key);
    free(a);
}

struct subscription audience_subscription(const struct audience *a)
{
    return (struct subscription){.topics = a->topics,
                                 .topic_count = a->topic_count,
                                 .filter = a->filter,
                                 .format = a->format,
                                 .params = a->params,
                                 .ends = a->ends,
                                 .mark = a->mark,
                                 .envelope = a->envelope,
                                 .every_ms = a->every_ms};
}

bool audience_is_for(const struct audience *a, const struct subscription *s)
{
    struct strbuf key;
    strbuf_init(&key, AUDIENCE_KEY_MAX_BYTES);
    bool same = audience_key(&key, s) == 0 && key.len == a->key_len &&
                memcmp(key.data, a->key, key.len) == 0;
    strbuf_clear(&key);
    return same;
}

struct audience *audience_ref(struct audience *a)
{
    a->refs++;
    return a;
}

bool audience_wants(const struct audience *a, struct slice topic)
{
    for (size_t i = 0; i < a->topic_count; i++) {
        if (topic_match(a->topics[i], topic)) {
            return true;
        }
    }
    return false;
}
