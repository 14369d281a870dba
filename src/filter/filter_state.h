/* Private to filter_*.c: the compiled form of a filter text. */
#ifndef FILTER_FILTER_STATE_H
#define FILTER_FILTER_STATE_H

#include "filter/filter.h"

/* ---- the program: ops in the order they run, around one flag */

enum filter_code {
    /* set the flag */
    FILTER_EQ,
    FILTER_NE,
    FILTER_LT,
    FILTER_LE,
    FILTER_GT,
    FILTER_GE,
    FILTER_TRUTH, /* a value alone: is it true? */
    FILTER_HAS,
    FILTER_ONE_OF,
    FILTER_STARTS_WITH,
    FILTER_ENDS_WITH,
    FILTER_CONTAINS,
    FILTER_CIDR,
    FILTER_IN_SET,
    FILTER_FITS_TEMPLATE,
    FILTER_FITS_URL_PATTERN,
    /* use it */
    FILTER_NOT,
    FILTER_UNLESS, /* jumps when the flag is false: `and` */
    FILTER_IF,     /* jumps when it is true: `or` */
};

enum filter_operand_kind {
    OPERAND_CONSTANT, /* index into match.constants */
    OPERAND_PARAM,    /* into match.params, and filter_args.values */
    OPERAND_FIELD,    /* into filter_set.fields */
    OPERAND_DISTANCE, /* match.operands[index] and the next three */
    OPERAND_NUMBER,   /* tonumber() of match.operands[index] */
    OPERAND_SET,      /* into filter_set.sets: second argument of in_set() */
};

struct filter_operand {
    enum filter_operand_kind kind;
    uint16_t index;
    uint16_t at, n; /* where it is written */
};

struct filter_op {
    enum filter_code code;
    bool conjunct;         /* must be true for the whole text to be */
    uint16_t first, count; /* operands */
    uint16_t target;       /* of a jump */
};

struct filter_param {
    struct slice name; /* in the text */
    bool network;      /* second argument of cidr() */
    bool optional;     /* has($name) occurs */
};

struct filter_seen {
    uint64_t yes, no;
};

struct filter {
    struct filter_set *set;
    char *text; /* owned, with a NUL */
    size_t text_len;
    char *strings; /* owned: constants, decoded */
    struct filter_op *ops;
    struct filter_seen *seen; /* owned: one for each op; NULL: nothing is counted */
    struct filter_operand *operands;
    struct filter_value *constants;
    struct network **networks; /* owned; of constants */
    struct filter_param *params;
    size_t op_count, operand_count, constant_count, network_count, param_count;
    struct filter *next; /* in filter_set.all */
};

/* One allocation with everything it points to. */
struct filter_args {
    const struct filter *m;
    struct filter_value *values; /* one per param of m, then the scalars in lists */
    struct network *networks;
    char *text; /* a copy of params, then room for decoded strings */
    struct filter_discriminator discriminator;
};

/* ---- fields */

enum filter_field_kind {
    FIELD_ID,
    FIELD_TOPIC,
    FIELD_TYPE,
    FIELD_TIME,
    FIELD_EXPIRES,
    FIELD_KEY,
    FIELD_SEGMENT, /* topic_seg(steps[0].index) */
    FIELD_ATTR,    /* attrs.steps[0] */
    FIELD_DATA,    /* data.steps... */
};

struct filter_step {
    char *name;      /* owned; NULL: an index */
    uint32_t name_n; /* bytes */
    uint32_t index;  /* from 1 */
};

struct filter_field {
    enum filter_field_kind kind;
    struct filter_step *steps; /* owned */
    size_t step_count;
};

/* What in_set() may name. */
struct filter_values {
    const char *name;
    const struct value_slot *slot; /* NULL: it has no values */
    bool used;
};

struct filter_set {
    struct filter *all;
    struct filter_values sets[FILTER_SETS_MAX];
    size_t set_count;
    struct filter_field fields[FILTER_FIELDS_MAX];
    size_t field_count;
    bool counts; /* see filter_set_count() */

    /* the current event, and the values found in it so far */
    struct event *ev; /* owned */
    struct filter_value values[FILTER_FIELDS_MAX];
    char *rooms[FILTER_FIELDS_MAX]; /* owned: decoded strings of data */
    bool known[FILTER_FIELDS_MAX];
    bool attrs_known;
    enum { DATA_UNKNOWN, DATA_JSON, DATA_NOT_JSON } data;
    char id_text[EVENT_ID_TEXT_MAX];
    char attrs_room[EVENT_ATTRS_MAX_BYTES];
    bool failed; /* memory was short: the result is false */
    uint64_t mismatches, missing, refused;
};

void filter_field_clear(struct filter_field *f);
/* The index of an equal field, added where there is none; takes the steps. Negative: too many. */
int filter_field_intern(struct filter_set *set, struct filter_field *f);
/* The value of a field in set->ev. */
const struct filter_value *filter_field_value(struct filter_set *set, size_t index);

/* ---- evaluation */

struct filter_run {
    const struct filter *m;
    const struct filter_args *args;
    struct filter_set *set;
    struct filter_value made[2]; /* results of functions, one for each side of a comparison */
    bool refused;                /* a set had no values: the text is false */
};
/* The value of an operand; `slot` 0 or 1 tells the two sides of a comparison apart. */
const struct filter_value *filter_operand_value(struct filter_run *r,
                                                const struct filter_operand *o, unsigned slot);
/* Gets each evaluated condition with its result. */
typedef void (*filter_trace_cb)(void *ctx, struct filter_run *r, const struct filter_op *op,
                                bool result);
/* Runs the program for the current event; filter_test() is the same without a trace. */
bool filter_run_traced(struct filter_run *r, filter_trace_cb trace, void *ctx);
/* Makes `ev` the current event. */
void filter_set_event(struct filter_set *set, struct event *ev);

void filter_programs_free(struct filter *all);

/* ---- words */

enum filter_token_kind {
    TOKEN_END,
    TOKEN_NAME,
    TOKEN_PARAM,  /* $name; text without the $ */
    TOKEN_STRING, /* value.s decoded */
    TOKEN_NUMBER, /* value */
    TOKEN_AND,
    TOKEN_OR,
    TOKEN_NOT,
    TOKEN_TRUE,
    TOKEN_FALSE,
    TOKEN_EQ,
    TOKEN_NE,
    TOKEN_LT,
    TOKEN_LE,
    TOKEN_GT,
    TOKEN_GE,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_BRACKET,
    TOKEN_BRACKET_END,
    TOKEN_DOT,
    TOKEN_COMMA,
    TOKEN_MINUS,
};

struct filter_token {
    enum filter_token_kind kind;
    size_t at, n; /* in the text */
    struct slice text;
    struct filter_value value;
};

struct filter_lexer {
    const char *text; /* followed by NUL */
    size_t n, at;
    char *room; /* where decoded strings go */
    struct filter_error *e;
};

/* False: not a word of the language; `e` is filled. */
bool filter_lex(struct filter_lexer *l, struct filter_token *out);
/* Fills `e`; returns false. */
__attribute__((format(printf, 4, 5))) bool filter_fail(struct filter_error *e, const char *text,
                                                       size_t at, const char *fmt, ...);
/* Is it a reserved word of Lua? */
bool filter_is_keyword(struct slice name);

#endif
