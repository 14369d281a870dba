/* For `tidegate check`: could a broker with this configuration begin to work with its store? Makes and changes
 * nothing. */
#ifndef SERVER_STORE_CHECK_H
#define SERVER_STORE_CHECK_H

#include "base/err.h"
#include "config/config.h"

enum store_check {
    STORE_CHECK_FINE,
    STORE_CHECK_WRONG, /* nothing but a change will help */
    STORE_CHECK_UNSURE, /* not for this user, or not on this machine, which need not be the broker's */
    STORE_CHECK_AWAY,    /* the database; it may come back */
    STORE_CHECK_SKIPPED, /* a database, which is not asked without `database` */
};

/* `database`: connects to PostgreSQL, which may take some seconds. `e`: the reason, with the name of the setting,
 * unless it is fine or skipped. */
enum store_check store_check(const struct config *cfg, bool database, struct err *e);

#endif
