/* Plain HTTP/1.1 requests: the two kinds that are answered without an HTTP server, told apart from everything else.
 *
 * http_read looks at what a connection has sent since its last answer. It says *plain* only of one whole request of
 * which it knows for certain what every byte means: an Invoke that asks for nothing but an answer, or a call of a
 * function URL. Whatever else there is (another operation, a chunked or compressed body, a header twice, folded, empty
 * or with bytes beyond ASCII, percent-encoding, a second request behind the first) is *other*: an HTTP server reads
 * these bytes then, from the first, so that what is odd has one place with rules about it. http_event makes the event
 * of payload format 2.0 from a URL's request, http_answer an answer from a function's result, both byte for byte as
 * engine/rest/payload2.py does, or not at all.
 *
 * Pure C, no allocation, nothing global. What a client or a function sends is hostile: no length of its is believed
 * before it was compared with what is there. The wire: RFC 9112; the events:
 * https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html. */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_HEAD = 16384,  /* bytes of a head */
    HTTP_BODY = 61440,  /* bytes of a body */
    HTTP_FIELDS = 48,   /* headers */
    HTTP_NAME = 64,     /* characters of a function's name */
    HTTP_URL_ID = 32,   /* characters of a URL's id */
    HTTP_DEPTH = 64,    /* of nested JSON */
    HTTP_STATUSES = 600 /* one more than the last */
};

struct http_text {
    const char *data;
    size_t size;
};

struct http_field {
    struct http_text name, value; /* the name as it was sent */
};

enum http_found {
    HTTP_OTHER,  /* whatever comes behind it */
    HTTP_COMING, /* so far nothing else; the body is still to come */
    HTTP_INVOKE, /* `name` is a function's */
    HTTP_URL,    /* `name` is a URL's id */
};

/* Points into what was read. */
struct http_request {
    struct http_text name, method, path, query, host, body;
    bool by_host; /* the URL's id is in the Host, not in the path */
    size_t count;
    struct http_field fields[HTTP_FIELDS];
};

enum http_found http_read(const char *data, size_t size, struct http_request *request);

/* What an event tells beside the request. */
struct http_call {
    struct http_text client, domain; /* ASCII in which nothing has to be escaped */
    const char *request_id;          /* 36 characters */
    int64_t wall_ns;                 /* CLOCK_REALTIME */
};

/* The event of a request to a URL. How many bytes it has; 0 where they would be more than `room`, or where it is not
 * certain how it looks. */
size_t http_event(const struct http_request *request, const struct http_call *call, char *to, size_t room);

/* What is around an answer. */
struct http_frame {
    const struct http_text *status_lines; /* by status, with their end of line; those from 200 on are there */
    struct http_text fields;              /* of every answer, each with its end of line */
    const char *request_id;               /* 36 characters */
};

/* The answer of a URL for a whole result of its function; as above. */
size_t http_answer(const char *result, size_t size, const struct http_frame *frame, char *to, size_t room);
/* The answer of Invoke: the result as it is. `version`: what has run. */
size_t http_invoked(const char *result, size_t size, struct http_text version, const struct http_frame *frame, char *to,
                    size_t room);

#endif
