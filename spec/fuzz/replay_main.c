/* Runs a fuzz target over stored inputs, without libFuzzer: fuzz_NAME FILE_OR_FOLDER ... */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long count;

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 1;
    }
    enum { MOST = 1 << 20 };
    uint8_t *data = malloc(MOST);
    size_t n = data ? fread(data, 1, MOST, f) : 0;
    fclose(f);
    /* an exact copy, so that the sanitizer sees a read past the end */
    uint8_t *exact = malloc(n ? n : 1);
    if (!data || !exact) {
        free(data);
        free(exact);
        return 1;
    }
    memcpy(exact, data, n);
    free(data);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    count++;
    return 0;
}

static int run_path(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        perror(path);
        return 1;
    }
    if (!S_ISDIR(st.st_mode)) {
        return run_file(path);
    }
    DIR *d = opendir(path);
    if (!d) {
        perror(path);
        return 1;
    }
    int rc = 0;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        char file[4096];
        if (e->d_name[0] != '.') {
            snprintf(file, sizeof file, "%s/%s", path, e->d_name);
            rc |= run_file(file);
        }
    }
    closedir(d);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = 0;
    for (int i = 1; i < argc; i++) {
        rc |= run_path(argv[i]);
    }
    printf("%lu inputs\n", count);
    return rc || count == 0;
}
