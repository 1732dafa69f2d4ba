/* Texts and a place to write to, for the files of native/http alone. */
#ifndef HTTP_TEXT_H
#define HTTP_TEXT_H

#include "http/http.h"

#include <string.h>

/* Once something did not fit, nothing more is written. */
struct sink {
    char *at, *end;
    bool full;
};

static inline void put(struct sink *sink, const char *data, size_t size)
{
    if (size == 0)
        return;
    if (sink->full || (size_t)(sink->end - sink->at) < size) {
        sink->full = true;
        return;
    }
    memcpy(sink->at, data, size);
    sink->at += size;
}

static inline void put_char(struct sink *sink, char one)
{
    put(sink, &one, 1);
}

static inline void put_text(struct sink *sink, struct http_text text)
{
    put(sink, text.data, text.size);
}

#define PUT(sink, literal) put(sink, literal, sizeof(literal) - 1)

void put_number(struct sink *sink, uint64_t number);

static inline char lower(char one)
{
    return one >= 'A' && one <= 'Z' ? (char)(one + ('a' - 'A')) : one;
}

static inline bool is_digit(char one)
{
    return one >= '0' && one <= '9';
}

/* Whether a text is this one, which is in lower case, but for the case. */
static inline bool is(struct http_text text, const char *what, size_t size)
{
    if (text.size != size)
        return false;
    for (size_t at = 0; at < size; at++)
        if (lower(text.data[at]) != what[at])
            return false;
    return true;
}

#define IS(text, literal) is(text, literal, sizeof(literal) - 1)

static inline bool same(struct http_text one, struct http_text other)
{
    return one.size == other.size && memcmp(one.data, other.data, one.size) == 0;
}

#endif
