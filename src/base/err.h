/* An error for people to read: a code (negative UV_E*) and a text, to which callers add context. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

struct err {
    int code; /* 0: none */
    char text[1024];
};

/* Sets code and text; returns `code`, so that `return err_set(...)` reads well. */
__attribute__((format(printf, 3, 4))) int err_set(struct err *e, int code, const char *fmt, ...);
/* Puts "context: " before the text; returns e->code. */
__attribute__((format(printf, 2, 3))) int err_context(struct err *e, const char *fmt, ...);

#endif
