/* Invariants that must hold for the process to be trusted. Always compiled in. */
#ifndef BASE_REQUIRE_H
#define BASE_REQUIRE_H

/* Logs the expression, file and line to stderr, then aborts, where `x` is false. */
#define REQUIRE(x) ((x) ? (void)0 : require_failed(#x, __FILE__, __LINE__))
_Noreturn void require_failed(const char *what, const char *file, int line);

#endif
