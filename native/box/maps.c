/* The calling process's own mappings, as the kernel lists them: proc_pid_maps(5). */
#include "internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

FILE *box_maps_open(int proc, struct box_error *err)
{
    int fd = openat(proc, "self/maps", O_RDONLY | O_CLOEXEC);
    FILE *maps = fd < 0 ? NULL : fdopen(fd, "re");

    if (maps == NULL) {
        box_fail(err, "maps", "cannot read them");
        if (fd >= 0)
            close(fd);
    }
    return maps;
}

int box_maps_next(FILE *maps, struct box_mapping *found)
{
    char line[512], device[16];
    uint64_t inode;

    while (fgets(line, sizeof line, maps) != NULL)
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*s %15s %" SCNu64, &found->start, &found->end, found->mode,
                   device, &inode) == 5) {
            snprintf(found->file, sizeof found->file, inode ? "%s %" PRIu64 : "", device, inode);
            found->is_stack = strstr(line, "[stack") != NULL;
            return 1;
        }
    return 0;
}
