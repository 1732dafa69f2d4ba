/* A scan of JSON that builds nothing: json.h. */
#include "json.h"

#include <string.h>

struct text {
    const uint8_t *at, *end;
};

static void skip_blanks(struct text *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n' || *text->at == '\r' || *text->at == '\t'))
        text->at++;
}

static bool next_is(struct text *text, uint8_t byte)
{
    if (text->at == text->end || *text->at != byte)
        return false;
    text->at++;
    return true;
}

static bool is_word(struct text *text, const char *word, size_t size)
{
    if ((size_t)(text->end - text->at) < size || memcmp(text->at, word, size) != 0)
        return false;
    text->at += size;
    return true;
}

static bool is_digits(struct text *text)
{
    const uint8_t *start = text->at;

    while (text->at < text->end && *text->at >= '0' && *text->at <= '9')
        text->at++;
    return text->at > start;
}

static bool is_number(struct text *text)
{
    next_is(text, '-');
    if (!next_is(text, '0') && !is_digits(text))
        return false;
    if (next_is(text, '.') && !is_digits(text))
        return false;
    if (next_is(text, 'e') || next_is(text, 'E')) {
        if (!next_is(text, '+'))
            next_is(text, '-');
        return is_digits(text);
    }
    return true;
}

/* The four digits after \u; -1 where they are not. */
static int hex(struct text *text)
{
    int value = 0;

    if (text->end - text->at < 4)
        return -1;
    for (int left = 4; left > 0; left--) {
        uint8_t digit = *text->at++;
        value *= 16;
        if (digit >= '0' && digit <= '9')
            value += digit - '0';
        else if (digit >= 'a' && digit <= 'f')
            value += digit - 'a' + 10;
        else if (digit >= 'A' && digit <= 'F')
            value += digit - 'A' + 10;
        else
            return -1;
    }
    return value;
}

static bool is_escape(struct text *text)
{
    if (text->at == text->end)
        return false;
    uint8_t kind = *text->at++;
    if (kind != 'u')
        return kind != '\0' && strchr("\"\\/bfnrt", kind) != NULL;
    int unit = hex(text);
    if (unit < 0xd800 || unit > 0xdfff)
        return unit >= 0;
    if (unit > 0xdbff || !is_word(text, "\\u", 2))
        return false;
    unit = hex(text);
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/* After the first quotation mark. */
static bool is_string(struct text *text)
{
    while (text->at < text->end) {
        uint8_t byte = *text->at++;
        if (byte == '"')
            return true;
        if (byte < 0x20 || byte >= 0x80 || (byte == '\\' && !is_escape(text)))
            return false;
    }
    return false;
}

/* A value that has no others in it. */
static bool is_scalar(struct text *text)
{
    switch (*text->at) {
    case '"':
        text->at++;
        return is_string(text);
    case 't':
        return is_word(text, "true", 4);
    case 'f':
        return is_word(text, "false", 5);
    case 'n':
        return is_word(text, "null", 4);
    default:
        return is_number(text);
    }
}

static bool is_key(struct text *text)
{
    skip_blanks(text);
    if (!next_is(text, '"') || !is_string(text))
        return false;
    skip_blanks(text);
    return next_is(text, ':');
}

bool json_plain(const uint8_t *data, size_t size)
{
    struct text text = {data, data + size};
    bool in_object[JSON_DEPTH];
    size_t depth = 0;

    for (;;) {
        /* A value begins. */
        skip_blanks(&text);
        if (text.at == text.end)
            return false;
        if (*text.at == '{' || *text.at == '[') {
            bool object = *text.at++ == '{';
            skip_blanks(&text);
            if (!next_is(&text, object ? '}' : ']')) {
                if (depth == JSON_DEPTH || (object && !is_key(&text)))
                    return false;
                in_object[depth++] = object;
                continue;
            }
        } else if (!is_scalar(&text)) {
            return false;
        }
        /* It is over, and so may be those that it is in. */
        for (;;) {
            skip_blanks(&text);
            if (depth == 0)
                return text.at == text.end;
            if (next_is(&text, ','))
                break;
            if (!next_is(&text, in_object[depth - 1] ? '}' : ']'))
                return false;
            depth--;
        }
        if (in_object[depth - 1] && !is_key(&text))
            return false;
    }
}
