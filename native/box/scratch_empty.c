/* Removing all that a sandbox left in its /tmp, when nothing runs in it any more.
 *
 * It goes down into one folder at a time and up again by "..", so that neither the depth of a tree nor its width costs
 * descriptors or stack; and nothing is renamed, so that it works in an encrypted folder whose key is gone. Nothing is
 * followed: what is not a folder is unlinked, whatever it is. */
#include "internal.h"
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* Remove what can be removed of a folder. Returns 1 with *inner open where it met a folder that is not empty, 0 once a
 * whole pass found nothing. */
static int empty_one(int folder, int *inner)
{
    int found, status = 0;
    /* Its own descriptor: closedir closes it. */
    int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = again < 0 ? NULL : fdopendir(again);

    if (list == NULL) {
        box_close_ptr(&again);
        return -1;
    }
    do {
        struct dirent *entry;

        found = 0;
        rewinddir(list);
        while (status == 0 && (entry = readdir(list)) != NULL) {
            const char *name = entry->d_name;
            if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                continue;
            found = 1;
            if (unlinkat(folder, name, 0) == 0 || (errno == EISDIR && unlinkat(folder, name, AT_REMOVEDIR) == 0))
                continue;
            if (errno != ENOTEMPTY) {
                status = -1;
            } else {
                *inner = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                status = *inner < 0 ? -1 : 1;
            }
        }
    } while (status == 0 && found);
    closedir(list);
    return status;
}

int box_folder_empty(int folder)
{
    cleanup_close int here = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unsigned long depth = 0;

    if (here < 0)
        return -1;
    for (;;) {
        int next = -1;
        int status = empty_one(here, &next);
        if (status < 0 || (status == 0 && depth == 0))
            return status;
        if (status == 0)
            next = openat(here, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (next < 0)
            return -1;
        depth += status == 1 ? 1 : -1ul;
        close(here);
        here = next;
    }
}
