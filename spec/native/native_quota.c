/* The tables that processes share: quotas of streams, rates. Storms fork real processes. */
#include "base/require.h"
#include "native.h"
#include "quota/shared_area.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

static const char area_type[] = "tidegate.area", user_type[] = "tidegate.quota_user",
                  hold_type[] = "tidegate.quota_hold";

enum { FULL_ROOM = 8, ENDED_ROOM = 8, STORM_PROCESSES = 16, STORM_HELD = 8 };

struct hold {
    struct quota_user *user;
    uint64_t stream;
    struct quota_hold held;
};

static struct shared_area *check_area(lua_State *L)
{
    return luaL_checkudata(L, 1, area_type);
}

/* area(quota_streams, rate_keys) */
static int l_area(lua_State *L)
{
    struct err e = {0};
    struct shared_area *a = lua_newuserdatauv(L, sizeof *a, 0);
    int rc = shared_area_new(a, (uint32_t)luaL_checkinteger(L, 1),
                             (uint32_t)luaL_checkinteger(L, 2), &e);
    if (rc) {
        return luaL_error(L, "%s", e.text);
    }
    luaL_setmetatable(L, area_type);
    return 1;
}

/* a:again() -> the same memory as the next program maps it; nil, error */
static int l_again(lua_State *L)
{
    const struct shared_area *a = check_area(L);
    struct shared_area *b = lua_newuserdatauv(L, sizeof *b, 0);
    int rc = shared_area_take(b, dup(a->fd));
    if (rc) {
        lua_pushnil(L);
        lua_pushstring(L, uv_strerror(rc));
        return 2;
    }
    luaL_setmetatable(L, area_type);
    return 1;
}

/* a:spoil(): its layout is another program's */
static int l_spoil(lua_State *L)
{
    memcpy(check_area(L)->at, "other", 5);
    return 0;
}

static int l_close(lua_State *L)
{
    shared_area_close(check_area(L));
    return 0;
}

/* a:join(pid, number) -> user; nil: too many */
static int l_join(lua_State *L)
{
    const struct shared_area *a = check_area(L);
    struct quota_user *u = lua_newuserdatauv(L, sizeof *u, 1);
    *u = (struct quota_user){0};
    luaL_setmetatable(L, user_type);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    int rc =
        quota_join(u, a->quotas, (int)luaL_checkinteger(L, 2), (unsigned)luaL_optinteger(L, 3, 0));
    if (rc) {
        lua_pushnil(L);
    }
    return 1;
}

/* a:process_ended(pid) */
static int l_process_ended(lua_State *L)
{
    quota_table_process_ended(check_area(L)->quotas, (int)luaL_checkinteger(L, 2));
    return 0;
}

/* a:figures() -> places, keys; of the other table: keys */
static int l_figures(lua_State *L)
{
    const struct shared_area *a = check_area(L);
    struct quota_figures f;
    uint32_t keys, capacity;
    quota_table_figures(a->quotas, &f);
    rate_table_figures(a->rates, &keys, &capacity);
    lua_pushinteger(L, f.places);
    lua_pushinteger(L, f.keys);
    lua_pushinteger(L, keys);
    return 3;
}

/* a:full() -> { { key, streams, max, denied }, ... }, total */
static int l_full(lua_State *L)
{
    struct quota_full full[FULL_ROOM];
    size_t total;
    size_t n = quota_table_full(check_area(L)->quotas, full, FULL_ROOM, &total);
    lua_newtable(L);
    for (size_t i = 0; i < n; i++) {
        lua_createtable(L, 0, 4);
        lua_pushlstring(L, full[i].key, full[i].key_bytes);
        lua_setfield(L, -2, "key");
        lua_pushinteger(L, full[i].streams);
        lua_setfield(L, -2, "streams");
        lua_pushinteger(L, full[i].max);
        lua_setfield(L, -2, "max");
        lua_pushinteger(L, full[i].denied);
        lua_setfield(L, -2, "denied");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_pushinteger(L, (lua_Integer)total);
    return 2;
}

/* a:rate(name, key, interval_ns, burst, now_ns) -> "taken", "empty" or "no-room"; wait_ns */
static int l_rate(lua_State *L)
{
    static const char *const names[] = {"taken", "empty", "no-room"};
    const struct shared_area *a = check_area(L);
    struct slice name, key;
    uint64_t wait = 0;
    name.p = luaL_checklstring(L, 2, &name.n);
    key.p = luaL_checklstring(L, 3, &key.n);
    const struct rate_rule rule = {(uint64_t)luaL_checkinteger(L, 4),
                                   (uint64_t)luaL_checkinteger(L, 5)};
    lua_pushstring(
        L, names[rate_take(a->rates, name, key, &rule, (uint64_t)luaL_checkinteger(L, 6), &wait)]);
    lua_pushinteger(L, (lua_Integer)wait);
    return 2;
}

/* ---------------------------------------------------------------- a process */

static struct quota_user *check_user(lua_State *L)
{
    return luaL_checkudata(L, 1, user_type);
}

/* u:stream(id) -> hold */
static int l_stream(lua_State *L)
{
    struct quota_user *u = check_user(L);
    struct hold *h = lua_newuserdatauv(L, sizeof *h, 1);
    *h = (struct hold){.user = u, .stream = (uint64_t)luaL_checkinteger(L, 2)};
    luaL_setmetatable(L, hold_type);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

/* u:ended() -> streams that are to end */
static int l_ended(lua_State *L)
{
    struct quota_user *u = check_user(L);
    struct quota_ended ended[ENDED_ROOM];
    size_t n = quota_to_end(u) ? quota_ended(u, ended, ENDED_ROOM) : 0;
    lua_newtable(L);
    for (size_t i = 0; i < n; i++) {
        lua_pushinteger(L, (lua_Integer)ended[i].stream);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static int l_leave(lua_State *L)
{
    quota_leave(check_user(L));
    return 0;
}

static int l_sweep(lua_State *L)
{
    quota_sweep(check_user(L));
    return 0;
}

/* h:change { { key, max, oldest }, ... } -> "granted", bits of workers with streams to end; "denied", index;
 * "no-room" */
static int l_change(lua_State *L)
{
    static const char *const names[] = {"granted", "denied", "no-room"};
    struct hold *h = luaL_checkudata(L, 1, hold_type);
    struct quota_want wants[QUOTAS_PER_STREAM];
    struct quota_outcome out;
    size_t n = (size_t)luaL_len(L, 2);
    luaL_argcheck(L, n <= QUOTAS_PER_STREAM, 2, "too many");
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        lua_rawgeti(L, -1, 1);
        wants[i].key.p = luaL_checklstring(L, -1, &wants[i].key.n);
        lua_rawgeti(L, -2, 2);
        wants[i].max = (uint32_t)luaL_checkinteger(L, -1);
        lua_rawgeti(L, -3, 3);
        wants[i].oldest = lua_toboolean(L, -1);
    }
    enum quota_answer answer = quota_change(h->user, h->stream, &h->held, wants, n, &out);
    lua_pushstring(L, names[answer]);
    lua_pushinteger(L,
                    answer == QUOTA_DENIED ? (lua_Integer)out.which + 1 : (lua_Integer)out.tells);
    return 2;
}

/* h:keys() -> what it counts for */
static int l_keys(lua_State *L)
{
    const struct hold *h = luaL_checkudata(L, 1, hold_type);
    lua_newtable(L);
    for (uint32_t i = 0; i < h->held.n; i++) {
        struct slice key = quota_key_of(h->user, h->held.places[i]);
        lua_pushlstring(L, key.p, key.n);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* ---------------------------------------------------------------- processes */

struct storm {
    atomic_uint opened, over;
    atomic_uint live[4]; /* by key: opened and not closed; of one that was killed they stay */
};

struct storm_options {
    bool oldest, counts;
    uint32_t max;
    uint64_t rounds; /* UINT64_MAX: until it is killed */
};

/* A spec that is given up leaves nobody behind. */
static pid_t storm_fork(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    return pid;
}

/* Opens and closes streams of four keys, some with two of them. */
static void storm_run(const struct shared_area *a, struct storm *storm,
                      const struct storm_options *o, unsigned number)
{
    static const char *const keys[] = {"a", "b", "c", "d"};
    struct quota_user u;
    struct quota_hold held[STORM_HELD] = {{0}};
    unsigned which[STORM_HELD] = {0}, seed = number;
    REQUIRE(quota_join(&u, a->quotas, (int)getpid(), number) == 0);
    for (uint64_t i = 0; i < o->rounds; i++) {
        unsigned at = (unsigned)rand_r(&seed) % STORM_HELD, key = (unsigned)rand_r(&seed) % 4;
        struct quota_outcome out;
        struct quota_ended ended[ENDED_ROOM];
        if (held[at].n) {
            storm->live[which[at]] -= o->counts ? 1 : 0;
            REQUIRE(quota_change(&u, at + 1, &held[at], NULL, 0, &out) == QUOTA_GRANTED);
            continue;
        }
        const struct quota_want wants[] = {
            {slice_str(keys[key]), o->max, o->oldest},
            {slice_str(number % 2 ? "odd" : "even"), 1000, o->oldest}};
        if (quota_change(&u, at + 1, &held[at], wants, 1 + i % 2, &out) == QUOTA_GRANTED) {
            which[at] = key;
            storm->opened++;
            storm->over += o->counts && ++storm->live[key] > o->max ? 1 : 0;
        }
        while (o->oldest && quota_to_end(&u)) {
            size_t n = quota_ended(&u, ended, ENDED_ROOM);
            for (size_t k = 0; k < n; k++) {
                struct quota_hold *h = &held[ended[k].stream - 1];
                REQUIRE(quota_change(&u, ended[k].stream, h, NULL, 0, &out) == QUOTA_GRANTED);
            }
        }
    }
    for (unsigned at = 0; o->counts && at < STORM_HELD; at++) {
        storm->live[which[at]] -= held[at].n ? 1 : 0;
    }
    quota_leave(&u);
    _exit(0);
}

/* a:storm(processes, rounds, max, oldest, kills) -> how many streams were opened, how many of them were too many.
 * With kills: processes are killed in the middle and replaced, so often. */
static int l_storm(lua_State *L)
{
    const struct shared_area *a = check_area(L);
    pid_t pids[STORM_PROCESSES] = {0};
    unsigned n = (unsigned)luaL_checkinteger(L, 2), seed = 1;
    lua_Integer kills = luaL_optinteger(L, 6, 0);
    const struct storm_options o = {.oldest = lua_toboolean(L, 5),
                                    .counts = !lua_toboolean(L, 5) && kills == 0,
                                    .max = (uint32_t)luaL_checkinteger(L, 4),
                                    .rounds =
                                        kills ? UINT64_MAX : (uint64_t)luaL_checkinteger(L, 3)};
    luaL_argcheck(L, n <= STORM_PROCESSES, 2, "too many");
    struct storm *storm =
        mmap(NULL, sizeof *storm, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(storm != MAP_FAILED);
    for (unsigned i = 0; i < n; i++) {
        pids[i] = storm_fork();
        if (pids[i] == 0) {
            storm_run(a, storm, &o, i + 1);
        }
    }
    for (lua_Integer i = 0; i < kills; i++) {
        unsigned at = (unsigned)rand_r(&seed) % n, before = storm->opened;
        const struct timespec a_little = {.tv_nsec = (long)rand_r(&seed) % 500000};
        while (storm->opened < before + 5) { /* they live, and none waits for ever */
            (void)nanosleep(&a_little, NULL);
        }
        (void)kill(pids[at], SIGKILL);
        REQUIRE(waitpid(pids[at], NULL, 0) == pids[at]);
        quota_table_process_ended(a->quotas, (int)pids[at]);
        pids[at] = storm_fork();
        if (pids[at] == 0) {
            storm_run(a, storm, &o, at + 1);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        if (kills) {
            (void)kill(pids[i], SIGKILL);
        }
        REQUIRE(waitpid(pids[i], NULL, 0) == pids[i]);
        if (kills) {
            quota_table_process_ended(a->quotas, (int)pids[i]);
        }
    }
    lua_pushinteger(L, storm->opened);
    lua_pushinteger(L, storm->over);
    REQUIRE(munmap(storm, sizeof *storm) == 0);
    return 2;
}

static void rate_storm_run(const struct shared_area *a, struct storm *storm, unsigned times,
                           bool for_ever)
{
    const struct rate_rule rule = {1000000000, 500};
    char key[16] = "shared";
    for (unsigned i = 0; for_ever || i < times; i++) {
        uint64_t wait;
        struct slice k = slice_str(key);
        if (for_ever) { /* keys come and go */
            k = slice_of((const char *)&i, 1 + i % 2);
        }
        storm->opened += rate_take(a->rates, slice_str("r"), k, &rule,
                                   for_ever ? i * UINT64_C(1000000000) : 1, &wait) == RATE_TAKEN;
    }
    _exit(0);
}

/* a:rate_storm(processes, times, kills) -> how often one was taken of a bucket that has 500 */
static int l_rate_storm(lua_State *L)
{
    const struct shared_area *a = check_area(L);
    pid_t pids[STORM_PROCESSES] = {0};
    unsigned n = (unsigned)luaL_checkinteger(L, 2), times = (unsigned)luaL_checkinteger(L, 3);
    lua_Integer kills = luaL_optinteger(L, 4, 0);
    luaL_argcheck(L, n <= STORM_PROCESSES, 2, "too many");
    struct storm *storm =
        mmap(NULL, sizeof *storm, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(storm != MAP_FAILED);
    for (unsigned i = 0; i < n + (unsigned)kills; i++) {
        unsigned at = i % n, before = storm->opened;
        while (i >= n && storm->opened < before + 5) {
            (void)nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        }
        if (i >= n) {
            (void)kill(pids[at], SIGKILL);
            REQUIRE(waitpid(pids[at], NULL, 0) == pids[at]);
        }
        pids[at] = storm_fork();
        if (pids[at] == 0) {
            rate_storm_run(a, storm, times, kills > 0);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        if (kills) {
            (void)kill(pids[i], SIGKILL);
        }
        REQUIRE(waitpid(pids[i], NULL, 0) == pids[i]);
    }
    lua_pushinteger(L, storm->opened);
    REQUIRE(munmap(storm, sizeof *storm) == 0);
    return 1;
}

/* Processor time: of a machine that is shared. */
static double cost_ns(void)
{
    struct timespec t;
    REQUIRE(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* a:cost(times) -> ns of a stream that opens and closes with one key; of a rate */
static int l_cost(lua_State *L)
{
    const struct shared_area *a = check_area(L);
    lua_Integer times = luaL_checkinteger(L, 2);
    const struct quota_want want = {slice_str("user:u-0123456789"), 5, false};
    const struct rate_rule rule = {1, 1000000};
    struct quota_user u;
    struct quota_outcome out;
    struct quota_hold held = {0};
    uint64_t wait;
    double begin;
    REQUIRE(quota_join(&u, a->quotas, 1, 1) == 0);
    begin = cost_ns();
    for (lua_Integer i = 0; i < times; i++) {
        REQUIRE(quota_change(&u, 1, &held, &want, 1, &out) == QUOTA_GRANTED);
        REQUIRE(quota_change(&u, 1, &held, NULL, 0, &out) == QUOTA_GRANTED);
    }
    lua_pushnumber(L, (cost_ns() - begin) / (double)times);
    begin = cost_ns();
    for (lua_Integer i = 0; i < times; i++) {
        REQUIRE(rate_take(a->rates, slice_str("publish"), want.key, &rule, uv_hrtime(), &wait) ==
                RATE_TAKEN);
    }
    lua_pushnumber(L, (cost_ns() - begin) / (double)times);
    quota_leave(&u);
    return 2;
}

int native_open_quota(lua_State *L)
{
    static const luaL_Reg area[] = {{"join", l_join},
                                    {"again", l_again},
                                    {"spoil", l_spoil},
                                    {"process_ended", l_process_ended},
                                    {"figures", l_figures},
                                    {"full", l_full},
                                    {"rate", l_rate},
                                    {"storm", l_storm},
                                    {"rate_storm", l_rate_storm},
                                    {"cost", l_cost},
                                    {"__gc", l_close},
                                    {NULL, NULL}};
    static const luaL_Reg user[] = {{"stream", l_stream},
                                    {"ended", l_ended},
                                    {"leave", l_leave},
                                    {"sweep", l_sweep},
                                    {NULL, NULL}};
    static const luaL_Reg hold[] = {{"change", l_change}, {"keys", l_keys}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"area", l_area}, {NULL, NULL}};
    native_class(L, area_type, area);
    native_class(L, user_type, user);
    native_class(L, hold_type, hold);
    luaL_newlib(L, functions);
    return 1;
}
