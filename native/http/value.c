/* JSON as it is read and written again: value.h. */
#include "http/value.h"

enum { MEMBERS = 32, DIGITS_MOST = 15 };

bool read_string(struct reader *reader, struct http_text *text, bool *plain)
{
    if (!next_is(reader, '"'))
        return false;
    text->data = reader->at;
    *plain = true;
    for (; reader->at < reader->end; reader->at++) {
        unsigned char one = (unsigned char)*reader->at;
        if (one == '"') {
            text->size = (size_t)(reader->at++ - text->data);
            return true;
        }
        if (one < ' ' || one >= 0x80)
            return false;
        if (one == '\\') {
            *plain = false;
            if (++reader->at == reader->end)
                return false;
        }
    }
    return false;
}

bool read_word(struct reader *reader, const char *word, size_t size)
{
    if ((size_t)(reader->end - reader->at) < size || memcmp(reader->at, word, size) != 0)
        return false;
    reader->at += size;
    return true;
}

bool read_integer(struct reader *reader, struct http_text *text)
{
    text->data = reader->at;
    bool negative = next_is(reader, '-');
    const char *first = reader->at;
    while (reader->at < reader->end && is_digit(*reader->at))
        reader->at++;
    size_t digits = (size_t)(reader->at - first);
    text->size = (size_t)(reader->at - text->data);
    if (digits == 0 || digits > DIGITS_MOST || (*first == '0' && (digits > 1 || negative)))
        return false;
    return reader->at == reader->end || (*reader->at != '.' && *reader->at != 'e' && *reader->at != 'E');
}

static int hex(const char *four)
{
    int value = 0;

    for (int at = 0; at < 4; at++) {
        char digit = lower(four[at]);
        if (is_digit(digit))
            value = value * 16 + digit - '0';
        else if (digit >= 'a' && digit <= 'f')
            value = value * 16 + digit - 'a' + 10;
        else
            return -1;
    }
    return value;
}

/* A character of two or three bytes, or one, in UTF-8; false for half of a pair. */
static bool put_unit(struct sink *sink, int unit)
{
    if (unit < 0 || (unit >= 0xd800 && unit <= 0xdfff))
        return false;
    if (unit < 0x80) {
        put_char(sink, (char)unit);
    } else if (unit < 0x800) {
        put_char(sink, (char)(0xc0 | unit >> 6));
        put_char(sink, (char)(0x80 | (unit & 0x3f)));
    } else {
        put_char(sink, (char)(0xe0 | unit >> 12));
        put_char(sink, (char)(0x80 | (unit >> 6 & 0x3f)));
        put_char(sink, (char)(0x80 | (unit & 0x3f)));
    }
    return true;
}

bool put_said(struct sink *sink, struct http_text text)
{
    static const char KINDS[] = "\"\\/bfnrt", MEAN[] = "\"\\/\b\f\n\r\t";
    size_t from = 0;

    for (size_t at = 0; at < text.size;) {
        if (text.data[at] != '\\') {
            at++;
            continue;
        }
        put(sink, text.data + from, at - from);
        char kind = text.data[at + 1]; /* it is there, as read_string has seen */
        at += 2;
        if (kind == 'u') {
            if (text.size - at < 4 || !put_unit(sink, hex(text.data + at)))
                return false;
            at += 4;
        } else {
            const char *found = kind == '\0' ? NULL : strchr(KINDS, kind);
            if (found == NULL)
                return false;
            put_char(sink, MEAN[found - KINDS]);
        }
        from = at;
    }
    if (from < text.size)
        put(sink, text.data + from, text.size - from);
    return true;
}

/* A string that orjson would write as it stands. */
static bool stays(struct http_text text)
{
    for (size_t at = 0; at < text.size; at++)
        if (text.data[at] == '\\' &&
            (++at == text.size || text.data[at] == '\0' || strchr("\"\\bfnrt", text.data[at]) == NULL))
            return false;
    return true;
}

static bool put_members(struct sink *sink, struct reader *reader, int depth)
{
    struct http_text names[MEMBERS], name;
    bool plain;

    for (size_t count = 0;; count++) {
        skip_blanks(reader);
        if (count == 0 && next_is(reader, '}'))
            break;
        if (count == MEMBERS || !read_string(reader, &name, &plain) || !plain)
            return false;
        for (size_t other = 0; other < count; other++)
            if (same(names[other], name))
                return false;
        names[count] = name;
        skip_blanks(reader);
        if (!next_is(reader, ':'))
            return false;
        if (count > 0)
            put_char(sink, ',');
        put_char(sink, '"');
        put_text(sink, name);
        PUT(sink, "\":");
        if (!put_value(sink, reader, depth - 1))
            return false;
        skip_blanks(reader);
        if (next_is(reader, '}'))
            break;
        if (!next_is(reader, ','))
            return false;
    }
    put_char(sink, '}');
    return true;
}

static bool put_items(struct sink *sink, struct reader *reader, int depth)
{
    for (bool first = true;; first = false) {
        skip_blanks(reader);
        if (first && next_is(reader, ']'))
            break;
        if (!first)
            put_char(sink, ',');
        if (!put_value(sink, reader, depth - 1))
            return false;
        skip_blanks(reader);
        if (next_is(reader, ']'))
            break;
        if (!next_is(reader, ','))
            return false;
    }
    put_char(sink, ']');
    return true;
}

bool put_value(struct sink *sink, struct reader *reader, int depth)
{
    struct http_text text;
    bool plain;

    skip_blanks(reader);
    if (depth == 0 || reader->at == reader->end)
        return false;
    switch (*reader->at) {
    case '{':
    case '[':
        put_char(sink, *reader->at);
        return *reader->at++ == '{' ? put_members(sink, reader, depth) : put_items(sink, reader, depth);
    case '"':
        if (!read_string(reader, &text, &plain) || (!plain && !stays(text)))
            return false;
        put_char(sink, '"');
        put_text(sink, text);
        put_char(sink, '"');
        return true;
    case 't':
        PUT(sink, "true");
        return read_word(reader, "true", 4);
    case 'f':
        PUT(sink, "false");
        return read_word(reader, "false", 5);
    case 'n':
        PUT(sink, "null");
        return read_word(reader, "null", 4);
    default:
        if (!read_integer(reader, &text))
            return false;
        put_text(sink, text);
        return true;
    }
}
