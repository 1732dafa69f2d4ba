/* The step counter of the debug build; see steps.h. Empty in every other. */
#include "steps.h"

#ifdef BOX_STEPS

#include "internal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

/* Mapped by the first step of a process that was exec'ed, while paths still mean what the test meant; forks share it.
 */
static struct box_steps_page *page;

static void pause_briefly(void)
{
    const struct timespec pause = {.tv_nsec = 200000};
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"((long)SYS_nanosleep), "D"(&pause), "S"(0) : "rcx", "r11", "memory");
#else
    syscall(SYS_nanosleep, &pause, NULL);
#endif
}

static int equal(const char *one, const char *other)
{
    while (*one != '\0' && *one == *other)
        one++, other++;
    return *one == *other;
}

static void map_page(void)
{
    const char *path = getenv("CLEAVE_STEPS_PAGE");
    cleanup_close int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    void *memory = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED)
        page = memory;
}

__attribute__((constructor)) static void start(void)
{
    map_page();
}

void box_step(const char *name)
{
    if (page == NULL || __atomic_load_n(&page->state, __ATOMIC_ACQUIRE) == BOX_STEPS_OFF)
        return;
    uint32_t which = __atomic_fetch_add(&page->count, 1, __ATOMIC_ACQ_REL);
    if (which < BOX_STEP_RECORDS) {
        for (int at = 0; at < BOX_STEP_NAME - 1 && name[at] != '\0'; at++)
            page->records[which].name[at] = name[at];
        __atomic_store_n(&page->records[which].whole, 1, __ATOMIC_RELEASE);
    }
    if (!equal(name, page->stop_at) || __atomic_add_fetch(&page->seen, 1, __ATOMIC_ACQ_REL) != page->stop_nth)
        return;
    uint32_t armed = BOX_STEPS_ARMED;
    if (!__atomic_compare_exchange_n(&page->state, &armed, BOX_STEPS_STOPPED, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return;
    while (__atomic_load_n(&page->state, __ATOMIC_ACQUIRE) == BOX_STEPS_STOPPED)
        pause_briefly();
}

#endif
