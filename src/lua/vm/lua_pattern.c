#include "lua/vm/lua_pattern.h"

#include "lua/vm/lua_vm.h"

#include <ctype.h>
#include <lauxlib.h>
#include <string.h>

enum {
    DEPTH_MAX = 200,   /* of repetitions and captures that wait for what follows them; as Lua's */
    POLL_STEPS = 4096, /* between two looks at the watchdog */
    SHOWN_BYTES = 60   /* of the pattern in an error */
};

/* One element of a pattern that matches single bytes. */
struct item {
    const char *begin, *end; /* in the pattern: "a", ".", "%a", "[...]" */
    const char *next;        /* behind its suffix */
    char suffix;             /* '*', '+', '-', '?', or 0 */
};

void lua_pattern_init(struct lua_pattern *m, lua_State *L, struct slice text, struct slice pattern)
{
    m->L = L;
    m->text = text;
    m->pattern = pattern;
    m->steps_left = LUA_PATTERN_STEPS + LUA_PATTERN_STEPS_EACH_BYTE * (uint64_t)text.n;
    m->depth = 0;
    m->level = 0;
}

static const char *text_end(const struct lua_pattern *m)
{
    return m->text.p + m->text.n;
}

static const char *pattern_end(const struct lua_pattern *m)
{
    return m->pattern.p + m->pattern.n;
}

static void used_up(const struct lua_pattern *m)
{
    char shown[SHOWN_BYTES + 4];
    size_t n = m->pattern.n < SHOWN_BYTES ? m->pattern.n : SHOWN_BYTES;
    memcpy(shown, m->pattern.p, n);
    memcpy(shown + n, m->pattern.n > n ? "..." : "", m->pattern.n > n ? 4 : 1);
    luaL_error(m->L, "pattern '%s' takes too many steps on a text of %I bytes: it backtracks",
               shown, (LUAI_UACINT)m->text.n);
}

void lua_pattern_spend(struct lua_pattern *m, size_t steps)
{
    if (m->steps_left <= steps) {
        used_up(m);
    }
    uint64_t before = m->steps_left / POLL_STEPS;
    m->steps_left -= steps;
    if (m->steps_left / POLL_STEPS != before) {
        lua_vm_poll(m->L);
    }
}

/* ---- single bytes */

static bool in_class(unsigned char c, unsigned char letter)
{
    bool in;
    switch (tolower(letter)) {
    case 'a':
        in = isalpha(c);
        break;
    case 'c':
        in = iscntrl(c);
        break;
    case 'd':
        in = isdigit(c);
        break;
    case 'g':
        in = isgraph(c);
        break;
    case 'l':
        in = islower(c);
        break;
    case 'p':
        in = ispunct(c);
        break;
    case 's':
        in = isspace(c);
        break;
    case 'u':
        in = isupper(c);
        break;
    case 'w':
        in = isalnum(c);
        break;
    case 'x':
        in = isxdigit(c);
        break;
    case 'z': /* not in the manual any more, but still in Lua */
        in = c == 0;
        break;
    default:
        return letter == c; /* an escaped byte stands for itself */
    }
    return isupper(letter) ? !in : in;
}

/* `begin` is behind "[", `end` at "]". */
static bool in_set(unsigned char c, const char *begin, const char *end)
{
    bool negated = begin < end && *begin == '^';
    const char *p = begin + negated;
    while (p < end) {
        bool in;
        if (*p == '%') { /* never the last: see set_end() */
            in = in_class(c, (unsigned char)p[1]);
            p += 2;
        } else if (p + 2 < end && p[1] == '-') {
            in = (unsigned char)p[0] <= c && c <= (unsigned char)p[2];
            p += 3;
        } else {
            in = (unsigned char)*p == c;
            p++;
        }
        if (in) {
            return !negated;
        }
    }
    return negated;
}

/* The "]" that ends the set whose "[" is at `p`: not one that comes first, nor an escaped one. */
static const char *set_end(struct lua_pattern *m, const char *p)
{
    const char *end = pattern_end(m);
    p++;
    if (p < end && *p == '^') {
        p++;
    }
    for (bool first = true; first || p >= end || *p != ']'; first = false) {
        if (p >= end) {
            luaL_error(m->L, "malformed pattern (missing ']')");
        }
        p += *p == '%' && p + 1 < end ? 2 : 1;
    }
    return p;
}

static struct item item_at(struct lua_pattern *m, const char *p)
{
    struct item it = {.begin = p, .end = p + 1};
    if (*p == '[') {
        it.end = set_end(m, p) + 1;
        lua_pattern_spend(m, (size_t)(it.end - p) / 8);
    } else if (*p == '%') {
        if (p + 1 == pattern_end(m)) {
            luaL_error(m->L, "malformed pattern (ends with '%%')");
        }
        it.end = p + 2;
    }
    it.next = it.end;
    if (it.end < pattern_end(m) && memchr("*+-?", *it.end, 4)) {
        it.suffix = *it.end;
        it.next++;
    }
    return it;
}

static bool item_matches(struct lua_pattern *m, const struct item *it, const char *s)
{
    size_t cost = 1 + (size_t)(it->end - it->begin) / 8;
    lua_pattern_spend(m, cost);
    if (s >= text_end(m)) {
        return false;
    }
    unsigned char c = (unsigned char)*s;
    switch (*it->begin) {
    case '.':
        return true;
    case '%':
        return in_class(c, (unsigned char)it->begin[1]);
    case '[':
        return in_set(c, it->begin + 1, it->end - 1);
    default:
        return (unsigned char)*it->begin == c;
    }
}

/* ---- the rest of a pattern */

static const char *match(struct lua_pattern *m, const char *s, const char *p);

/* Longest first. `s` is behind the first `least` of them. */
static const char *repeat_greedy(struct lua_pattern *m, const struct item *it, const char *s)
{
    const char *last = s;
    while (item_matches(m, it, last)) {
        last++;
    }
    for (; last >= s; last--) {
        const char *end = match(m, last, it->next);
        if (end) {
            return end;
        }
    }
    return NULL;
}

/* Shortest first. */
static const char *repeat_lazy(struct lua_pattern *m, const struct item *it, const char *s)
{
    for (;; s++) {
        const char *end = match(m, s, it->next);
        if (end) {
            return end;
        }
        if (!item_matches(m, it, s)) {
            return NULL;
        }
    }
}

static const char *open_capture(struct lua_pattern *m, const char *s, const char *p, ptrdiff_t kind)
{
    if (m->level == LUA_PATTERN_CAPTURES_MAX) {
        luaL_error(m->L, "too many captures");
    }
    m->captures[m->level++] = (struct lua_capture){s, kind};
    const char *end = match(m, s, p);
    if (!end) {
        m->level--;
    }
    return end;
}

static const char *close_capture(struct lua_pattern *m, const char *s, const char *p)
{
    int i = m->level - 1;
    while (i >= 0 && m->captures[i].length != LUA_CAPTURE_OPEN) {
        i--;
    }
    if (i < 0) {
        luaL_error(m->L, "invalid pattern capture");
    }
    m->captures[i].length = s - m->captures[i].start;
    const char *end = match(m, s, p);
    if (!end) {
        m->captures[i].length = LUA_CAPTURE_OPEN;
    }
    return end;
}

/* "%bxy", with `p` at x */
static const char *balanced(struct lua_pattern *m, const char *s, const char *p)
{
    size_t depth = 1;
    if (pattern_end(m) - p < 2) {
        luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
    }
    if (s >= text_end(m) || *s != p[0]) {
        return NULL;
    }
    for (s++; s < text_end(m); s++) {
        lua_pattern_spend(m, 1);
        if (*s == p[1]) {
            if (--depth == 0) {
                return s + 1;
            }
        } else if (*s == p[0]) {
            depth++;
        }
    }
    return NULL;
}

/* "%f[set]", with `p` behind the f: does a run of bytes in the set begin here? Text ends count as
 * '\0'. */
static bool at_frontier(struct lua_pattern *m, const char *s, const char *p, const char **next)
{
    if (p >= pattern_end(m) || *p != '[') {
        luaL_error(m->L, "missing '[' after '%%f' in pattern");
    }
    const char *end = set_end(m, p);
    lua_pattern_spend(m, (size_t)(end - p) / 4);
    unsigned char before = s > m->text.p ? (unsigned char)s[-1] : 0;
    unsigned char here = s < text_end(m) ? (unsigned char)*s : 0;
    *next = end + 1;
    return !in_set(before, p + 1, end) && in_set(here, p + 1, end);
}

/* "%1": the same bytes again */
static const char *repeated(struct lua_pattern *m, const char *s, char digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->level || m->captures[i].length == LUA_CAPTURE_OPEN) {
        luaL_error(m->L, "invalid capture index %%%d", i + 1);
    }
    ptrdiff_t n = m->captures[i].length;
    if (n < 0 || text_end(m) - s < n) {
        return NULL;
    }
    lua_pattern_spend(m, (size_t)n / 8);
    return memcmp(m->captures[i].start, s, (size_t)n) == 0 ? s + n : NULL;
}

/* An element that is neither a capture nor the end: where the text goes on, or NULL. *p moves
 * behind the element; *done: the answer is that of the whole rest. */
static const char *match_item(struct lua_pattern *m, const char *s, const char **p, bool *done)
{
    struct item it = item_at(m, *p);
    bool here = item_matches(m, &it, s);
    *p = it.next;
    if (!here) {
        return it.suffix && it.suffix != '+' ? s : NULL;
    }
    if (it.suffix == 0) {
        return s + 1;
    }
    if (it.suffix == '?') {
        const char *end = match(m, s + 1, it.next);
        *done = end != NULL;
        return end ? end : s;
    }
    *done = true;
    return it.suffix == '-' ? repeat_lazy(m, &it, s)
                            : repeat_greedy(m, &it, it.suffix == '+' ? s + 1 : s);
}

static const char *match_escape(struct lua_pattern *m, const char *s, const char **p, bool *done)
{
    const char *at = *p;
    char kind = at + 1 < pattern_end(m) ? at[1] : '\0';
    if (kind == 'b') {
        s = balanced(m, s, at + 2);
        *p = at + 4;
    } else if (kind == 'f') {
        s = at_frontier(m, s, at + 2, p) ? s : NULL;
    } else if (kind >= '0' && kind <= '9') {
        s = repeated(m, s, kind);
        *p = at + 2;
    } else {
        s = match_item(m, s, p, done);
    }
    return s;
}

static const char *match_here(struct lua_pattern *m, const char *s, const char *p)
{
    const char *end = pattern_end(m);
    bool done = false;
    while (s && p < end && !done) {
        lua_pattern_spend(m, 1);
        switch (*p) {
        case '(':
            return p + 1 < end && p[1] == ')' ? open_capture(m, s, p + 2, LUA_CAPTURE_POSITION)
                                              : open_capture(m, s, p + 1, LUA_CAPTURE_OPEN);
        case ')':
            return close_capture(m, s, p + 1);
        case '%':
            s = match_escape(m, s, &p, &done);
            break;
        case '$':
            if (p + 1 == end) {
                return s == text_end(m) ? s : NULL;
            }
            s = match_item(m, s, &p, &done);
            break;
        default:
            s = match_item(m, s, &p, &done);
            break;
        }
    }
    return s;
}

static const char *match(struct lua_pattern *m, const char *s, const char *p)
{
    if (m->depth == DEPTH_MAX) {
        luaL_error(m->L, "pattern too complex");
    }
    m->depth++;
    const char *end = match_here(m, s, p);
    m->depth--;
    return end;
}

const char *lua_pattern_at(struct lua_pattern *m, const char *at)
{
    m->depth = 0;
    m->level = 0;
    return match(m, at, m->pattern.p);
}

/* ---- captures */

void lua_pattern_push(struct lua_pattern *m, int i, const char *from, const char *to)
{
    if (i >= m->level) {
        if (i != 0) {
            luaL_error(m->L, "invalid capture index %%%d", i + 1);
        }
        lua_pushlstring(m->L, from, (size_t)(to - from));
        return;
    }
    const struct lua_capture *c = &m->captures[i];
    if (c->length == LUA_CAPTURE_OPEN) {
        luaL_error(m->L, "unfinished capture");
    }
    if (c->length == LUA_CAPTURE_POSITION) {
        lua_pushinteger(m->L, c->start - m->text.p + 1);
    } else {
        lua_pushlstring(m->L, c->start, (size_t)c->length);
    }
}

int lua_pattern_push_all(struct lua_pattern *m, const char *from, const char *to, bool whole)
{
    int n = m->level == 0 && whole ? 1 : m->level;
    luaL_checkstack(m->L, n, "too many captures");
    for (int i = 0; i < n; i++) {
        lua_pattern_push(m, i, from, to);
    }
    return n;
}
