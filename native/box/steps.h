/* Places where a test may stop the world: each BOX_STEP is one. In a build without BOX_STEPS, which is every release,
 * they are nothing.
 *
 * Theory of operation: a test makes a page in a file, names it in CLEAVE_STEPS_PAGE and starts an engine and its
 * zygotes over it. All of them, and the sandboxes that are cloned from a zygote, share the page: it counts what they
 * reach, and the process that reaches the step which the page names waits there until the test lets it go or kills
 * something. */
#ifndef BOX_STEPS_H
#define BOX_STEPS_H

#ifdef BOX_STEPS

#include <stdint.h>

enum { BOX_STEP_NAME = 60, BOX_STEP_RECORDS = 1024 };

enum box_steps_state { BOX_STEPS_OFF = 0, BOX_STEPS_ARMED = 1, BOX_STEPS_STOPPED = 2, BOX_STEPS_RELEASED = 3 };

/* Read and written by tests/faults/steps_page.py too. */
struct box_steps_page {
    uint32_t state;
    uint32_t count;    /* steps reached while the page was not off */
    uint32_t stop_nth; /* stop where stop_at is reached for the nth time, from 1 */
    uint32_t seen;     /* how often stop_at was reached */
    char stop_at[BOX_STEP_NAME + 4];
    struct {
        char name[BOX_STEP_NAME];
        uint32_t whole; /* 1 once the name is written */
    } records[BOX_STEP_RECORDS];
};

/* Reach a step. System calls are raw: process 1 of a sandbox has no errno of its own. */
void box_step(const char *name);

#define BOX_STEP(name) box_step(name)

#else

#define BOX_STEP(name) ((void)0)

#endif
#endif
