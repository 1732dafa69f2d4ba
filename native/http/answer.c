/* A function's result as an answer: http.h. What is not certain, and all that engine/rest/payload2.py refuses, is left
 * to that. */
#include "http/value.h"

enum {
    ID = 36,
    MEMBERS = 32,
    HEADERS = 32,
    DIGITS_MOST = 15,
    STATUS_FIRST = 200,
    NO_CONTENT = 204,
    NOT_MODIFIED = 304
};

/* --- An object that says how it is to be sent -------------------------------------------------------------------- */

struct said {
    int status; /* 0: none */
    size_t count;
    struct http_text names[HEADERS], values[HEADERS], body;
};

static bool is_token(struct http_text name)
{
    for (size_t at = 0; at < name.size; at++)
        if (!is_digit(name.data[at]) && !(lower(name.data[at]) >= 'a' && lower(name.data[at]) <= 'z') &&
            name.data[at] != '-')
            return false;
    return name.size > 0;
}

static bool read_headers(struct reader *reader, struct said *said)
{
    bool plain;

    if (!next_is(reader, '{'))
        return false;
    for (said->count = 0;; said->count++) {
        skip_blanks(reader);
        if (said->count == 0 && next_is(reader, '}'))
            return true;
        struct http_text *name = &said->names[said->count], *value = &said->values[said->count];
        if (said->count == HEADERS || !read_string(reader, name, &plain) || !plain || !is_token(*name))
            return false;
        for (size_t other = 0; other < said->count; other++)
            if (same(said->names[other], *name))
                return false;
        skip_blanks(reader);
        if (!next_is(reader, ':'))
            return false;
        skip_blanks(reader);
        if (!read_string(reader, value, &plain) || !plain || memchr(value->data, 0x7f, value->size) != NULL)
            return false;
        skip_blanks(reader);
        if (next_is(reader, '}')) {
            said->count++;
            return true;
        }
        if (!next_is(reader, ','))
            return false;
    }
}

static bool read_status(struct reader *reader, struct said *said)
{
    struct http_text text;

    if (!read_integer(reader, &text) || text.size != 3)
        return false;
    said->status = (text.data[0] - '0') * 100 + (text.data[1] - '0') * 10 + (text.data[2] - '0');
    return said->status >= STATUS_FIRST && said->status < HTTP_STATUSES;
}

enum member { STATUS, FIELDS, BODY, ENCODED, MEMBER_COUNT };

static int member_of(struct http_text name)
{
    static const struct http_text NAMES[] = {[STATUS] = {"statusCode", 10},
                                             [FIELDS] = {"headers", 7},
                                             [BODY] = {"body", 4},
                                             [ENCODED] = {"isBase64Encoded", 15}};

    for (int which = 0; which < MEMBER_COUNT; which++)
        if (same(NAMES[which], name))
            return which;
    return -1;
}

/* An object of these members alone, each once and plain. */
static bool read_said(struct reader *reader, struct said *said)
{
    bool seen[MEMBER_COUNT] = {false}, plain;
    struct http_text name;

    if (!next_is(reader, '{'))
        return false;
    for (;;) {
        skip_blanks(reader);
        if (!read_string(reader, &name, &plain))
            return false;
        int which = member_of(name);
        skip_blanks(reader);
        if (which < 0 || seen[which] || !next_is(reader, ':'))
            return false;
        seen[which] = true;
        skip_blanks(reader);
        if (!(which == STATUS   ? read_status(reader, said)
              : which == FIELDS ? read_headers(reader, said)
              : which == BODY   ? read_string(reader, &said->body, &plain)
                                : read_word(reader, "false", 5)))
            return false;
        skip_blanks(reader);
        if (next_is(reader, '}'))
            break;
        if (!next_is(reader, ','))
            return false;
    }
    skip_blanks(reader);
    return seen[STATUS] && reader->at == reader->end;
}

/* Headers that are the connection's and not the function's. */
static bool is_framing(struct http_text name)
{
    static const struct http_text NAMES[] = {{"connection", 10}, {"content-length", 14},  {"keep-alive", 10},
                                             {"te", 2},          {"trailer", 7},          {"transfer-encoding", 17},
                                             {"upgrade", 7},     {"x-amzn-requestid", 16}};

    for (size_t at = 0; at < sizeof NAMES / sizeof NAMES[0]; at++)
        if (is(name, NAMES[at].data, NAMES[at].size))
            return true;
    return false;
}

/* --- On the wire ------------------------------------------------------------------------------------------------- */

static bool put_status(struct sink *sink, const struct http_frame *frame, int status)
{
    put_text(sink, frame->status_lines[status]);
    put_text(sink, frame->fields);
    return frame->status_lines[status].size > 0;
}

/* The end of the head. The length is written over what is left open for it, once it is known. */
static char *put_end(struct sink *sink, const struct http_frame *frame, bool with_length)
{
    static const char LENGTH[] = "content-length: ";
    char *open = NULL;

    PUT(sink, "x-amzn-requestid: ");
    put(sink, frame->request_id, ID);
    PUT(sink, "\r\n");
    if (with_length) {
        PUT(sink, LENGTH);
        open = sink->at;
        PUT(sink, "0000000\r\n");
    }
    PUT(sink, "\r\n");
    return open;
}

/* So many bytes follow the head: its number takes its own place, and what is behind it moves up. */
static size_t fill_in(struct sink *sink, char *to, char *open, size_t head_size)
{
    enum { ROOM = 7 };
    char number[ROOM + 1];
    size_t size = (size_t)(sink->at - to) - head_size, left = size, digits = 0;

    if (sink->full || open == NULL)
        return sink->full ? 0 : (size_t)(sink->at - to);
    do {
        number[ROOM - ++digits] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0 && digits < ROOM);
    if (left > 0)
        return 0;
    memcpy(open, number + ROOM - digits, digits);
    memmove(open + digits, open + ROOM, (size_t)(sink->at - (open + ROOM)));
    return (size_t)(sink->at - to) - (ROOM - digits);
}

static size_t plain_answer(const char *result, size_t size, const struct http_frame *frame, char *to, size_t room)
{
    struct sink sink = {to, to + room, false};
    struct reader reader = {result, result + size};
    struct http_text text;
    bool plain;

    skip_blanks(&reader);
    if (!put_status(&sink, frame, STATUS_FIRST))
        return 0;
    PUT(&sink, "content-type: application/json\r\n");
    char *open = put_end(&sink, frame, true);
    size_t head = (size_t)(sink.at - to);
    if (reader.at == reader.end) {
        if (size > 0)
            return 0; /* blanks alone are no JSON */
    } else if (*reader.at == '"') {
        if (!read_string(&reader, &text, &plain) || !put_said(&sink, text))
            return 0;
    } else if (*reader.at == 'n') {
        if (!read_word(&reader, "null", 4))
            return 0;
    } else if (!put_value(&sink, &reader, HTTP_DEPTH)) {
        return 0;
    }
    skip_blanks(&reader);
    return reader.at == reader.end ? fill_in(&sink, to, open, head) : 0;
}

/* Whether an object has a member of this name, in a text that may be none. */
static bool mentions_status(const char *result, size_t size)
{
    return memmem(result, size, "statusCode", sizeof "statusCode" - 1) != NULL ||
           memmem(result, size, "\\u", sizeof "\\u" - 1) != NULL;
}

size_t http_answer(const char *result, size_t size, const struct http_frame *frame, char *to, size_t room)
{
    struct sink sink = {to, to + room, false};
    struct reader reader = {result, result + size};
    struct said said = {0};
    bool typed = false;

    skip_blanks(&reader);
    if (reader.at == reader.end || *reader.at != '{' || !mentions_status(reader.at, (size_t)(reader.end - reader.at)))
        return plain_answer(result, size, frame, to, room);
    if (!read_said(&reader, &said) || !put_status(&sink, frame, said.status))
        return 0;
    for (size_t at = 0; at < said.count; at++) {
        if (is_framing(said.names[at]))
            continue;
        typed = typed || IS(said.names[at], "content-type");
        for (size_t letter = 0; letter < said.names[at].size; letter++)
            put_char(&sink, lower(said.names[at].data[letter]));
        PUT(&sink, ": ");
        put_text(&sink, said.values[at]);
        PUT(&sink, "\r\n");
    }
    if (!typed)
        PUT(&sink, "content-type: application/json\r\n");
    char *open = put_end(&sink, frame, said.status != NO_CONTENT);
    size_t head = (size_t)(sink.at - to);
    if (!put_said(&sink, said.body))
        return 0;
    if (said.status == NO_CONTENT || said.status == NOT_MODIFIED) {
        /* It was read to know whether it is a string. */
        if (sink.full)
            return 0;
        sink.at = to + head;
    }
    return fill_in(&sink, to, open, head);
}

size_t http_invoked(const char *result, size_t size, struct http_text version, const struct http_frame *frame, char *to,
                    size_t room)
{
    struct sink sink = {to, to + room, false};

    if (!put_status(&sink, frame, STATUS_FIRST))
        return 0;
    PUT(&sink, "content-type: application/json\r\nx-amz-executed-version: ");
    put_text(&sink, version);
    PUT(&sink, "\r\n");
    char *open = put_end(&sink, frame, true);
    size_t head = (size_t)(sink.at - to);
    put(&sink, result, size);
    return fill_in(&sink, to, open, head);
}
