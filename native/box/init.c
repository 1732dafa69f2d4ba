/* Process 1 of a sandbox, so that the guest can be an ordinary process.
 *
 * The kernel shields process 1 of a PID namespace from the signals of its own: a handler that kills itself would live
 * on, and abort() would end as something else. And orphans come to process 1: unreaped they would fill the pids limit.
 * So process 1 is a loop that waits. It shares the guest's memory (CLONE_VM, no copy of page tables) on a stack of its
 * own, runs nothing but raw system calls, holds no descriptor but the report pipe, and has no more rights than the
 * guest. When the guest ends it tells how and exits, and the kernel kills all that is left of the namespace. */
#include "internal.h"

#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

int *box_tid_address(void)
{
    int *address = NULL;

    if (prctl(PR_GET_TID_ADDRESS, &address, 0, 0, 0) == 0 && address != NULL)
        return address;
    /* Kernels without checkpoint/restore do not tell: the C library keeps the id at the head of its thread block. */
    int *block = (int *)pthread_self();
    for (int word = 0; word < 512; word++)
        if (block[word] == (int)syscall(SYS_gettid))
            return &block[word];
    return NULL;
}

void box_report_write(int fd, const struct box_report *report)
{
    ssize_t written;
    do
        written = write(fd, report, sizeof *report);
    while (written < 0 && errno == EINTR);
}

#if defined(__x86_64__)

/* errno belongs to the guest's thread from here on: system calls without the C library. */
static long raw(long number, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}

/* What process 1 has, in memory that the guest shares but has no reason to touch: a stack, of which it uses the last
 * page, and the rest on that page too, so that a start has one page of it to fault in. */
static struct {
    unsigned char stack[16384 - 512] __attribute__((aligned(4096)));
    struct box_report report;
    int report_fd;
    int on_one_cpu;    /* the split is made on one CPU */
    cpu_set_t allowed; /* where its processes may run else */
} first;

__attribute__((noreturn, noinline, used)) static void wait_for_guest(long guest)
{
    int status;

    if (first.on_one_cpu) /* a process that is killed has to run for that: never on one busy CPU alone */
        raw(SYS_sched_setaffinity, 0, sizeof first.allowed, (long)&first.allowed, 0);
    if (first.report_fd > 0)
        raw(SYS_close_range, 0, first.report_fd - 1, 0, 0);
    raw(SYS_close_range, first.report_fd + 1, ~0u, 0, 0);
    BOX_STEP("process 1: waits");
    for (;;) {
        long ended = raw(SYS_wait4, -1, (long)&status, __WALL, 0);
        if (ended == -EINTR)
            continue;
        if (ended == guest || ended < 0)
            break;
    }
    BOX_STEP("process 1: reaped the guest");
    first.report.status = status;
    raw(SYS_write, first.report_fd, (long)&first.report, sizeof first.report, 0);
    BOX_STEP("process 1: reported");
    for (;;)
        raw(SYS_exit_group, 0, 0, 0, 0);
}

int box_init_split(int report_fd, struct box_error *err)
{
    sigset_t all, before;
    int *tid = box_tid_address();
    void *robust_head = NULL;
    size_t robust_size = 0;
    long result;

    /* Process 1 falls asleep at once: the guest goes on in its place, on its CPU with what is in that one's caches,
     * rather than on one that has to be woken up. */
    cpu_set_t here;
    int cpu = sched_getcpu();
    CPU_ZERO(&here);
    if (cpu >= 0)
        CPU_SET((size_t)cpu, &here);
    first.on_one_cpu = cpu >= 0 && sched_getaffinity(0, sizeof first.allowed, &first.allowed) == 0 &&
                       sched_setaffinity(0, sizeof here, &here) == 0;
    syscall(SYS_get_robust_list, 0, &robust_head, &robust_size);
    first.report_fd = report_fd;
    first.report.kind = BOX_REPORT_EXITED;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    /* The child goes on with this stack; the parent leaves it in its very next instructions. */
    {
        register long flags __asm__("rdi") = CLONE_VM | SIGCHLD | (tid ? CLONE_CHILD_SETTID : 0);
        register long no_stack __asm__("rsi") = 0;
        register long parent_tid __asm__("rdx") = 0;
        register long child_tid __asm__("r10") = (long)tid;
        register long tls __asm__("r8") = 0;
        register unsigned char *top __asm__("r12") = first.stack + sizeof first.stack;
        register void (*loop)(long) __asm__("r13") = wait_for_guest;
        __asm__ volatile("syscall\n\t"
                         "test %%rax, %%rax\n\t"
                         "jle 1f\n\t"
                         "mov %%r12, %%rsp\n\t"
                         "xor %%ebp, %%ebp\n\t"
                         "mov %%rax, %%rdi\n\t"
                         "call *%%r13\n\t"
                         "1:"
                         : "=a"(result), "+r"(flags), "+r"(no_stack), "+r"(parent_tid), "+r"(child_tid), "+r"(tls),
                           "+r"(top), "+r"(loop)
                         : "a"((long)SYS_clone)
                         : "rcx", "r11", "memory", "cc");
    }
    if (result < 0) {
        errno = (int)-result;
        return box_fail(err, "init", "cannot start the guest");
    }
    if (first.on_one_cpu)
        sched_setaffinity(0, sizeof first.allowed, &first.allowed);
    if (robust_head != NULL)
        syscall(SYS_set_robust_list, robust_head, robust_size);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(report_fd);
    BOX_STEP("guest: split off");
    return 0;
}

#else

/* Elsewhere an ordinary fork: the same shape, at the price of a copy of the page tables. */
int box_init_split(int report_fd, struct box_error *err)
{
    struct box_report report = {.kind = BOX_REPORT_EXITED};
    sigset_t all, before;
    int status = 0;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t guest = fork();
    if (guest < 0)
        return box_fail(err, "init", "cannot start the guest");
    if (guest == 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        close(report_fd);
        return 0;
    }
    if (report_fd > 0)
        syscall(SYS_close_range, 0, report_fd - 1, 0);
    syscall(SYS_close_range, report_fd + 1, ~0u, 0);
    pid_t ended;
    do
        ended = waitpid(-1, &status, __WALL);
    while (ended != guest && (ended > 0 || errno == EINTR));
    report.status = status;
    box_report_write(report_fd, &report);
    _exit(0);
}

#endif
