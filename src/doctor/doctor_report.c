#include "doctor/doctor_report.h"

#include "base/program/options.h"
#include "cli/cli_text.h"

#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 4, 0))) static void
doctor_print(const char *mark, const char *what, const char *advice, const char *fmt, va_list ap)
{
    char text[1200];
    vsnprintf(text, sizeof text, fmt, ap);
    printf("%-5s %s: ", mark, what);
    cli_put(stdout, slice_str(text));
    putchar('\n');
    if (advice) {
        options_print_indented(advice, 6);
    }
    (void)fflush(stdout); /* some take their time */
}

void doctor_ok(struct doctor_report *r, const char *what, const char *fmt, ...)
{
    va_list ap;
    r->ok++;
    va_start(ap, fmt);
    doctor_print("ok", what, NULL, fmt, ap);
    va_end(ap);
}

void doctor_warn(struct doctor_report *r, const char *what, const char *advice, const char *fmt,
                 ...)
{
    va_list ap;
    r->warnings++;
    va_start(ap, fmt);
    doctor_print("warn", what, advice, fmt, ap);
    va_end(ap);
}

void doctor_fail(struct doctor_report *r, const char *what, const char *advice, const char *fmt,
                 ...)
{
    va_list ap;
    r->failures++;
    va_start(ap, fmt);
    doctor_print("FAIL", what, advice, fmt, ap);
    va_end(ap);
}
