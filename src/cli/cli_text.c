#include "cli/cli_text.h"

#include <ctype.h>

void cli_put(FILE *out, struct slice text)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char ch = (unsigned char)text.p[i];
        unsigned char next = i + 1 < text.n ? (unsigned char)text.p[i + 1] : 0;
        bool c1 = ch == 0xc2 && next >= 0x80 && next < 0xa0; /* two bytes of UTF-8 */
        bool control = c1 || (iscntrl(ch) && ch != '\t');
        (void)fputc(control ? '?' : ch, out);
        i += c1;
    }
}

const char *cli_text_of(const json_t *o, const char *name)
{
    const char *text = json_string_value(json_object_get(o, name));
    return text ? text : "";
}

long long cli_count_of(const json_t *o, const char *name)
{
    return (long long)json_integer_value(json_object_get(o, name));
}

const char *cli_plural(long long n)
{
    return n == 1 ? "" : "s";
}
