/* Values of native_policy.c: specs' tables <-> structs of policy/policy.h. */
#ifndef SPEC_NATIVE_POLICY_H
#define SPEC_NATIVE_POLICY_H

#include "auth/keyring.h"
#include "native.h"
#include "policy/policy.h"

/* Field `name` of the table at `arg`; absent when nil. Borrowed while the table holds it. */
struct slice native_field_slice(lua_State *L, int arg, const char *name);
lua_Integer native_field_integer(lua_State *L, int arg, const char *name, lua_Integer absent);

/* Pushes a userdata that owns a reference to the event made of the table at `arg`. */
int native_push_event(lua_State *L, int arg);
struct event *native_check_event(lua_State *L, int arg);
/* Pushes {topic, type, data, key, attrs, time_ms}. */
void native_push_fields(lua_State *L, const struct event *ev);

struct native_request {
    struct policy_request rq;
    struct http_request http;
    struct http_query query;
    struct http_header headers[32];
    struct http_param params[64];
};
/* Borrows its strings from the table {method, path, ip, id, query = {{name, value}, ..}, headers =
 * {{name, value}, ..}, last_event_id} at `arg`. */
void native_read_request(lua_State *L, int arg, struct native_request *out);

/* native_jwt.c: opens the keyring { NAME = { secret | secret_file | public_key_file | jwks_file =
 * text } } in field `keys` of the table at `arg`; NULL where there is none. 0, or an error. */
int native_open_keys(lua_State *L, int arg, struct keyring **out, struct err *e);

void native_push_verdict(lua_State *L, const struct verdict *v);

#endif
