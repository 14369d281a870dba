/* Converts the settings of a process into the option structs of its parts. */
#ifndef SERVER_SERVER_OPTIONS_H
#define SERVER_SERVER_OPTIONS_H

#include "broker/broker.h"
#include "config/config.h"
#include "lookup/query_open.h"
#include "lua/api/lua_cache.h"
#include "lua/api/lua_http.h"
#include "lua/policy/lua_policy.h"
#include "lua/vm/lua_waits.h"
#include "net/client/http_client.h"
#include "net/http/http_server.h"
#include "server/store_open.h"
#include "sets/set_store.h"

struct server_options {
    struct broker_options broker;
    struct http_server_options public, admin, probes; /* probes: admin_public */
    struct http_client_options http_client;
    struct store_options store;
    bool has_database;                            /* for policies */
    struct query_options database, sets_database; /* the second for `sets` */
    struct set_store_options sets;                /* refers to that */
    struct lua_http_service http;                 /* targets: owned */
    struct lua_policy_options policy;             /* server.c sets waits and cache */
    struct lua_waits_limits waits;
    struct lua_cache_limits cache;
    struct network *trusted_proxies; /* owned */
    struct public_route *routes;     /* owned */
};

/* Strings are borrowed from `cfg`; `o` stays where it is. Fails only on a trusted proxy that config_load() let through. */
int server_options_init(struct server_options *o, const struct config *cfg, struct err *e);
void server_options_clear(struct server_options *o);

#endif
