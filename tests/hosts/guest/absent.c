/* Makes files look absent to one program, so that a kernel's older releases can be tried on a newer one: preloaded,
 * with the names in CLEAVE_TEST_ABSENT, such as "memory.peak:cgroup.kill". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static int is_absent(const char *path)
{
    const char *names = getenv("CLEAVE_TEST_ABSENT"), *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    size_t length = strlen(name);

    for (const char *at = names; at != NULL && *at != '\0'; at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL)
        if (strncmp(at, name, length) == 0 && strchr(":", at[length]) != NULL) /* "" ends every string */
            return 1;
    return 0;
}

#define FORWARD(symbol)                                                                                                \
    int symbol(const char *path, int flags, ...)                                                                       \
    {                                                                                                                  \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        int mode = va_arg(rest, int);                                                                                  \
        va_end(rest);                                                                                                  \
        if (is_absent(path)) {                                                                                         \
            errno = ENOENT;                                                                                            \
            return -1;                                                                                                 \
        }                                                                                                              \
        int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #symbol);              \
        return real(path, flags, mode);                                                                                \
    }

FORWARD(open)
FORWARD(open64)
FORWARD(__open_2)
FORWARD(__open64_2)
