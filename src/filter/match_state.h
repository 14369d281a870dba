/* Private to match_*.c: what a filter text becomes. */
#ifndef FILTER_MATCH_STATE_H
#define FILTER_MATCH_STATE_H

#include "filter/match.h"

/* ---- the program: ops in the order they run, around one flag */

enum match_code {
    /* set the flag */
    MATCH_EQ,
    MATCH_NE,
    MATCH_LT,
    MATCH_LE,
    MATCH_GT,
    MATCH_GE,
    MATCH_TRUTH, /* a value alone: is it true? */
    MATCH_HAS,
    MATCH_ONE_OF,
    MATCH_STARTS_WITH,
    MATCH_ENDS_WITH,
    MATCH_CONTAINS,
    MATCH_CIDR,
    /* use it */
    MATCH_NOT,
    MATCH_UNLESS, /* jumps when the flag is false: `and` */
    MATCH_IF,     /* jumps when it is true: `or` */
};

enum match_operand_kind {
    OPERAND_CONSTANT, /* index into match.constants */
    OPERAND_PARAM,    /* into match.params, and match_args.values */
    OPERAND_FIELD,    /* into match_set.fields */
    OPERAND_DISTANCE, /* match.operands[index] and the three behind it */
    OPERAND_NUMBER,   /* tonumber() of match.operands[index] */
};

struct match_operand {
    enum match_operand_kind kind;
    uint16_t index;
    uint16_t at, n; /* where it is written */
};

struct match_op {
    enum match_code code;
    bool conjunct;         /* must be true for the whole text to be */
    uint16_t first, count; /* operands */
    uint16_t target;       /* of a jump */
};

struct match_param {
    struct slice name; /* in the text */
    bool network;      /* second argument of cidr() */
    bool optional;     /* has($name) occurs */
};

struct match {
    struct match_set *set;
    char *text; /* owned, with a NUL */
    size_t text_len;
    char *strings; /* owned: constants, decoded */
    struct match_op *ops;
    struct match_operand *operands;
    struct match_value *constants;
    struct network **networks; /* owned; of constants */
    struct match_param *params;
    size_t op_count, operand_count, constant_count, network_count, param_count;
    struct match *next; /* in match_set.all */
};

/* What it points to stands behind it. */
struct match_args {
    const struct match *m;
    struct match_value *values; /* one per param of m; scalars in lists behind them */
    struct network *networks;
    char *text; /* a copy of params, and room for decoded strings behind it */
    struct match_discriminator discriminator;
};

/* ---- fields */

enum match_field_kind {
    FIELD_ID,
    FIELD_TOPIC,
    FIELD_TYPE,
    FIELD_TIME,
    FIELD_KEY,
    FIELD_SEGMENT, /* topic_seg(steps[0].index) */
    FIELD_ATTR,    /* attrs.steps[0] */
    FIELD_DATA,    /* data.steps... */
};

struct match_step {
    char *name;      /* owned; NULL: an index */
    uint32_t name_n; /* bytes */
    uint32_t index;  /* from 1 */
};

struct match_field {
    enum match_field_kind kind;
    struct match_step *steps; /* owned */
    size_t step_count;
};

struct match_set {
    struct match *all;
    struct match_field fields[MATCH_FIELDS_MAX];
    size_t field_count;

    /* the event that was asked about last, and what has been found in it so far */
    struct event *ev; /* owned */
    struct match_value values[MATCH_FIELDS_MAX];
    char *rooms[MATCH_FIELDS_MAX]; /* owned: decoded strings of data */
    bool known[MATCH_FIELDS_MAX];
    bool attrs_known;
    enum { DATA_UNKNOWN, DATA_JSON, DATA_NOT_JSON } data;
    char id_text[EVENT_ID_TEXT_MAX];
    char attrs_room[EVENT_ATTRS_MAX_BYTES];
    bool failed; /* memory was short: the answer is no */
    uint64_t mismatches, missing;
};

/* The index of an equal field, added where there is none; takes the steps. Negative: too many. */
int match_field_intern(struct match_set *set, struct match_field *f);
/* The value of a field in set->ev. */
const struct match_value *match_field_value(struct match_set *set, size_t index);

/* ---- evaluation */

struct match_run {
    const struct match *m;
    const struct match_args *args;
    struct match_set *set;
    struct match_value made[2]; /* results of functions, one for each side of a comparison */
};
/* The value of an operand; `slot` 0 or 1 tells the two sides of a comparison apart. */
const struct match_value *match_operand_value(struct match_run *r, const struct match_operand *o,
                                              unsigned slot);
/* What a testing op answers. */
bool match_op_test(struct match_run *r, const struct match_op *op);
/* Makes `ev` the event asked about. */
void match_set_event(struct match_set *set, struct event *ev);

void match_programs_free(struct match *all);

/* ---- words */

enum match_token_kind {
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

struct match_token {
    enum match_token_kind kind;
    size_t at, n; /* in the text */
    struct slice text;
    struct match_value value;
};

struct match_lexer {
    const char *text; /* followed by NUL */
    size_t n, at;
    char *room; /* where decoded strings go */
    struct match_error *e;
};

/* False: not a word of the language; `e` is filled. */
bool match_lex(struct match_lexer *l, struct match_token *out);
/* Fills `e`; returns false. */
__attribute__((format(printf, 4, 5))) bool match_fail(struct match_error *e, const char *text,
                                                      size_t at, const char *fmt, ...);
/* A word that Lua keeps for itself? */
bool match_is_keyword(struct slice name);

#endif
