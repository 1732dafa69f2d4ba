/* A fuzz target over the C that reads plain calls of Invoke: the request's fields, its event, and the response that is
 * made of it.
 *
 * An input is a request. What AddressSanitizer and UBSan do not see is checked here: what is read lies within the
 * request; an event that is let through has nothing in it that is not ASCII; a response fits in its room, and is read
 * by the same rules. Built by .ci/sanitize as fork_wire.c is. */
#include "front/invoke.h"
#include "sched/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t fuzz_begin(uint8_t *input, uint32_t (*draw)(uint32_t below));

static void require(int holds)
{
    if (!holds)
        abort();
}

static void within(struct invoke_text text, const uint8_t *data, size_t size)
{
    require(text.data >= data && text.size <= size && (size_t)(text.data - data) <= size - text.size);
}

/* Plain only where all of it is. */
static void look_at(const uint8_t *event, size_t size)
{
    uint8_t *exact = malloc(size + (size == 0));
    require(exact != NULL);
    memcpy(exact, event, size);
    if (json_plain(exact, size)) {
        for (size_t at = 0; at < size; at++)
            require(exact[at] < 0x80 && (exact[at] >= 0x20 || strchr("\t\r\n", exact[at]) != NULL) && exact[at] != 0);
    }
    free(exact);
}

static void answer(const struct invoke_request *request, size_t number)
{
    const struct invoke_report report = {
        .id = request->id,
        .version = request->function,
        .queue_us = UINT64_MAX,
        .handler_us = number,
        .total_us = number * number,
        .peak_bytes = UINT64_MAX,
        .cpu_us = number % 3,
        .memory_mb = UINT32_MAX,
    };
    size_t room = invoke_room(request->payload.size, &report);
    uint8_t *to = malloc(room);
    require(to != NULL);
    size_t size = invoke_write(to, request->payload.data, request->payload.size, &report);
    require(size <= room && to[0] == (1 << 3 | 2));
    free(to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct invoke_request request;

    look_at(data, size);
    if (!invoke_read(data, size, &request))
        return 0;
    within(request.function, data, size);
    within(request.payload, data, size);
    if (request.id.size > 0)
        within(request.id, data, size);
    look_at(request.payload.data, request.payload.size);
    answer(&request, size);
    return 0;
}

size_t fuzz_begin(uint8_t *input, uint32_t (*draw)(uint32_t below))
{
    static const char REQUEST[] = "\x0a\x0b"
                                  "functions/f"
                                  "\x12\x2a"
                                  "{\"a\":[1.5e3,true,null,\"\\ud83d\\ude00\\n\"] }  "
                                  "\x1a\x24"
                                  "6f0c0c5e-7f57-4d6e-a1c8-1d6c1f1f2b3a";
    static const char EVENT[] = "[{\"a\":-0.5E+7,\"b\":[[],{}]},\"\\u00e4\\\\\",false]";

    if (draw(2)) {
        memcpy(input, REQUEST, sizeof REQUEST - 1);
        return sizeof REQUEST - 1;
    }
    memcpy(input, EVENT, sizeof EVENT - 1);
    return sizeof EVENT - 1;
}
