/* What the sessions of this store have in common: time limits, the settings that each begins with,
 * and the statement that reserves ids. */
#ifndef STORE_POSTGRES_PG_SESSION_H
#define STORE_POSTGRES_PG_SESSION_H

enum {
    PG_CONNECT_MS = 5000, /* for each address of a server */
    PG_ANSWER_MS = 12000, /* a little more than the statement_timeout of PG_SETUP */
};

/* Reserves ids: after each connect of the sequencer and of the appends, and when the head is not
 * what it was. Arguments: partition_ids, the newest id known. */
#define PG_LEAD_SQL "SELECT tidegate.lead($1::bigint, $2::bigint)"

/* Settings of every session. They override those of the server, the database and the role. lock_timeout: a
 * sequencer that is stopped during a batch holds the lock of the head until its session ends.
 * synchronous_commit: no publisher gets an id of an event that the server may lose. Through
 * pg_settings: settings that older servers do not have. */
#define PG_SETUP_COMMON                                                                            \
    "SET search_path = pg_catalog; SET default_transaction_isolation = 'read committed';"          \
    "SET standard_conforming_strings = on;"                                                        \
    "SET client_min_messages = warning; SET jit = off; SET max_parallel_workers_per_gather = 0;"   \
    "SET idle_in_transaction_session_timeout = 5000;"                                              \
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;"  \
    "SET tcp_user_timeout = 10000;"                                                                \
    "SELECT set_config(name, '0', false) FROM pg_settings"                                         \
    " WHERE name IN ('idle_session_timeout', 'transaction_timeout');"                              \
    "SELECT set_config('synchronous_commit', 'on', false)"                                         \
    " WHERE current_setting('synchronous_commit') IN ('off', 'local');"
#define PG_SETUP PG_SETUP_COMMON "SET statement_timeout = 10000; SET lock_timeout = 1000"

#endif
