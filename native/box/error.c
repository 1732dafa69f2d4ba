/* One error contract: the step, the kernel's answer, a sentence. */
#include "internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int box_fail(struct box_error *err, const char *stage, const char *format, ...)
{
    int errnum = errno;
    va_list args;

    err->errnum = errnum;
    snprintf(err->stage, sizeof err->stage, "%s", stage);
    va_start(args, format);
    int used = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (errnum != 0 && used >= 0 && (size_t)used < sizeof err->text)
        snprintf(err->text + used, sizeof err->text - (size_t)used, ": %s", strerror(errnum));
    return -1;
}
