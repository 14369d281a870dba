/* A setting of a policy, as the configuration gives it (policy.settings) or a tool does. Plain data. */
#ifndef POLICY_POLICY_SETTING_H
#define POLICY_POLICY_SETTING_H

#include <stddef.h>

enum { POLICY_SETTINGS_MAX = 64, POLICY_SETTING_MAX_BYTES = 4096 };

struct policy_setting {
    char *name;
    char
        *type; /* "string" | "integer" | "number" | "boolean" | "list" | "secret" | "secret_file" */
    char *text; /* the value; of a secret_file the absolute path; of a list "" */
    struct {
        char **v;
        size_t n;
    } items; /* of a list */
};

/* A setting that a policy has declared. Never its value, which may be a secret. */
struct policy_declared {
    char name[65];
    char type[8];
    char from[8]; /* "given", "default", or "none": it is optional */
};

#endif
