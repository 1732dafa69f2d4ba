/* A request as the event of payload format 2.0: http.h. The order of members is that of engine/rest/payload2.py. */
#include "http/text.h"

#include <time.h>

enum { NUMBER_DIGITS = 20, TIME = 64, PARAMETERS = 32 };
static const int64_t S = 1000000000, MS = 1000000;

void put_number(struct sink *sink, uint64_t number)
{
    char digits[NUMBER_DIGITS];
    size_t at = NUMBER_DIGITS;

    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put(sink, digits + at, NUMBER_DIGITS - at);
}

/* What is inside of a JSON string: ASCII, escaped as orjson does. */
static void put_escaped(struct sink *sink, struct http_text text)
{
    static const char HEX[] = "0123456789abcdef";
    static const char SHORT[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
    size_t from = 0;

    for (size_t at = 0; at < text.size; at++) {
        unsigned char one = (unsigned char)text.data[at];
        if (one >= ' ' && one != '"' && one != '\\')
            continue;
        put(sink, text.data + from, at - from);
        from = at + 1;
        put_char(sink, '\\');
        if (one >= ' ')
            put_char(sink, (char)one);
        else if (one < sizeof SHORT && SHORT[one] != 0)
            put_char(sink, SHORT[one]);
        else {
            PUT(sink, "u00");
            put_char(sink, HEX[one >> 4]);
            put_char(sink, HEX[one & 15]);
        }
    }
    if (from < text.size)
        put(sink, text.data + from, text.size - from);
}

static void put_string(struct sink *sink, struct http_text text)
{
    put_char(sink, '"');
    put_escaped(sink, text);
    put_char(sink, '"');
}

static void put_base64(struct sink *sink, struct http_text text)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *data = (const uint8_t *)text.data;
    size_t at = 0;

    for (; at + 2 < text.size; at += 3) {
        uint32_t bits = (uint32_t)data[at] << 16 | (uint32_t)data[at + 1] << 8 | data[at + 2];
        char four[] = {DIGITS[bits >> 18], DIGITS[bits >> 12 & 63], DIGITS[bits >> 6 & 63], DIGITS[bits & 63]};
        put(sink, four, sizeof four);
    }
    if (at < text.size) {
        bool two = text.size - at == 2;
        uint32_t bits = (uint32_t)data[at] << 16 | (two ? (uint32_t)data[at + 1] << 8 : 0);
        char four[] = {DIGITS[bits >> 18], DIGITS[bits >> 12 & 63], two ? DIGITS[bits >> 6 & 63] : '=', '='};
        put(sink, four, sizeof four);
    }
}

static struct http_text value_of(const struct http_request *request, const char *name, size_t size)
{
    for (size_t at = 0; at < request->count; at++)
        if (is(request->fields[at].name, name, size))
            return request->fields[at].value;
    return (struct http_text){NULL, 0};
}

#define VALUE(request, name) value_of(request, name, sizeof(name) - 1)

static void put_headers(struct sink *sink, const struct http_request *request, const struct http_call *call)
{
    struct http_text host = request->host;
    size_t port = host.size;

    PUT(sink, "\"headers\":{");
    for (size_t at = 0; at < request->count; at++) {
        struct http_text name = request->fields[at].name;
        put_char(sink, '"');
        for (size_t letter = 0; letter < name.size; letter++)
            put_char(sink, lower(name.data[letter]));
        PUT(sink, "\":");
        put_string(sink, request->fields[at].value);
        put_char(sink, ',');
    }
    PUT(sink, "\"x-forwarded-for\":\"");
    put_text(sink, call->client);
    PUT(sink, "\",\"x-forwarded-proto\":\"http\",\"x-forwarded-port\":\"");
    while (port > 0 && is_digit(host.data[port - 1]))
        port--;
    if (port > 0 && port < host.size && host.data[port - 1] == ':')
        put(sink, host.data + port, host.size - port);
    else
        PUT(sink, "80");
    PUT(sink, "\"}");
}

static bool put_time(struct sink *sink, int64_t wall_ns)
{
    static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t seconds = wall_ns / S;
    struct tm now;

    if (gmtime_r(&seconds, &now) == NULL || now.tm_year < 0 || now.tm_year > 8099)
        return false;
    int year = now.tm_year + 1900;
    char text[] = "00/Mon/0000:00:00:00 +0000";
    const int parts[][3] = {
        {0, 2, now.tm_mday}, {7, 4, year}, {12, 2, now.tm_hour}, {15, 2, now.tm_min}, {18, 2, now.tm_sec}};
    memcpy(text + 3, MONTHS + 3 * now.tm_mon, 3);
    for (size_t part = 0; part < sizeof parts / sizeof parts[0]; part++)
        for (int digit = parts[part][1], left = parts[part][2]; digit > 0; left /= 10)
            text[parts[part][0] + --digit] = (char)('0' + left % 10);
    PUT(sink, "\"time\":\"");
    put(sink, text, sizeof text - 1);
    PUT(sink, "\",\"timeEpoch\":");
    put_number(sink, (uint64_t)(wall_ns / MS));
    return true;
}

static void put_cookies(struct sink *sink, struct http_text cookie)
{
    PUT(sink, ",\"cookies\":[");
    for (size_t at = 0;;) {
        size_t end = at;
        while (end < cookie.size && cookie.data[end] != ';')
            end++;
        size_t first = at, last = end;
        while (first < last && cookie.data[first] == ' ')
            first++;
        while (last > first && cookie.data[last - 1] == ' ')
            last--;
        put_string(sink, (struct http_text){cookie.data + first, last - first});
        if (end == cookie.size)
            break;
        put_char(sink, ',');
        at = end + 1;
    }
    put_char(sink, ']');
}

/* Nothing in it is encoded: http_read takes no other. False where a name is there twice. */
static bool put_parameters(struct sink *sink, struct http_text query)
{
    struct http_text names[PARAMETERS];
    size_t count = 0;

    PUT(sink, ",\"queryStringParameters\":{");
    for (size_t at = 0; at < query.size;) {
        size_t end = at, equals;
        while (end < query.size && query.data[end] != '&')
            end++;
        for (equals = at; equals < end && query.data[equals] != '=';)
            equals++;
        struct http_text name = {query.data + at, equals - at};
        size_t value = equals < end ? equals + 1 : end;
        if (end > at) {
            for (size_t other = 0; other < count; other++)
                if (same(names[other], name))
                    return false;
            if (count == PARAMETERS)
                return false;
            names[count++] = name;
            if (count > 1)
                put_char(sink, ',');
            put_string(sink, name);
            put_char(sink, ':');
            put_string(sink, (struct http_text){query.data + value, end - value});
        }
        at = end + 1;
    }
    put_char(sink, '}');
    return true;
}

/* Whether a body of this type is text: 1; 0: it is not; -1: not certain. */
static int is_text(struct http_text type)
{
    struct http_text mime = type;

    if (type.data == NULL || is((struct http_text){type.data, type.size < 5 ? type.size : 5}, "text/", 5))
        return 1;
    for (mime.size = 0; mime.size < type.size && type.data[mime.size] != ';';)
        mime.size++;
    while (mime.size > 0 && mime.data[mime.size - 1] == ' ')
        mime.size--;
    if (IS(mime, "application/json") || IS(mime, "application/xml") || IS(mime, "application/javascript"))
        return 1;
    if (mime.size == type.size &&
        (IS(mime, "application/octet-stream") || IS(mime, "application/x-www-form-urlencoded")))
        return 0;
    return -1;
}

static bool put_body(struct sink *sink, const struct http_request *request, int text)
{
    if (text == 0) {
        PUT(sink, ",\"isBase64Encoded\":true");
    } else {
        for (size_t at = 0; at < request->body.size; at++)
            if ((unsigned char)request->body.data[at] >= 0x80)
                return false;
        PUT(sink, ",\"isBase64Encoded\":false");
    }
    return true;
}

size_t http_event(const struct http_request *request, const struct http_call *call, char *to, size_t room)
{
    struct sink sink = {to, to + room, false};
    struct http_text cookie = VALUE(request, "cookie"), agent = VALUE(request, "user-agent");
    int text = request->body.size > 0 ? is_text(VALUE(request, "content-type")) : 1;

    if (text < 0)
        return 0;
    PUT(&sink, "{\"version\":\"2.0\",\"routeKey\":\"$default\",\"rawPath\":");
    put_string(&sink, request->path);
    PUT(&sink, ",\"rawQueryString\":");
    put_string(&sink, request->query);
    put_char(&sink, ',');
    put_headers(&sink, request, call);
    PUT(&sink, ",\"requestContext\":{\"accountId\":\"anonymous\",\"apiId\":\"");
    put_text(&sink, request->name);
    PUT(&sink, "\",\"domainName\":\"");
    put_text(&sink, call->domain);
    PUT(&sink, "\",\"domainPrefix\":\"");
    put_text(&sink, request->name);
    PUT(&sink, "\",\"http\":{\"method\":\"");
    put_text(&sink, request->method);
    PUT(&sink, "\",\"path\":");
    put_string(&sink, request->path);
    PUT(&sink, ",\"protocol\":\"HTTP/1.1\",\"sourceIp\":\"");
    put_text(&sink, call->client);
    PUT(&sink, "\",\"userAgent\":");
    put_string(&sink, agent);
    PUT(&sink, "},\"requestId\":\"");
    put(&sink, call->request_id, 36);
    PUT(&sink, "\",\"routeKey\":\"$default\",\"stage\":\"$default\",");
    if (!put_time(&sink, call->wall_ns))
        return 0;
    put_char(&sink, '}');
    if (!put_body(&sink, request, text))
        return 0;
    if (cookie.data != NULL)
        put_cookies(&sink, cookie);
    if (request->query.size > 0 && !put_parameters(&sink, request->query))
        return 0;
    if (request->body.size > 0) {
        PUT(&sink, ",\"body\":");
        if (text)
            put_string(&sink, request->body);
        else {
            put_char(&sink, '"');
            put_base64(&sink, request->body);
            put_char(&sink, '"');
        }
    }
    put_char(&sink, '}');
    return sink.full ? 0 : (size_t)(sink.at - to);
}
