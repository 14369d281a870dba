/* Converts values of specs to structs of the broker, and back. */
#ifndef TOOLS_TEST_TEST_VALUES_H
#define TOOLS_TEST_TEST_VALUES_H

#include "lookup/query_source.h"
#include "policy/policy.h"
#include "policy/policy_setting.h"
#include "tools/test/test_broker.h"

#include <jansson.h>
#include <lua.h>

/* Field `name` of the table at `arg`; absent when nil. Borrowed while the table holds it. */
struct slice test_field(lua_State *L, int arg, const char *name);
/* Of {topic, type, data, key, attrs (canonical JSON)} at `arg`: a new reference; or NULL with what
 * is wrong. */
struct event *test_make_event(lua_State *L, int arg, struct test_broker *w, const char **bad);
/* Pushes {topic, type, data, key, attrs}. */
void test_push_event(lua_State *L, const struct event *ev);
/* Sets `quota` = {{key, max, over}, ...} in the table on top of the stack, where there are any. */
void test_push_quotas(lua_State *L, const struct quota_want *quotas, size_t n);
/* Pushes a verdict as test_questions.h describes it. */
void test_push_verdict(lua_State *L, const struct verdict *v);

/* Texts are those of the list that it is made of. */
struct test_settings {
    struct policy_setting v[POLICY_SETTINGS_MAX];
    size_t n;
};
/* Pushes settings of a policy as a userdata, made of the list at `idx` (absolute), which must stay:
 * {name, type, value}, sorted by name; the value is a text, or a list of texts. */
const struct test_settings *test_settings_push(lua_State *L, int idx);

/* What a spec says that a database answers. `list`: objects with scalars, into empty rows. Negative: `e` says
 * what was expected. */
int test_rows_read(const json_t *list, struct query_rows *rows, struct err *e);
/* A list of scalars, each as a row of one cell. */
int test_rows_read_values(const json_t *list, const struct query_sink *sink, struct err *e);

#endif
