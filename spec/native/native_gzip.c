/* audience/gzip.h as the broker uses it, and what zlib makes of the result. */
#include "audience/gzip.h"
#include "base/alloc.h"
#include "native.h"

#include <stdlib.h>

enum { PIECES = 16 };

/* ---------------------------------------------------------------- audience */

/* A pool, one encoder, and the batch at hand. */
struct gzip_audience {
    struct audience_metrics metrics;
    struct gzip_pool *pool;
    struct gzip_encoder *encoder;
    struct gzip_batch batch;
    uv_buf_t bufs[PIECES];
    struct stream_bytes plain;
    char *copy;
};

static struct gzip_audience *audience_at(lua_State *L, int i)
{
    return luaL_checkudata(L, i, "gzip_audience");
}

/* audience([bytes of encoders]) */
static int l_audience(lua_State *L)
{
    size_t most = (size_t)luaL_optinteger(L, 1, 1 << 20);
    struct gzip_audience *a = lua_newuserdatauv(L, sizeof *a, 0);
    *a = (struct gzip_audience){.copy = NULL};
    luaL_setmetatable(L, "gzip_audience");
    a->pool = gzip_pool_new(most, &a->metrics);
    a->encoder = gzip_encoder_new(a->pool);
    return 1;
}

static int audience_gc(lua_State *L)
{
    struct gzip_audience *a = audience_at(L, 1);
    gzip_batch_clear(&a->batch);
    gzip_encoder_free(a->encoder);
    gzip_pool_free(a->pool);
    free(a->copy);
    a->encoder = NULL;
    a->pool = NULL;
    a->copy = NULL;
    return 0;
}

/* a:batch(bytes, pieces): what the next a:send() are of */
static int audience_batch(lua_State *L)
{
    struct gzip_audience *a = audience_at(L, 1);
    size_t n;
    const char *p = luaL_checklstring(L, 2, &n);
    unsigned pieces = (unsigned)luaL_optinteger(L, 3, 1);
    luaL_argcheck(L, pieces >= 1 && pieces <= PIECES && n >= pieces, 3, "out of range");
    gzip_batch_clear(&a->batch);
    free(a->copy);
    a->copy = xmalloc(n);
    memcpy(a->copy, p, n);
    for (unsigned i = 0; i < pieces; i++) {
        size_t from = n * i / pieces;
        a->bufs[i] = uv_buf_init(a->copy + from, (unsigned)(n * (i + 1) / pieces - from));
    }
    a->plain = (struct stream_bytes){.bufs = a->bufs, .count = pieces, .total = n};
    return 0;
}

static int push_frame(lua_State *L, struct frame *f)
{
    uv_buf_t buf;
    if (!f) {
        return luaL_error(L, "no memory");
    }
    struct stream_bytes bytes = gzip_frame_bytes(f, &buf);
    lua_pushlstring(L, buf.base, buf.len);
    lua_pushlstring(L, buf.base - bytes.chunk_head, bytes.chunk_head + buf.len + 2);
    return 2;
}

static struct gzip_body *body_at(lua_State *L, int i)
{
    return luaL_checkudata(L, i, "gzip_body");
}

/* a:send(body, "live" | "behind" | "stored", now_ms) -> bytes, the same as a chunk */
static int audience_send(lua_State *L)
{
    static const char *const uses[] = {"live", "behind", "stored", NULL};
    struct gzip_audience *a = audience_at(L, 1);
    int use = luaL_checkoption(L, 3, NULL, uses);
    return push_frame(L, gzip_batch_for(a->pool, &a->batch, a->encoder, body_at(L, 2), &a->plain,
                                        (enum gzip_use)use, (uint64_t)luaL_checkinteger(L, 4)));
}

static int audience_leave(lua_State *L)
{
    gzip_body_leave(body_at(L, 2), audience_at(L, 1)->encoder);
    return 0;
}

static int audience_turn(lua_State *L)
{
    gzip_pool_turn(audience_at(L, 1)->pool);
    return 0;
}

/* -> epochs, encoders, plain bytes, compressed bytes */
static int audience_counts(lua_State *L)
{
    const struct audience_metrics *m = &audience_at(L, 1)->metrics;
    lua_pushinteger(L, (lua_Integer)m->gzip_epochs);
    lua_pushinteger(L, (lua_Integer)m->gzip_encoders);
    lua_pushinteger(L, (lua_Integer)m->gzip_plain);
    lua_pushinteger(L, (lua_Integer)m->gzip_sent);
    return 4;
}

/* ---------------------------------------------------------------- body */

static int l_body(lua_State *L)
{
    struct gzip_body *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct gzip_body){0};
    luaL_setmetatable(L, "gzip_body");
    return 1;
}

/* body:stored(bytes, begins, ends) -> bytes, the same as a chunk */
static int body_stored(lua_State *L)
{
    size_t n;
    const char *p = luaL_checklstring(L, 2, &n);
    struct frame *f = gzip_body_stored(body_at(L, 1), slice_of(n ? p : NULL, n),
                                       lua_toboolean(L, 3), lua_toboolean(L, 4));
    int results = push_frame(L, f);
    frame_unref(f);
    return results;
}

/* ---------------------------------------------------------------- reading */

struct gzip_reader {
    z_stream z;
    bool over;
};

static int l_reader(lua_State *L)
{
    struct gzip_reader *r = lua_newuserdatauv(L, sizeof *r, 0);
    *r = (struct gzip_reader){.over = false};
    if (inflateInit2(&r->z, 15 + 16) != Z_OK) {
        return luaL_error(L, "no memory");
    }
    luaL_setmetatable(L, "gzip_reader");
    return 1;
}

static struct gzip_reader *reader_at(lua_State *L)
{
    return luaL_checkudata(L, 1, "gzip_reader");
}

static int reader_gc(lua_State *L)
{
    (void)inflateEnd(&reader_at(L)->z);
    return 0;
}

/* r:feed(bytes) -> plain bytes, whether the member has ended; an error where zlib finds one, and where
 * something follows the member */
static int reader_feed(lua_State *L)
{
    struct gzip_reader *r = reader_at(L);
    size_t n;
    luaL_Buffer out;
    const char *p = luaL_checklstring(L, 2, &n);
    luaL_argcheck(L, !r->over || n == 0, 2, "bytes behind the end of the gzip member");
    luaL_buffinit(L, &out);
    r->z.next_in = (Bytef *)(uintptr_t)p;
    r->z.avail_in = (uInt)n;
    int rc = Z_OK;
    while (rc == Z_OK && !r->over) {
        r->z.next_out = (Bytef *)luaL_prepbuffer(&out);
        r->z.avail_out = LUAL_BUFFERSIZE;
        rc = inflate(&r->z, Z_SYNC_FLUSH);
        luaL_addsize(&out, LUAL_BUFFERSIZE - r->z.avail_out);
        r->over = rc == Z_STREAM_END;
    }
    luaL_pushresult(&out);
    if (rc != Z_STREAM_END && rc != Z_BUF_ERROR && rc != Z_OK) {
        return luaL_error(L, "zlib: %s", r->z.msg ? r->z.msg : "failed");
    }
    if (r->over && r->z.avail_in) {
        return luaL_error(L, "bytes behind the end of the gzip member");
    }
    lua_pushboolean(L, r->over);
    return 2;
}

int native_open_gzip(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"audience", l_audience}, {"body", l_body}, {"reader", l_reader}, {NULL, NULL}};
    static const luaL_Reg audience[] = {{"batch", audience_batch},
                                        {"send", audience_send},
                                        {"leave", audience_leave},
                                        {"turn", audience_turn},
                                        {"counts", audience_counts},
                                        {"__gc", audience_gc},
                                        {NULL, NULL}};
    static const luaL_Reg body[] = {{"stored", body_stored}, {NULL, NULL}};
    static const luaL_Reg reader[] = {{"feed", reader_feed}, {"__gc", reader_gc}, {NULL, NULL}};
    native_class(L, "gzip_audience", audience);
    native_class(L, "gzip_body", body);
    native_class(L, "gzip_reader", reader);
    luaL_newlib(L, functions);
    return 1;
}
