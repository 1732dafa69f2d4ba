/* Runs a fuzz target a number of times where there is no libFuzzer: driver RUNS SEED. Inputs are random, and half of
 * them start as something that the target knows: a request, an answer, a line of a keyed file. */
#include "../../../native/box/box.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* What an input starts as, of a target that knows something else. */
__attribute__((weak)) size_t fuzz_begin(uint8_t *input, uint32_t (*draw)(uint32_t below));

static uint64_t state;

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled". */
static uint32_t draw(uint32_t below)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1DULL) >> 32) % below;
}

static size_t begin(uint8_t *input)
{
    static const char LINES[] = "active_file 1\ninactive_file 18446744073709551616\ninactive_file";
    struct box_fork_request request = {.version = BOX_WIRE_VERSION, .uid = 1, .n_join = draw(7), .into = draw(2)};
    struct box_fork_reply reply = {.pid = (int32_t)draw(3) - 1};

    input[0] = (uint8_t)draw(3);
    input[1] = (uint8_t)(draw(2) ? draw(25) : 6 + request.n_join + request.into);
    switch (input[0]) {
    case 0:
        memcpy(input + 2, &request, sizeof request);
        return 2 + sizeof request;
    case 1:
        memcpy(input + 2, &reply, sizeof reply);
        return 2 + sizeof reply;
    default:
        memcpy(input + 2, LINES, sizeof LINES);
        return 2 + sizeof LINES;
    }
}

int main(int argc, char **argv)
{
    uint8_t input[1024];

    if (argc != 3)
        return 2;
    long runs = strtol(argv[1], NULL, 10);
    state = strtoull(argv[2], NULL, 10) * 2 + 1;
    for (long run = 0; run < runs; run++) {
        size_t size = fuzz_begin != NULL ? fuzz_begin(input, draw) : begin(input);
        if (draw(2))
            size = draw(sizeof input);
        for (uint32_t times = draw(8); times > 0; times--)
            input[2 + draw(sizeof input - 2)] = (uint8_t)draw(256);
        if (draw(8) == 0)
            size = draw((uint32_t)size + 1);
        /* In memory of exactly its size, where a read past the end is seen. */
        uint8_t *exact = malloc(size + (size == 0));
        memcpy(exact, input, size);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    printf("%ld inputs\n", runs);
    return 0;
}
