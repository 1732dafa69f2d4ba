/* engine.v1.InvokeRequest and InvokeResponse on the wire, as far as plain calls have them: nothing but a function, an
 * event, and perhaps a request id goes in; an answer and its report come out.
 *
 * Pure C, nothing is kept, nothing is allocated. What is read is hostile. The wire:
 * protobuf.dev/programming-guides/encoding; the fields: proto/engine/v1/invocations.proto and reports.proto. */
#ifndef INVOKE_H
#define INVOKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct invoke_text {
    const uint8_t *data;
    size_t size;
};

/* All within the message. */
struct invoke_request {
    struct invoke_text function; /* what follows "functions/"; whether there is such a one is not asked */
    struct invoke_text payload;  /* not empty */
    struct invoke_text id;       /* empty where there is none */
};

/* Whether the message is one of a plain call: each field at most once, and no other. What is not may be a good request
 * all the same. */
bool invoke_read(const uint8_t *message, size_t size, struct invoke_request *request);

/* What a report of a good answer by a warm sandbox has; the rest of its fields are 0. */
struct invoke_report {
    struct invoke_text id, version;
    uint64_t queue_us, handler_us, total_us, peak_bytes, cpu_us, memory_mb;
};

/* How many bytes invoke_write needs at most. */
size_t invoke_room(size_t answer_size, const struct invoke_report *report);
/* How many it wrote. */
size_t invoke_write(uint8_t *to, const uint8_t *answer, size_t answer_size, const struct invoke_report *report);

#endif
