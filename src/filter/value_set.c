/* See value_set.h. The bytes of all values lie one behind the other in pieces of memory that never move,
 * so that adding one costs the same however many there are. Sealing makes the table, of 8 bytes a place,
 * at most two thirds full. */
#include "filter/value_set.h"

#include "base/alloc.h"
#include "base/hash.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum {
    PIECE_BITS = 20, /* where a value is: the number of a piece, and an offset in it */
    PIECE_BYTES = 1 << PIECE_BITS,
    PIECES_MAX = 1 << (32 - PIECE_BITS),
    FIRST_PIECE_BYTES = 8192, /* the next ones are twice as large, up to PIECE_BYTES */
    HEAD_BYTES = 3,           /* of a value: its tag, its length */
    PLACES_MIN = 16,
};

static const uint32_t nowhere = UINT32_MAX; /* no value begins at the last byte of a piece */

struct piece {
    unsigned char *p; /* owned */
    size_t used, size;
};

struct place {
    uint32_t hash, at;
};

struct value_set {
    struct hash_key key;
    size_t max_values, max_bytes;
    struct piece *pieces;                        /* owned */
    size_t piece_count, piece_bytes, next_bytes; /* all; of the next one */
    size_t added, count;  /* values; the second without those that came twice */
    struct place *places; /* owned; NULL: not sealed */
    uint32_t mask;
    bool texts, numbers, booleans; /* are there any? */
};

struct value_set *value_set_new(size_t max_values, size_t max_bytes)
{
    struct value_set *s = xcalloc(1, sizeof *s);
    hash_key_init(&s->key);
    s->max_values = max_values;
    s->max_bytes = max_bytes;
    s->next_bytes = FIRST_PIECE_BYTES;
    return s;
}

void value_set_free(struct value_set *s)
{
    if (s) {
        for (size_t i = 0; i < s->piece_count; i++) {
            free(s->pieces[i].p);
        }
        free(s->pieces);
        free(s->places);
        free(s);
    }
}

/* ---- filling */

/* At least one and a half for each value. */
static size_t value_set_places_for(size_t values)
{
    size_t n = PLACES_MIN;
    while (n < values + values / 2) {
        n *= 2;
    }
    return n;
}

/* Bytes of all, with `more` for pieces and one value more. */
static size_t value_set_grown(const struct value_set *s, size_t more)
{
    return sizeof *s + s->piece_bytes + more +
           value_set_places_for(s->added + 1) * sizeof *s->places;
}

static int value_set_too_large(const struct value_set *s, struct err *e)
{
    return err_set(e, UV_EMSGSIZE, "it takes more than %zu bytes of memory (policy.set_bytes)",
                   s->max_bytes);
}

static struct piece *value_set_new_piece(struct value_set *s, struct err *e)
{
    size_t size = s->next_bytes;
    if (s->piece_count == PIECES_MAX || value_set_grown(s, size) > s->max_bytes) {
        (void)value_set_too_large(s, e);
        return NULL;
    }
    unsigned char *p = malloc(size);
    if (!p) {
        (void)err_set(e, UV_ENOMEM, "memory is short");
        return NULL;
    }
    s->pieces = xrealloc(s->pieces, (s->piece_count + 1) * sizeof *s->pieces);
    struct piece *piece = &s->pieces[s->piece_count++];
    *piece = (struct piece){.p = p, .size = size};
    s->piece_bytes += size;
    s->next_bytes = size < PIECE_BYTES ? 2 * size : PIECE_BYTES;
    return piece;
}

/* Where a value of `n` bytes goes. NULL: `e` says why not. */
static unsigned char *value_set_room(struct value_set *s, size_t n, struct err *e)
{
    struct piece *last = s->piece_count ? &s->pieces[s->piece_count - 1] : NULL;
    if (!last || last->size - last->used < HEAD_BYTES + n) {
        last = value_set_new_piece(s, e);
    } else if (value_set_grown(s, 0) > s->max_bytes) {
        (void)value_set_too_large(s, e);
        last = NULL;
    }
    if (!last) {
        return NULL;
    }
    unsigned char *at = last->p + last->used;
    last->used += HEAD_BYTES + n;
    return at;
}

int value_set_add(struct value_set *s, const struct filter_value *v, struct err *e)
{
    struct filter_key key;
    bool number = v->type == FILTER_INTEGER || v->type == FILTER_FLOAT;
    bool text = v->type == FILTER_STRING, boolean = v->type == FILTER_BOOLEAN;
    if ((!number && !text && !boolean) || (v->type == FILTER_FLOAT && isnan(v->f))) {
        return 0;
    }
    filter_value_key(v, &key);
    if (key.bytes.n > VALUE_SET_VALUE_MAX_BYTES) {
        return err_set(e, UV_EMSGSIZE, "it has a text of more than %d bytes",
                       (int)VALUE_SET_VALUE_MAX_BYTES);
    }
    if (s->added == s->max_values) {
        return err_set(e, UV_EMSGSIZE, "it has more than %zu values (policy.set_entries)",
                       s->max_values);
    }
    unsigned char *at = value_set_room(s, key.bytes.n, e);
    if (!at) {
        return e->code;
    }
    at[0] = (unsigned char)key.tag;
    at[1] = (unsigned char)(key.bytes.n & 0xffU);
    at[2] = (unsigned char)(key.bytes.n >> 8U);
    if (key.bytes.n) {
        memcpy(at + HEAD_BYTES, key.bytes.p, key.bytes.n);
    }
    s->added++;
    s->numbers |= number;
    s->texts |= text;
    s->booleans |= boolean;
    return 0;
}

/* ---- the table */

static struct slice value_set_value_at(const unsigned char *p)
{
    return slice_of((const char *)p + HEAD_BYTES, (size_t)p[1] | (size_t)p[2] << 8U);
}

/* The place of an equal value, or the free one where it belongs. */
static struct place *value_set_find(const struct value_set *s, uint32_t hash, char tag,
                                    struct slice bytes)
{
    for (uint32_t i = hash & s->mask;; i = (i + 1) & s->mask) {
        struct place *place = &s->places[i];
        if (place->at == nowhere) {
            return place;
        }
        if (place->hash == hash) {
            const unsigned char *p =
                s->pieces[place->at >> PIECE_BITS].p + (place->at & (PIECE_BYTES - 1));
            if ((char)p[0] == tag && slice_eq(value_set_value_at(p), bytes)) {
                return place;
            }
        }
    }
}

static uint32_t value_set_hash(const struct value_set *s, struct slice bytes)
{
    return (uint32_t)hash_bytes(&s->key, bytes.p, bytes.n);
}

int value_set_seal(struct value_set *s, struct err *e)
{
    size_t n = value_set_places_for(s->added);
    s->places = n <= UINT32_MAX ? malloc(n * sizeof *s->places) : NULL;
    if (!s->places) {
        return err_set(e, UV_ENOMEM, "memory is short");
    }
    memset(s->places, 0xff, n * sizeof *s->places);
    s->mask = (uint32_t)(n - 1);
    for (size_t i = 0; i < s->piece_count; i++) {
        for (size_t at = 0; at < s->pieces[i].used;) {
            const unsigned char *p = s->pieces[i].p + at;
            struct slice bytes = value_set_value_at(p);
            uint32_t hash = value_set_hash(s, bytes);
            struct place *place = value_set_find(s, hash, (char)p[0], bytes);
            s->count += place->at == nowhere;
            *place = (struct place){hash, (uint32_t)(i << PIECE_BITS | at)};
            at += HEAD_BYTES + bytes.n;
        }
    }
    return 0;
}

/* ---- asking */

bool value_set_has(const struct value_set *s, const struct filter_value *v)
{
    struct filter_key key;
    if (v->type == FILTER_FLOAT && isnan(v->f)) {
        return false;
    }
    filter_value_key(v, &key);
    return value_set_find(s, value_set_hash(s, key.bytes), key.tag, key.bytes)->at != nowhere;
}

bool value_set_is_other_type(const struct value_set *s, const struct filter_value *v)
{
    bool fits = v->type == FILTER_STRING    ? s->texts
                : v->type == FILTER_BOOLEAN ? s->booleans
                                            : s->numbers;
    return s->count > 0 && !fits;
}

size_t value_set_count(const struct value_set *s)
{
    return s->count;
}

size_t value_set_bytes(const struct value_set *s)
{
    return sizeof *s + s->piece_bytes + s->piece_count * sizeof *s->pieces +
           (s->places ? ((size_t)s->mask + 1) * sizeof *s->places : 0);
}
