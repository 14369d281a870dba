/* The topic index leads to one shelf per pattern. On it stand the audiences that any event may be
 * for, and, for each attribute that tells others apart, those others by the value they want.
 * Shelves and what is on them vanish with their last audience. */
#include "broker/audience_index.h"

#include "base/hash.h"
#include "base/json_text.h"
#include "base/list.h"
#include "base/xalloc.h"
#include "broker/audience.h"
#include "broker/topic_index.h"
#include "filter/filter.h"

#include <stdlib.h>

struct sorter;
struct shelf;

/* Audiences that want one value of an attribute; or, with the shelf itself, any event. */
struct pile {
    struct sorter *sorter; /* NULL: of the shelf */
    struct shelf *shelf;
    struct list entries;
    UT_hash_handle hh; /* in sorter->piles */
    size_t key_n;
    char key[]; /* tag and bytes of filter_value_key() */
};

/* One attribute: its name, and a pile for each value. */
struct sorter {
    struct list link; /* in shelf->sorters */
    struct shelf *shelf;
    struct pile *piles; /* uthash */
    size_t name_n;
    char name[];
};

struct shelf {
    UT_hash_handle hh; /* in audience_index.shelves */
    struct pile *plain;
    struct list sorters;
    size_t pattern_n;
    char pattern[];
};

/* One audience on one pile. */
struct audience_entry {
    struct list link; /* in pile->entries */
    struct audience *audience;
    struct pile *pile;
    struct audience_entry *next; /* of the same audience */
};

struct audience_index {
    struct topic_index *topics; /* pattern -> shelf */
    struct shelf *shelves;      /* uthash, by pattern */
    struct hash_key key;
};

struct audience_index *audience_index_new(void)
{
    struct audience_index *ix = xcalloc(1, sizeof *ix);
    ix->topics = topic_index_new();
    hash_key_init(&ix->key);
    return ix;
}

void audience_index_free(struct audience_index *ix)
{
    if (ix) {
        REQUIRE(!ix->shelves);
        topic_index_free(ix->topics);
        free(ix);
    }
}

static unsigned hash_of(const struct audience_index *ix, const char *p, size_t n)
{
    return (unsigned)hash_bytes(&ix->key, p, n);
}

/* ---- the macros of uthash, one a function */

static struct shelf *shelf_find(const struct audience_index *ix, struct slice pattern,
                                unsigned hash)
{
    struct shelf *shelf = NULL;
    HASH_FIND_BYHASHVALUE(hh, ix->shelves, pattern.p, pattern.n, hash, shelf);
    return shelf;
}

/* NOLINTNEXTLINE(readability-function-size) */
static void shelf_add(struct audience_index *ix, struct shelf *shelf, unsigned hash)
{
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, ix->shelves, shelf->pattern, shelf->pattern_n, hash, shelf);
}

static void shelf_del(struct audience_index *ix, struct shelf *shelf)
{
    REQUIRE(ix->shelves != NULL);
    HASH_DEL(ix->shelves, shelf);
}

static struct pile *pile_find(const struct sorter *sorter, const char *key, size_t n, unsigned hash)
{
    struct pile *pile = NULL;
    HASH_FIND_BYHASHVALUE(hh, sorter->piles, key, n, hash, pile);
    return pile;
}

/* NOLINTNEXTLINE(readability-function-size) */
static void pile_add(struct sorter *sorter, struct pile *pile, unsigned hash)
{
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, sorter->piles, pile->key, pile->key_n, hash, pile);
}

static void pile_del(struct sorter *sorter, struct pile *pile)
{
    REQUIRE(sorter->piles != NULL);
    HASH_DEL(sorter->piles, pile);
}

/* ---- putting on */

/* Sizes are those of a topic, an attribute's name, and a value of params: a few KiB at most. */
static void *with_bytes(size_t size, const char *p, size_t n)
{
    char *out = xcalloc(1, size + n);
    if (n) {
        memcpy(out + size, p, n);
    }
    return out;
}

static struct pile *pile_new(struct shelf *shelf, struct sorter *sorter, const char *key, size_t n)
{
    struct pile *pile = with_bytes(sizeof *pile, key, n);
    pile->shelf = shelf;
    pile->sorter = sorter;
    pile->key_n = n;
    list_init(&pile->entries);
    return pile;
}

static struct shelf *shelf_for(struct audience_index *ix, struct slice pattern)
{
    unsigned hash = hash_of(ix, pattern.p, pattern.n);
    struct shelf *shelf = shelf_find(ix, pattern, hash);
    if (!shelf) {
        shelf = with_bytes(sizeof *shelf, pattern.p, pattern.n);
        shelf->pattern_n = pattern.n;
        shelf->plain = pile_new(shelf, NULL, NULL, 0);
        list_init(&shelf->sorters);
        shelf_add(ix, shelf, hash);
        topic_index_add(ix->topics, pattern, shelf);
    }
    return shelf;
}

static struct sorter *sorter_for(struct shelf *shelf, struct slice attr)
{
    list_for_each (it, &shelf->sorters) {
        struct sorter *s = container_of(it, struct sorter, link);
        if (slice_eq(slice_of(s->name, s->name_n), attr)) {
            return s;
        }
    }
    struct sorter *s = with_bytes(sizeof *s, attr.p, attr.n);
    s->shelf = shelf;
    s->name_n = attr.n;
    list_add_tail(&shelf->sorters, &s->link);
    return s;
}

static void put_on(struct audience *a, struct pile *pile)
{
    struct audience_entry *entry = xcalloc(1, sizeof *entry);
    entry->audience = a;
    entry->pile = pile;
    entry->next = a->entries;
    a->entries = entry;
    list_add_tail(&pile->entries, &entry->link);
}

/* The key of a value is its tag and its bytes; `room` keeps them together. False: longer than any
 * attribute, so that no event has it. */
static bool key_of(const struct filter_value *v, char room[EVENT_ATTRS_MAX_BYTES + 1], size_t *n)
{
    struct filter_key key;
    filter_value_key(v, &key);
    if (key.bytes.n > EVENT_ATTRS_MAX_BYTES) {
        return false;
    }
    room[0] = key.tag;
    if (key.bytes.n) {
        memcpy(room + 1, key.bytes.p, key.bytes.n);
    }
    *n = key.bytes.n + 1;
    return true;
}

static void put_by_value(struct audience_index *ix, struct audience *a, struct slice pattern,
                         const struct filter_discriminator *d)
{
    char key[EVENT_ATTRS_MAX_BYTES + 1];
    for (size_t i = 0; i < d->count; i++) {
        size_t n;
        if (!key_of(&d->values[i], key, &n)) {
            continue;
        }
        struct sorter *sorter = sorter_for(shelf_for(ix, pattern), d->attr);
        unsigned hash = hash_of(ix, key, n);
        struct pile *pile = pile_find(sorter, key, n, hash);
        if (!pile) {
            pile = pile_new(sorter->shelf, sorter, key, n);
            pile_add(sorter, pile, hash);
        }
        put_on(a, pile);
    }
}

void audience_index_add(struct audience_index *ix, struct audience *a)
{
    struct filter_discriminator d = {{NULL, 0}, NULL, 0};
    REQUIRE(!a->entries);
    if (a->binding.text) {
        d = filter_discriminator(a->binding.text);
    }
    for (size_t i = 0; i < a->topic_count; i++) {
        if (d.attr.p) {
            put_by_value(ix, a, a->topics[i], &d);
        } else {
            put_on(a, shelf_for(ix, a->topics[i])->plain);
        }
    }
}

/* ---- taking off */

static void shelf_tidy(struct audience_index *ix, struct shelf *shelf)
{
    if (list_empty(&shelf->plain->entries) && list_empty(&shelf->sorters)) {
        topic_index_del(ix->topics, slice_of(shelf->pattern, shelf->pattern_n), shelf);
        shelf_del(ix, shelf);
        free(shelf->plain);
        free(shelf);
    }
}

static void pile_tidy(struct audience_index *ix, struct pile *pile)
{
    struct shelf *shelf = pile->shelf;
    struct sorter *sorter = pile->sorter;
    if (!list_empty(&pile->entries)) {
        return;
    }
    if (sorter) {
        pile_del(sorter, pile);
        free(pile);
        if (!sorter->piles) {
            list_del(&sorter->link);
            free(sorter);
        }
    }
    shelf_tidy(ix, shelf);
}

void audience_index_del(struct audience_index *ix, struct audience *a)
{
    while (a->entries) {
        struct audience_entry *entry = a->entries;
        struct pile *pile = entry->pile;
        a->entries = entry->next;
        list_del(&entry->link);
        free(entry);
        pile_tidy(ix, pile);
    }
}

/* ---- looking up */

struct lookup {
    const struct audience_index *ix;
    const struct event *ev;
    void (*visit)(void *ctx, struct audience *a);
    void *ctx;
    size_t probes;
};

static void visit_pile(struct lookup *l, const struct pile *pile)
{
    list_for_each (it, &pile->entries) {
        l->visit(l->ctx, container_of(it, struct audience_entry, link)->audience);
    }
}

/* The event's attribute of that name; FILTER_MISSING: it has none. `room` takes a decoded string.
 */
static struct filter_value attr_of(const struct event *ev, struct slice name, char *room)
{
    struct slice value;
    return json_text_member(event_attrs(ev), name, &value)
               ? filter_value_of_json(value, &room)
               : (struct filter_value){.type = FILTER_MISSING};
}

static void visit_shelf(void *ctx, void *member)
{
    struct lookup *l = ctx;
    const struct shelf *shelf = member;
    visit_pile(l, shelf->plain);
    list_for_each (it, &shelf->sorters) {
        const struct sorter *sorter = container_of(it, struct sorter, link);
        char room[EVENT_ATTRS_MAX_BYTES], key[EVENT_ATTRS_MAX_BYTES + 1];
        size_t n;
        struct filter_value v = attr_of(l->ev, slice_of(sorter->name, sorter->name_n), room);
        l->probes++;
        if (v.type != FILTER_MISSING && key_of(&v, key, &n)) {
            const struct pile *pile = pile_find(sorter, key, n, hash_of(l->ix, key, n));
            if (pile) {
                visit_pile(l, pile);
            }
        }
    }
}

size_t audience_index_match(const struct audience_index *ix, const struct event *ev,
                            void (*visit)(void *ctx, struct audience *a), void *ctx)
{
    struct lookup l = {ix, ev, visit, ctx, 0};
    topic_index_match(ix->topics, event_topic(ev), visit_shelf, &l);
    return l.probes;
}
