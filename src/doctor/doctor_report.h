/* The findings of `tidegate doctor`: a line each, and what to do about it. */
#ifndef DOCTOR_DOCTOR_REPORT_H
#define DOCTOR_DOCTOR_REPORT_H

#include <stdbool.h>

struct doctor_report {
    unsigned ok, warnings, failures;
};

/* Each prints one line, "ok    WHAT: ...", and counts. */
__attribute__((format(printf, 3, 4))) void doctor_ok(struct doctor_report *r, const char *what,
                                                     const char *fmt, ...);
/* `advice` is printed below. */
__attribute__((format(printf, 4, 5))) void doctor_warn(struct doctor_report *r, const char *what,
                                                       const char *advice, const char *fmt, ...);
__attribute__((format(printf, 4, 5))) void doctor_fail(struct doctor_report *r, const char *what,
                                                       const char *advice, const char *fmt, ...);

#endif
