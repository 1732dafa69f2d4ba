/* Which pages of memory a fork makes its own, and having them made so ahead of need.
 *
 * A page that a fork is the first to write is copied then, at 2 µs. What one fork does the next does too: so a trial
 * tells which pages those are, and a sandbox that waits for its function has them copied, these and no others. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

static const char STAGE[] = "pages";

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

/* Of an entry of pagemap: Documentation/admin-guide/mm/pagemap.rst of the kernel. */
static const uint64_t PRESENT = 1ULL << 63, OF_A_FILE = 1ULL << 61, NOBODY_ELSES = 1ULL << 56;

enum { ENTRIES_AT_ONCE = 512, RUNS_AT_ONCE = 64, MOST_MAPPINGS = 512 };
static const uintptr_t LARGEST = 1 << 30; /* what is larger was reserved, and nobody looks through all of it */

/* What a fork may write, and what of files it may read, noted before it is made: to find it out it would write itself.
 */
static struct {
    struct {
        uintptr_t start, end;
        int read_only;
    } mappings[MOST_MAPPINGS];
    size_t count;
} noted;

int box_pages_note(int proc, struct box_error *err)
{
    struct box_mapping mapping;
    FILE *maps = box_maps_open(proc, err);

    if (maps == NULL)
        return -1;
    for (noted.count = 0; box_maps_next(maps, &mapping) && noted.count < MOST_MAPPINGS;) {
        int read_only = mapping.file[0] != '\0' && mapping.mode[1] == '-' && mapping.mode[3] == 'p';
        if ((!read_only && strcmp(mapping.mode, "rw-p") != 0) || mapping.end - mapping.start > LARGEST)
            continue;
        noted.mappings[noted.count].start = mapping.start;
        noted.mappings[noted.count].end = mapping.end;
        noted.mappings[noted.count++].read_only = read_only;
    }
    fclose(maps);
    return 0;
}

/* Tells runs, some at a time. */
struct teller {
    struct box_pages runs[RUNS_AT_ONCE];
    size_t count;
    int fd, failed;
};

static void tell(struct teller *teller)
{
    ssize_t size = (ssize_t)(teller->count * sizeof *teller->runs);

    teller->failed |= write(teller->fd, teller->runs, (size_t)size) != size;
    teller->count = 0;
}

static void add_page(struct teller *teller, uintptr_t page, size_t size)
{
    struct box_pages *last = teller->count > 0 ? &teller->runs[teller->count - 1] : NULL;

    if (last != NULL && last->start + last->length == page) {
        last->length += size;
        return;
    }
    if (teller->count == RUNS_AT_ONCE)
        tell(teller);
    teller->runs[teller->count++] = (struct box_pages){page, size};
}

int box_pages_tell(int proc, int fd, struct box_error *err)
{
    const uintptr_t size = (uintptr_t)sysconf(_SC_PAGESIZE);
    struct teller teller = {.fd = fd};
    uint64_t entries[ENTRIES_AT_ONCE];

    cleanup_close int pagemap = openat(proc, "self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return box_fail(err, STAGE, "cannot read the page map");
    for (size_t which = 0; which < noted.count; which++)
        for (uintptr_t at = noted.mappings[which].start, end = noted.mappings[which].end; at < end;) {
            const uint64_t of_interest = noted.mappings[which].read_only ? PRESENT : PRESENT | OF_A_FILE | NOBODY_ELSES;
            const uint64_t wanted_bits = of_interest & ~OF_A_FILE;
            size_t wanted = (end - at) / size < ENTRIES_AT_ONCE ? (end - at) / size : ENTRIES_AT_ONCE;
            ssize_t got = pread(pagemap, entries, wanted * sizeof *entries, (off_t)(at / size * sizeof *entries));
            if (got < (ssize_t)sizeof *entries)
                return box_fail(err, STAGE, "cannot read the page map");
            for (size_t entry = 0; entry < (size_t)got / sizeof *entries; entry++, at += size)
                if ((entries[entry] & of_interest) == wanted_bits)
                    add_page(&teller, at | (noted.mappings[which].read_only ? BOX_PAGES_READ : 0), size);
        }
    tell(&teller);
    return teller.failed ? box_fail(err, STAGE, "cannot tell of them") : 0;
}

/* The rest is done without a write to memory that the fork has too: what is written on one side is the other's alone
 * from then on, and would pass for what that has written. */
ssize_t box_pages_trial(int told, int tell, const struct box_fork_hooks *hooks, struct box_pages *runs, size_t room,
                        struct box_error *err)
{
    int status = 0;

    hooks->before();
    pid_t pid = fork();
    if (pid == 0) {
        hooks->child();
        return 0;
    }
    close(tell);
    size_t size = 0;
    for (ssize_t got = 1; pid > 0 && got > 0; size += got > 0 ? (size_t)got : 0)
        got = read(told, (char *)runs + size, room * sizeof *runs - size);
    pid_t ended = pid < 0 ? -1 : waitpid(pid, &status, 0);
    hooks->parent();
    if (pid < 0 || ended != pid)
        return box_fail(err, STAGE, "cannot fork a trial");
    if (status != 0 || size == 0 || size == room * sizeof *runs || size % sizeof *runs != 0) {
        errno = 0;
        return box_fail(err, STAGE, "the trial of a start told %zu bytes and ended with status %d", size, status);
    }
    return (ssize_t)(size / sizeof *runs);
}

int box_pages_touch(const struct box_pages *runs, size_t count, struct box_error *err)
{
    for (size_t which = 0; which < count; which++) {
        int read_only = (runs[which].start & BOX_PAGES_READ) != 0;
        /* NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel says it as a number */
        void *start = (void *)(runs[which].start & ~(uint64_t)BOX_PAGES_READ);
        if (madvise(start, runs[which].length, read_only ? MADV_POPULATE_READ : MADV_POPULATE_WRITE) < 0)
            return box_fail(err, STAGE, "cannot have a page of memory");
    }
    return 0;
}
