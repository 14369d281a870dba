/* The filters and formats that only one of two policies has, and the settings that differ. */
#ifndef RELOAD_POLICY_NAMES_H
#define RELOAD_POLICY_NAMES_H

#include "admin/answers/policy_report.h"

/* Fills the lists of `out` with names borrowed from the policies. */
void policy_names_compare(const struct policy *before, const struct policy *after,
                          struct policy_report *out);
void policy_names_clear(struct policy_report *rep);

#endif
