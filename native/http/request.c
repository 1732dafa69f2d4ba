/* What a request is: http.h. */
#include "http/text.h"

enum { LENGTH_DIGITS = 5, PORT_DIGITS = 5 };

/* What a header means to who reads it. */
enum meaning {
    PASSED, /* nothing here; a function may read it */
    KNOWN,  /* likewise, and one that clients of the API send */
    ODD,    /* something that is not done here */
    HOST,
    LENGTH,
    CONNECTION,
    TYPE, /* of the invocation */
    LOG,
};

static const struct {
    const char *name;
    size_t size;
    enum meaning meaning;
} MEANINGS[] = {
#define HEADER(name, meaning) {name, sizeof(name) - 1, meaning}
    HEADER("host", HOST),
    HEADER("content-length", LENGTH),
    HEADER("connection", CONNECTION),
    HEADER("x-amz-invocation-type", TYPE),
    HEADER("x-amz-log-type", LOG),
    HEADER("accept", KNOWN),
    HEADER("accept-encoding", KNOWN),
    HEADER("amz-sdk-invocation-id", KNOWN),
    HEADER("amz-sdk-request", KNOWN),
    HEADER("authorization", KNOWN),
    HEADER("content-type", KNOWN),
    HEADER("user-agent", KNOWN),
    HEADER("x-amz-content-sha256", KNOWN),
    HEADER("x-amz-date", KNOWN),
    HEADER("x-amz-security-token", KNOWN),
    HEADER("x-amz-user-agent", KNOWN),
    HEADER("content-encoding", ODD),
    HEADER("expect", ODD),
    HEADER("http2-settings", ODD),
    HEADER("keep-alive", ODD),
    HEADER("proxy-connection", ODD),
    HEADER("te", ODD),
    HEADER("trailer", ODD),
    HEADER("transfer-encoding", ODD),
    HEADER("upgrade", ODD),
    /* An event's own. */
    HEADER("x-forwarded-for", ODD),
    HEADER("x-forwarded-port", ODD),
    HEADER("x-forwarded-proto", ODD),
#undef HEADER
};

static bool is_name(char one)
{
    return (lower(one) >= 'a' && lower(one) <= 'z') || is_digit(one) || one == '-' || one == '_';
}

static bool is_plain(char one)
{
    return is_name(one) || one == '.' || one == '~';
}

static bool begins(struct http_text text, const char *with, size_t size)
{
    return text.size >= size && memcmp(text.data, with, size) == 0;
}

#define BEGINS(text, literal) begins(text, literal, sizeof(literal) - 1)

static struct http_text from(struct http_text text, size_t at)
{
    return (struct http_text){text.data + at, text.size - at};
}

/* Whether it is nothing, or a colon and a port. */
static bool is_port(struct http_text text)
{
    if (text.size == 0)
        return true;
    if (text.data[0] != ':' || text.size < 2 || text.size > 1 + PORT_DIGITS)
        return false;
    for (size_t at = 1; at < text.size; at++)
        if (!is_digit(text.data[at]))
            return false;
    return true;
}

/* Whether a Host is this machine, by one of the names that everybody uses. */
static bool is_here(struct http_text host)
{
    if (BEGINS(host, "127.0.0.1"))
        return is_port(from(host, sizeof "127.0.0.1" - 1));
    if (BEGINS(host, "localhost"))
        return is_port(from(host, sizeof "localhost" - 1));
    return BEGINS(host, "[::1]") && is_port(from(host, sizeof "[::1]" - 1));
}

static bool is_id(struct http_text text)
{
    if (text.size < HTTP_URL_ID)
        return false;
    for (size_t at = 0; at < HTTP_URL_ID; at++)
        if (!is_digit(text.data[at]) && !(text.data[at] >= 'a' && text.data[at] <= 'z'))
            return false;
    return true;
}

/* Whether a Host is a function URL's, all in lower case. */
static bool is_url(struct http_text host)
{
    size_t at = 0;

    if (!is_id(host) || !BEGINS(from(host, HTTP_URL_ID), ".lambda-url."))
        return false;
    host = from(host, HTTP_URL_ID + sizeof ".lambda-url." - 1);
    while (at < host.size && (is_digit(host.data[at]) || (host.data[at] >= 'a' && host.data[at] <= 'z') ||
                              host.data[at] == '.' || host.data[at] == '-'))
        at++;
    return at > 0 && is_port(from(host, at));
}

/* Up to a byte, which is left out; false where it is not there. */
static bool cut(struct http_text *rest, char end, struct http_text *found)
{
    const char *at = memchr(rest->data, end, rest->size);

    if (at == NULL)
        return false;
    *found = (struct http_text){rest->data, (size_t)(at - rest->data)};
    *rest = from(*rest, found->size + 1);
    return true;
}

static bool read_line(struct http_text line, struct http_request *request)
{
    struct http_text target;

    if (!cut(&line, ' ', &request->method) || !cut(&line, ' ', &target) || line.size != sizeof "HTTP/1.1" - 1 ||
        !BEGINS(line, "HTTP/1.1"))
        return false;
    if (!BEGINS(target, "/") || BEGINS(target, "//"))
        return false;
    for (size_t at = 0; at < target.size; at++) {
        char one = target.data[at];
        if (one == '?') {
            request->query = from(target, at + 1);
            target.size = at;
            break;
        }
        if (!is_plain(one) && one != '/')
            return false;
    }
    request->path = target;
    for (size_t at = 0; at < request->query.size; at++) {
        char one = request->query.data[at];
        if (!is_plain(one) && one != '=' && one != '&')
            return false;
    }
    return true;
}

static bool read_field(struct http_text line, struct http_request *request)
{
    struct http_field *field = &request->fields[request->count];

    if (request->count == HTTP_FIELDS || !cut(&line, ':', &field->name) || field->name.size == 0)
        return false;
    for (size_t at = 0; at < field->name.size; at++)
        if (!is_name(field->name.data[at]))
            return false;
    if (BEGINS(line, " "))
        line = from(line, 1);
    if (line.size == 0 || line.data[0] == ' ' || line.data[line.size - 1] == ' ')
        return false;
    for (size_t at = 0; at < line.size; at++)
        if (line.data[at] < ' ' || line.data[at] > '~')
            return false;
    field->value = line;
    for (size_t other = 0; other < request->count; other++) {
        struct http_text earlier = request->fields[other].name;
        if (earlier.size != field->name.size)
            continue;
        size_t at = 0;
        while (at < earlier.size && lower(earlier.data[at]) == lower(field->name.data[at]))
            at++;
        if (at == earlier.size)
            return false;
    }
    request->count++;
    return true;
}

static enum meaning meaning_of(struct http_text name)
{
    for (size_t at = 0; at < sizeof MEANINGS / sizeof MEANINGS[0]; at++)
        if (is(name, MEANINGS[at].name, MEANINGS[at].size))
            return MEANINGS[at].meaning;
    return PASSED;
}

static bool read_length(struct http_text text, size_t *length)
{
    if (text.size > LENGTH_DIGITS || (text.size > 1 && text.data[0] == '0'))
        return false;
    *length = 0;
    for (size_t at = 0; at < text.size; at++) {
        if (!is_digit(text.data[at]))
            return false;
        *length = *length * 10 + (size_t)(text.data[at] - '0');
    }
    return *length <= HTTP_BODY;
}

/* All headers mean what is done here. `passed`: there is one that no client of the API sends. */
static bool understood(struct http_request *request, size_t *length, bool *passed, bool *typed)
{
    for (size_t at = 0; at < request->count; at++) {
        struct http_text value = request->fields[at].value;
        switch (meaning_of(request->fields[at].name)) {
        case PASSED:
            *passed = true;
            break;
        case KNOWN:
            break;
        case ODD:
            return false;
        case HOST:
            request->host = value;
            break;
        case LENGTH:
            if (!read_length(value, length))
                return false;
            break;
        case CONNECTION:
            if (!IS(value, "keep-alive"))
                return false;
            break;
        case TYPE:
            *typed = *typed || !same(value, (struct http_text){"RequestResponse", sizeof "RequestResponse" - 1});
            break;
        case LOG:
            *typed = *typed || !same(value, (struct http_text){"None", sizeof "None" - 1});
            break;
        }
    }
    return request->host.data != NULL;
}

static bool is_url_method(struct http_text method)
{
    static const char *const METHODS[] = {"GET", "POST", "PUT", "DELETE", "PATCH"};

    for (size_t at = 0; at < sizeof METHODS / sizeof METHODS[0]; at++)
        if (same(method, (struct http_text){METHODS[at], strlen(METHODS[at])}))
            return true;
    return false;
}

/* What it is for, by its target and its Host. */
static enum http_found route(struct http_request *request, bool passed, bool typed)
{
    static const char FUNCTIONS[] = "/2015-03-31/functions/", URLS[] = "/lambda-url/";
    struct http_text path = request->path;

    if (is_url(request->host)) {
        request->name = (struct http_text){request->host.data, HTTP_URL_ID};
        request->by_host = true;
        return is_url_method(request->method) ? HTTP_URL : HTTP_OTHER;
    }
    if (!is_here(request->host))
        return HTTP_OTHER;
    if (begins(path, URLS, sizeof URLS - 1)) {
        path = from(path, sizeof URLS - 1);
        if (!is_id(path) || !is_url_method(request->method))
            return HTTP_OTHER;
        request->name = (struct http_text){path.data, HTTP_URL_ID};
        request->path = from(path, HTTP_URL_ID);
        if (request->path.size == 0)
            request->path = (struct http_text){"/", 1};
        return request->path.data[0] == '/' ? HTTP_URL : HTTP_OTHER;
    }
    if (passed || typed || request->query.data != NULL || !same(request->method, (struct http_text){"POST", 4}) ||
        !begins(path, FUNCTIONS, sizeof FUNCTIONS - 1))
        return HTTP_OTHER;
    path = from(path, sizeof FUNCTIONS - 1);
    if (!cut(&path, '/', &request->name) || !same(path, (struct http_text){"invocations", sizeof "invocations" - 1}) ||
        request->name.size == 0 || request->name.size > HTTP_NAME)
        return HTTP_OTHER;
    for (size_t at = 0; at < request->name.size; at++)
        if (!is_name(request->name.data[at]))
            return HTTP_OTHER;
    return HTTP_INVOKE;
}

enum http_found http_read(const char *data, size_t size, struct http_request *request)
{
    struct http_text rest = {data, size}, line;
    size_t length = 0;
    bool passed = false, typed = false;

    request->query = request->host = request->name = (struct http_text){NULL, 0};
    request->by_host = false;
    request->count = 0;
    for (bool first = true;; first = false) {
        if (!cut(&rest, '\n', &line) || line.size == 0 || line.data[--line.size] != '\r' ||
            (size_t)(rest.data - data) > HTTP_HEAD)
            return HTTP_OTHER;
        if (line.size == 0) {
            if (first)
                return HTTP_OTHER;
            break;
        }
        if (!(first ? read_line(line, request) : read_field(line, request)))
            return HTTP_OTHER;
    }
    if (!understood(request, &length, &passed, &typed))
        return HTTP_OTHER;
    enum http_found found = route(request, passed, typed);
    if (found == HTTP_OTHER || rest.size > length)
        return HTTP_OTHER;
    request->body = rest;
    return rest.size < length ? HTTP_COMING : found;
}
