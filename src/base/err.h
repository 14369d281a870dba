/* An error a human will read: code (negative UV_E*) and text, with context added on the way up. */
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
