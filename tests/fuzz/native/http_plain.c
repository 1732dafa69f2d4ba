/* A fuzz target over native/http: what clients and functions send is read in memory of exactly its size, where
 * AddressSanitizer sees a read past the end, and what is made of it is written to memory of as many sizes as the input
 * says.
 *
 * An input is one byte for what it is, two for the room, and the bytes; or, where the first byte's highest bit is set,
 * pairs of a place and a byte, by which something that is plain is edited. What the sanitizers do not see is checked
 * here: what points into a request is in it, and nothing is longer than its room. Built by .ci/sanitize as fork_wire.c
 * is. */
#include "http/http.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t fuzz_begin(uint8_t *input, uint32_t (*draw)(uint32_t below));

enum { FIRST = 3, STATUS_FIRST = 200 };
static const char ID[] = "5f0c0c5e-7f57-4d6e-a1c8-1d6c1f1f2b3a";

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void is_in(struct http_text text, const char *data, size_t size)
{
    require(text.size == 0 || (text.data >= data && text.data + text.size <= data + size) ||
            (text.size == 1 && *text.data == '/'));
}

static void read_request(const char *data, size_t size, char *out, size_t room)
{
    struct http_request request;
    struct http_call call = {{"127.0.0.1", 9}, {"x.localhost", 11}, ID, (int64_t)size * 1000000007};

    if (http_read(data, size, &request) <= HTTP_COMING)
        return;
    const struct http_text all[] = {request.name,  request.method, request.path,
                                    request.query, request.host,   request.body};
    for (size_t at = 0; at < sizeof all / sizeof all[0]; at++)
        is_in(all[at], data, size);
    for (size_t at = 0; at < request.count; at++) {
        is_in(request.fields[at].name, data, size);
        is_in(request.fields[at].value, data, size);
    }
    require(request.body.size <= HTTP_BODY && request.count <= HTTP_FIELDS);
    require(http_event(&request, &call, out, room) <= room);
}

static void write_answer(const char *data, size_t size, bool invoked, char *out, size_t room)
{
    static struct http_text lines[HTTP_STATUSES];
    struct http_frame frame = {lines, {"date: x\r\n", 9}, ID};
    size_t written;

    for (int status = STATUS_FIRST; status < HTTP_STATUSES; status++)
        lines[status] = (struct http_text){"HTTP/1.1 200 OK\r\n", 17};
    if (invoked)
        written = http_invoked(data, size, (struct http_text){"$LATEST", 7}, &frame, out, room);
    else
        written = http_answer(data, size, &frame, out, room);
    require(written <= room);
    if (written > 0 && !invoked) {
        /* Whatever the function said, there is one head, with one length. */
        char *end = memmem(out, written, "\r\n\r\n", 4);
        require(end != NULL && memchr(out, '\0', (size_t)(end - out)) == NULL);
    }
}

/* What an input edits, where it is not all of the bytes itself. */
static const char *const BEGINNINGS[] = {
    "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: [::1]:90\r\nContent-Length: 2\r\n\r\n{}",
    "GET /a?b=c&d HTTP/1.1\r\nHost: abcdefghijklmnopqrstuvwxyz234567.lambda-url.x\r\nCookie: a; b\r\n\r\n",
    "PUT /lambda-url/abcdefghijklmnopqrstuvwxyz234567/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
    "Content-Type: application/octet-stream\r\n\r\na\"\n",
    "{\"statusCode\": 200, \"headers\": {\"a\": \"b\"}, \"body\": \"a\\u00e9\\n\", \"isBase64Encoded\": false}",
    "{\"a\": [1, true, null, {\"b\": \"\\\"\"}], \"c\": -15}",
};
enum { BEGINNING_COUNT = sizeof BEGINNINGS / sizeof BEGINNINGS[0], REQUESTS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < FIRST)
        return 0;
    unsigned which = data[0] % BEGINNING_COUNT;
    bool edits = data[0] & 0x80, request = edits ? which < REQUESTS : data[0] & 1;
    size_t room = (size_t)(data[1] % 16) << 8 | data[2], edit = size - FIRST;
    size_t rest = edits ? strlen(BEGINNINGS[which]) : edit;
    char *exact = malloc(rest + (rest == 0)), *out = malloc(room + (room == 0));
    require(exact != NULL && out != NULL);
    memcpy(exact, edits ? BEGINNINGS[which] : (const char *)data + FIRST, rest);
    for (size_t at = 0; edits && at + 1 < edit; at += 2)
        exact[data[FIRST + at] % rest] = (char)data[FIRST + at + 1];
    if (request)
        read_request(exact, rest, out, room);
    else
        write_answer(exact, rest, (data[0] & 0x40) != 0, out, room);
    free(exact);
    free(out);
    return 0;
}

size_t fuzz_begin(uint8_t *input, uint32_t (*draw)(uint32_t below))
{
    size_t size = FIRST;

    input[0] = (uint8_t)(0x80 | draw(256));
    input[1] = (uint8_t)draw(8);
    input[2] = (uint8_t)draw(256);
    for (uint32_t times = draw(6); times > 0; times--) {
        input[size++] = (uint8_t)draw(256);
        input[size++] = (uint8_t)"\r\n:/?&=% \"\\{}[],0u1aA;."[draw(23)];
    }
    return size;
}
