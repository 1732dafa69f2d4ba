/* Messages of plain calls: invoke.h. */
#include "front/invoke.h"

#include <string.h>

/* A tag is a field's number and its wire type: 0 is a varint, 2 has a length before it. */
#define TAG(field, type) ((uint8_t)((field) << 3 | (type)))
enum { VARINT = 0, LEN = 2, LENGTH_BYTES = 4, VARINT_BYTES = 10, FIELDS = 12, TAG_BYTES = 2 };
enum { OUTCOME_OK = 1, START_KIND_WARM = 1, US_PER_MS = 1000 };

/* --- In ---------------------------------------------------------------------------------------------------------- */

struct bytes {
    const uint8_t *at, *end;
};

/* A length and so many bytes. One that needs more than LENGTH_BYTES is of nothing that fits here. */
static bool take(struct bytes *from, struct invoke_text *text)
{
    size_t size = 0;

    for (int count = 0;; count++) {
        if (count == LENGTH_BYTES || from->at == from->end)
            return false;
        uint8_t byte = *from->at++;
        size |= (size_t)(byte & 0x7f) << (7 * count);
        if (byte < 0x80)
            break;
    }
    if (size == 0 || (size_t)(from->end - from->at) < size)
        return false;
    *text = (struct invoke_text){from->at, size};
    from->at += size;
    return true;
}

bool invoke_read(const uint8_t *message, size_t size, struct invoke_request *request)
{
    static const char before[] = "functions/";
    enum { BEFORE = sizeof before - 1 };
    struct bytes from = {message, message + size};
    struct invoke_text name = {NULL, 0};

    *request = (struct invoke_request){{NULL, 0}, {NULL, 0}, {NULL, 0}};
    while (from.at < from.end) {
        struct invoke_text *text;
        switch (*from.at++) {
        case TAG(1, LEN):
            text = &name;
            break;
        case TAG(2, LEN):
            text = &request->payload;
            break;
        case TAG(3, LEN):
            text = &request->id;
            break;
        default:
            return false;
        }
        if (text->data != NULL || !take(&from, text))
            return false;
    }
    if (request->payload.data == NULL || name.size <= BEFORE || memcmp(name.data, before, BEFORE) != 0)
        return false;
    request->function = (struct invoke_text){name.data + BEFORE, name.size - BEFORE};
    return true;
}

/* --- Out --------------------------------------------------------------------------------------------------------- */

static uint8_t *put_varint(uint8_t *to, uint64_t value)
{
    while (value >= 0x80) {
        *to++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

/* As all numbers of proto3, it is not there where it is 0. */
static uint8_t *put_number(uint8_t *to, unsigned field, uint64_t value)
{
    if (value == 0)
        return to;
    *to++ = TAG(field, VARINT);
    return put_varint(to, value);
}

static uint8_t *put_bytes(uint8_t *to, unsigned field, const uint8_t *data, size_t size)
{
    *to++ = TAG(field, LEN);
    to = put_varint(to, size);
    if (size > 0)
        memcpy(to, data, size);
    return to + size;
}

static uint8_t *put_text(uint8_t *to, unsigned field, struct invoke_text text)
{
    return text.size == 0 ? to : put_bytes(to, field, text.data, text.size);
}

/* All but the texts: what each field has at most. */
enum { REPORT_ROOM = FIELDS * (TAG_BYTES + VARINT_BYTES) };

static size_t report_room(const struct invoke_report *report)
{
    return REPORT_ROOM + report->id.size + report->version.size;
}

size_t invoke_room(size_t answer_size, const struct invoke_report *report)
{
    return answer_size + report_room(report) + 2 * (TAG_BYTES + VARINT_BYTES) + VARINT_BYTES;
}

static uint8_t *put_report(uint8_t *to, const struct invoke_report *report)
{
    to = put_text(to, 1, report->id);
    to = put_text(to, 2, report->version);
    to = put_number(to, 3, OUTCOME_OK);
    to = put_number(to, 4, START_KIND_WARM);
    to = put_number(to, 5, report->queue_us);
    to = put_number(to, 8, report->handler_us);
    to = put_number(to, 9, report->total_us);
    to = put_number(to, 10, (report->handler_us + US_PER_MS - 1) / US_PER_MS); /* billed */
    to = put_number(to, 11, report->peak_bytes);
    to = put_number(to, 12, report->cpu_us);
    return put_number(to, 14, report->memory_mb);
}

size_t invoke_write(uint8_t *to, const uint8_t *answer, size_t answer_size, const struct invoke_report *report)
{
    /* It is one of several that there may be: so it is there where it is empty too. */
    uint8_t *at = put_bytes(to, 1, answer, answer_size);

    /* The report's length is known when it is written: it moves up to make room for that. */
    uint8_t *from = at + 1 + VARINT_BYTES;
    size_t size = (size_t)(put_report(from, report) - from);
    *at++ = TAG(3, LEN);
    at = put_varint(at, size);
    memmove(at, from, size);
    return (size_t)(at + size - to);
}
