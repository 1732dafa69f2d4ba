/* Removing all that a sandbox left in its /tmp, when nothing runs in it any more.
 *
 * A folder in a folder is moved to the top and emptied there, so that neither the depth of a tree nor its width costs
 * descriptors or stack. Nothing is followed: what is not a folder is unlinked, whatever it is. */
#include "internal.h"
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* Move `name` out of `folder` into `top`, under a name that is free there. */
static int move_up(int folder, const char *name, int top, unsigned *serial)
{
    char free_name[24];

    for (;;) {
        snprintf(free_name, sizeof free_name, "%u", (*serial)++);
        if (renameat2(folder, name, top, free_name, RENAME_NOREPLACE) == 0)
            return 0;
        if (errno != EEXIST)
            return -1;
    }
}

static int empty_one(int top, int folder, unsigned *serial);

static int remove_one(int top, int folder, const char *name, unsigned *serial)
{
    if (unlinkat(folder, name, 0) == 0)
        return 0;
    if (errno != EISDIR)
        return -1;
    if (unlinkat(folder, name, AT_REMOVEDIR) == 0)
        return 0;
    if (errno != ENOTEMPTY)
        return -1;
    if (folder != top)
        return move_up(folder, name, top, serial);
    cleanup_close int inner = openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (inner < 0 || empty_one(top, inner, serial) < 0)
        return -1;
    return unlinkat(top, name, AT_REMOVEDIR);
}

/* Take everything out of `folder`, which is `top` or right in it. What came into `top` meanwhile is found by another
 * pass, until one finds nothing. */
static int empty_one(int top, int folder, unsigned *serial)
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
        while (status == 0 && (entry = readdir(list)) != NULL)
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
                found = 1;
                status = remove_one(top, folder, entry->d_name, serial);
            }
    } while (status == 0 && found);
    closedir(list);
    return status;
}

int box_folder_empty(int folder)
{
    unsigned serial = 0;

    return empty_one(folder, folder, &serial);
}
