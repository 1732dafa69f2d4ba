/* JSON as it is read and written again, for the files of native/http alone. Only what is ASCII, and what anybody would
 * write alike: for everything else there is false, and the text is for others to read. */
#ifndef HTTP_VALUE_H
#define HTTP_VALUE_H

#include "http/text.h"

struct reader {
    const char *at, *end;
};

static inline bool next_is(struct reader *reader, char one)
{
    if (reader->at == reader->end || *reader->at != one)
        return false;
    reader->at++;
    return true;
}

static inline void skip_blanks(struct reader *reader)
{
    while (reader->at < reader->end &&
           (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\r' || *reader->at == '\t'))
        reader->at++;
}

/* A string in ASCII, without what is around it; escapes are left as they are. `plain`: there are none. */
bool read_string(struct reader *reader, struct http_text *text, bool *plain);
bool read_word(struct reader *reader, const char *word, size_t size);
/* A number that looks the same whoever writes it. */
bool read_integer(struct reader *reader, struct http_text *text);
/* What a string says, in UTF-8. */
bool put_said(struct sink *sink, struct http_text text);
/* A value as orjson would write it after it has read it. */
bool put_value(struct sink *sink, struct reader *reader, int depth);

#endif
