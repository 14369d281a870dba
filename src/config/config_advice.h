/* What is right as a value, and yet does nothing, or not what anybody wants. Pure. */
#ifndef CONFIG_CONFIG_ADVICE_H
#define CONFIG_CONFIG_ADVICE_H

#include "config/config.h"

/* One thing to say of the setting `key`, with what to do about it. Not `sure`: it is right where something outside of
 * the configuration makes it so. Both texts are borrowed for the call. */
typedef void (*config_advice_cb)(void *ctx, bool sure, const char *key, const char *text);

void config_advise(const struct config *c, config_advice_cb say, void *ctx);

#endif
