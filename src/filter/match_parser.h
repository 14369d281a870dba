/* Private to match_parse.c and match_terms.c: the parser of filter texts. */
#ifndef FILTER_MATCH_PARSER_H
#define FILTER_MATCH_PARSER_H

#include "filter/match_state.h"

struct match_parser {
    struct match *m;
    struct match_lexer lexer;
    struct match_token token; /* the one that comes next */
    struct match_error *e;
    unsigned depth;
};

/* What a part of the text turned out to be. */
struct match_part {
    bool is_condition; /* its ops are emitted; else a value */
    struct match_operand value;
    const char *refusal; /* of a condition: why it cannot be compared */
};

/* False: `e` is filled. */
bool match_parse_next(struct match_parser *p);
bool match_parse_expect(struct match_parser *p, enum match_token_kind kind, const char *what);
bool match_parse_fail(struct match_parser *p, size_t at, const char *text); /* false */
bool match_parse_push(struct match_parser *p, struct match_operand o);
bool match_parse_test(struct match_parser *p, enum match_code code, const struct match_operand *v,
                      size_t n);
/* Room for one more at powers of two. */
void *match_parse_grown(void *list, size_t n, size_t size);

/* A value, a function, or what stands in parentheses. */
bool match_parse_simple(struct match_parser *p, struct match_part *out);
/* What begins with a name: a field, or a function. */
bool match_parse_name(struct match_parser *p, struct match_part *out);
struct match_operand match_parse_constant(struct match_parser *p, struct match_value v, size_t at,
                                          size_t end);
struct match_operand match_parse_param(struct match_parser *p, const struct match_token *t,
                                       bool network);

#endif
