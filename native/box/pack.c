/* Puts the memory of a zygote into large pages, each of which its forks map in pieces of the ordinary size.
 *
 * A fork copies an entry for each page that its zygote has, counts a user of the page, and counts it off when it ends.
 * The pages of a large one are counted together. What a fork writes is copied as ever, page by page. */
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

static const char STAGE[] = "pack";

enum { LARGE = 2 << 20, FEWEST_PAGES = 64, MOST_MAPPINGS = 32 };
static const uintptr_t LARGEST = 64 << 20;

/* Let go again of what was not there before. */
static void forget_absent(char *start, const unsigned char *there, size_t pages, size_t size)
{
    for (size_t page = 0; page < pages; page++)
        if (!(there[page] & 1))
            madvise(start + page * size, size, MADV_DONTNEED);
}

#ifdef __SANITIZE_ADDRESS__
/* Whole pages of a heap have what lies between its blocks, which AddressSanitizer lets nobody read. */
__attribute__((no_sanitize_address)) static void copy_page(char *to, const char *from, size_t size)
{
    const volatile uint64_t *words = (const volatile uint64_t *)from;

    for (size_t word = 0; word < size / sizeof *words; word++)
        ((volatile uint64_t *)to)[word] = words[word];
}
#else
#define copy_page memcpy
#endif

/* Have the memory at `start` be that at `place`, with what is at `start` so far. */
static int move_over(char *start, size_t length, char *place)
{
    const size_t size = (size_t)sysconf(_SC_PAGESIZE), pages = length / size;

    unsigned char *there = mmap(NULL, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (there == MAP_FAILED)
        return -1;
    int status = mincore(start, length, there);
    for (size_t page = 0; status == 0 && page < pages; page++)
        if (there[page] & 1)
            copy_page(place + page * size, start + page * size, size);
    /* No call of the C library's between here and there writes to memory that is moved. */
    if (status == 0 && mremap(place, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, start) == MAP_FAILED)
        status = -1;
    if (status == 0)
        forget_absent(start, there, pages, size);
    munmap(there, pages);
    return status;
}

int box_pages_pack(int proc, struct box_error *err)
{
    const size_t size = (size_t)sysconf(_SC_PAGESIZE);
    struct box_mapping mapping, chosen[MOST_MAPPINGS];
    size_t count = 0, whole = 0;

    /* What is swapped out is there, and mincore(2) says that it is not: it would be lost. */
    struct sysinfo host;
    if (sysinfo(&host) < 0 || host.totalswap > 0) {
        errno = ENOTSUP;
        return box_fail(err, STAGE, "not on a host that swaps");
    }
    FILE *maps = box_maps_open(proc, err);
    if (maps == NULL)
        return -1;
    while (count < MOST_MAPPINGS && box_maps_next(maps, &mapping))
        if (strcmp(mapping.mode, "rw-p") == 0 && mapping.file[0] == '\0' && !mapping.is_stack &&
            mapping.end - mapping.start >= FEWEST_PAGES * size && mapping.end - mapping.start <= LARGEST) {
            chosen[count++] = mapping;
            whole += mapping.end - mapping.start;
        }
    fclose(maps);
    size_t room = whole + 2 * LARGE;
    char *region = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED)
        return box_fail(err, STAGE, "cannot have so much memory");
    char *place = region + (LARGE - (uintptr_t)region % LARGE) % LARGE;
    int status = madvise(place, whole + LARGE - whole % LARGE, MADV_HUGEPAGE);
    for (size_t which = 0; status == 0 && which < count; which++) {
        char *start = (char *)chosen[which].start; /* NOLINT(performance-no-int-to-ptr): the kernel says it so */
        size_t length = chosen[which].end - chosen[which].start;
        status = move_over(start, length, place);
        if (status == 0) /* or the kernel makes a fork's own pages large ones some day, most of it for nothing */
            madvise(start, length, MADV_NOHUGEPAGE);
        place += length;
    }
    munmap(region, room);
    return status == 0 ? 0 : box_fail(err, STAGE, "cannot have large pages");
}
