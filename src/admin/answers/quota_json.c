#include "admin/answers/quota_json.h"

#include "admin/answers/admin_json.h"

enum { SHOWN = 10 }; /* keys that are used up */

static json_t *full_json(const struct shared_area *area, size_t *total)
{
    struct quota_full full[SHOWN];
    size_t n = quota_table_full(area->quotas, full, SHOWN, total);
    json_t *list = json_array();
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        const struct quota_full *f = &full[i];
        bad |= json_array_append_new(
            list, json_pack("{s:o, s:I, s:I, s:I}", "key",
                            admin_json_text(slice_of(f->key, f->key_bytes)), "streams",
                            (json_int_t)f->streams, "max", (json_int_t)f->max, "denied",
                            (json_int_t)f->denied));
    }
    if (bad) {
        json_decref(list);
        return NULL;
    }
    return list;
}

json_t *quota_json(const struct shared_area *area)
{
    struct quota_figures f;
    size_t total;
    quota_table_figures(area->quotas, &f);
    json_t *full = full_json(area, &total);
    return json_pack("{s:I, s:I, s:I, s:I, s:o}", "streams", (json_int_t)f.places, "keys",
                     (json_int_t)f.keys, "most", (json_int_t)f.capacity, "full_keys",
                     (json_int_t)total, "full", full);
}

json_t *rates_json(const struct shared_area *area)
{
    uint32_t keys, most;
    rate_table_figures(area->rates, &keys, &most);
    return json_pack("{s:I, s:I}", "keys", (json_int_t)keys, "most", (json_int_t)most);
}
