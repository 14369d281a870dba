# Writes OUT: a C file holding FILES (paths below ROOT) as byte arrays, looked up by path.
#   cmake -DROOT=dir "-DFILES=a;b" -DOUT=embedded.c -P embed.cmake
set(body "")
set(table "")
set(i 0)
foreach(file IN LISTS FILES)
  file(READ "${ROOT}/${file}" hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND body "static const unsigned char file_${i}[] = {${bytes}0x00};\n")
  string(APPEND table "    {\"${file}\", (const char *)file_${i}, sizeof file_${i} - 1},\n")
  math(EXPR i "${i} + 1")
endforeach()
file(WRITE "${OUT}" "/* generated from the tree by src/base/program/embed.cmake */
#include \"base/program/embedded.h\"

${body}
static const struct embedded files[] = {
${table}    {NULL, NULL, 0}};

const struct embedded *embedded_find(const char *path)
{
    for (const struct embedded *f = files; f->path; f++) {
        if (strcmp(f->path, path) == 0) {
            return f;
        }
    }
    return NULL;
}
")
