"""See engine/rest/_http.pyi. A connection's express lane over native/http and the door (native/sched/door.h).

A connection has at most one call under way here, whose memory is the connection's: it is kept by a reference from
submit to told or handed. The functions that the door tells by never raise into it: what goes wrong goes to the loop's
exception handler, and the connection is cut.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memchr, memset, strlen
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec

cdef extern from "<stdbool.h>":
    ctypedef bint c_bool "bool"

cdef extern from "sched/door.h":
    const char *DOOR_CAPSULE
    enum:
        LOOP_ID
        LOOP_TAKEN
        LOOP_EVENT_MOST

    struct loop_line:
        const char *version

    struct loop_call:
        const loop_line *line
        const uint8_t *payload
        size_t payload_size
        char request_id[36]
        int64_t accepted_ns
        const uint8_t *answer
        size_t answer_size
        int64_t answered_ns

    struct door_call:
        loop_call loop
        void (*told)(door_call *) noexcept
        void (*handed)(door_call *, void *) noexcept
        void *user
        c_bool under_way

    struct door:
        void *self
        const loop_line *(*line)(void *, const char *, size_t) noexcept
        int (*new_id)(void *, char *) noexcept
        int (*submit)(void *, door_call *) noexcept
        void (*cancel)(void *, door_call *) noexcept

cdef extern from "http/http.h":
    enum:
        HTTP_STATUSES

    struct http_text:
        const char *data
        size_t size

    enum http_found:
        HTTP_OTHER
        HTTP_COMING
        HTTP_INVOKE
        HTTP_URL

    struct http_request:
        http_text name, method, path, query, host, body
        c_bool by_host

    struct http_call:
        http_text client, domain
        const char *request_id
        int64_t wall_ns

    struct http_frame:
        const http_text *status_lines
        http_text fields
        const char *request_id

    http_found http_read(const char *, size_t, http_request *)
    size_t http_event(const http_request *, const http_call *, char *, size_t)
    size_t http_answer(const char *, size_t, const http_frame *, char *, size_t)
    size_t http_invoked(const char *, size_t, http_text, const http_frame *, char *, size_t)

cdef enum:
    OUT = 262144  # an answer of what the loop takes fits in


cdef http_text text_of(bytes data):
    cdef http_text text
    text.data, text.size = PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
    return text


cdef int64_t now_ns(bint wall) noexcept:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME if wall else CLOCK_MONOTONIC, &now)
    return now.tv_sec * <int64_t>1000000000 + now.tv_nsec


cdef class Frame:
    """What is around answers: status lines, and the fields of every one."""

    cdef http_text lines[HTTP_STATUSES]
    cdef object _kept
    cdef object _seen
    cdef bytes _fields

    def __init__(self, status_lines):
        self._kept = dict(status_lines)
        memset(self.lines, 0, sizeof(self.lines))
        for status, line in self._kept.items():
            self.lines[status] = text_of(line)
        self._fields = b""

    cdef set(self, fields):
        """These, until there are others."""
        if fields is not self._seen:
            self._fields = b"".join([b"%b: %b\r\n" % (name, value) for name, value in fields])
            self._seen = fields

    cdef http_frame around(self, const char *request_id):
        cdef http_frame frame
        frame.status_lines, frame.fields, frame.request_id = self.lines, text_of(self._fields), request_id
        return frame


cdef class Express:
    cdef object _capsule
    cdef door *_door
    cdef Frame _frame
    cdef object _state, _attached, _find, _slow, _revision
    cdef readonly bint stops
    cdef public object forget
    cdef dict _known
    cdef readonly size_t taken, told, handed
    cdef char _out[OUT]

    def __init__(self, capsule, status_lines, state, attached, find, slow, bint stops):
        self._capsule = capsule
        self._door = <door *>PyCapsule_GetPointer(capsule, DOOR_CAPSULE)
        self._frame = Frame(status_lines)
        self._state, self._attached, self._find, self._slow, self.stops = state, attached, find, slow, stops
        self._known = {}

    cdef tuple url(self, http_text url_id):
        """The function of a URL and the name of its host, as bytes; None where calls of it are not plain."""
        revision = self._attached.revision
        if revision is not self._revision:
            self._known.clear()
            self._revision = revision
        key = url_id.data[:url_id.size]
        found = self._known.get(key, self)
        if found is self:
            found = self._find(key.decode("ascii"))
            if found is not None:  # ids that somebody makes up fill no memory
                self._known[key] = found
        return found


cdef class ExpressConnection:
    """See the stub. What follows the first look at some bytes is C until they are in a sandbox's pipe, and from its
    answer until that is in the transport."""

    cdef Express _express
    cdef door_call _call
    cdef bytes _data, _event
    cdef object _write, _adopted
    cdef bytes _client
    cdef bint _by_url
    cdef public bint resting
    cdef public bint timed
    cdef public bint timed_by_server
    cdef readonly int64_t active_ns

    def __cinit__(self, *_, **__):
        memset(&self._call, 0, sizeof(self._call))
        self._call.told, self._call.handed, self._call.user = call_told, call_handed, <void *>self

    def join(self, Express express, transport, str client not None):
        self._express = express
        if express is None:
            return
        self._write = transport.write
        self._client = client.encode("ascii", "replace")
        self.resting = True

    @property
    def under_way(self):
        return bool(self._call.under_way)

    @property
    def held(self):
        return self._data if not self._call.under_way else None

    def take_held(self):
        held, self._data = self._data, None
        return held

    def data_received(self, bytes data not None):
        cdef http_request request
        cdef http_found found
        if self._call.under_way:
            self.adopt()
            self.feed(data)
            return
        if self.timed_by_server:
            self.timed_by_server = False
            self._unset_keepalive_if_required()
        if not self.resting or self._express is None:
            self.feed(data)
            return
        if self._data is not None:
            data, self._data = self._data + data, None
        found = http_read(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &request)
        if found == HTTP_COMING:
            self._data = data
        elif found == HTTP_OTHER or not self.submit(data, &request, found == HTTP_URL):
            self.feed(data)

    cdef bint submit(self, bytes data, http_request *request, bint by_url) except -1:
        cdef Express express = self._express
        cdef door_call *call = &self._call
        cdef http_text name = request.name
        cdef http_call about
        cdef size_t size
        cdef const char *colon
        cdef tuple url = None
        if by_url:
            url = express.url(name)
            if url is None:
                return False
            name = text_of(<bytes>url[0])
        call.loop.line = express._door.line(express._door.self, name.data, name.size)
        if call.loop.line == NULL or express._door.new_id(express._door.self, call.loop.request_id) < 0:
            return False
        call.loop.accepted_ns = self.active_ns = now_ns(False)
        if by_url:
            about.client, about.request_id, about.wall_ns = text_of(self._client), call.loop.request_id, now_ns(True)
            about.domain = text_of(<bytes>url[1])
            if request.by_host:
                about.domain = request.host
                colon = <const char *>memchr(request.host.data, b":", request.host.size)
                if colon != NULL:
                    about.domain.size = colon - request.host.data
            size = http_event(request, &about, express._out, LOOP_EVENT_MOST)
            if size == 0:
                return False
            self._event = PyBytes_FromStringAndSize(express._out, size)
            call.loop.payload, call.loop.payload_size = <const uint8_t *>PyBytes_AS_STRING(self._event), size
        elif request.body.size:
            call.loop.payload, call.loop.payload_size = <const uint8_t *>request.body.data, request.body.size
        else:
            call.loop.payload, call.loop.payload_size = <const uint8_t *>b"{}", 2
        self._data, self._by_url = data, by_url
        Py_INCREF(self)
        if express._door.submit(express._door.self, call) != LOOP_TAKEN:
            self._data = self._event = None
            Py_DECREF(self)
            return False
        express.taken += 1
        return True

    def adopt(self):
        """The HTTP server goes on with the request that is under way, unless it does: it has it from the first byte."""
        if self._adopted is not None:
            return
        self._adopted = self.resume(self._id(), self._by_url, self._version())
        self.feed(self._data)

    def leave(self):
        """Nobody waits for the call that is under way."""
        if self._call.under_way:
            self._express._door.cancel(self._express._door.self, &self._call)
            self._over()
            Py_DECREF(self)

    cdef str _id(self):
        return self._call.loop.request_id[:LOOP_ID].decode("ascii")

    cdef str _version(self):
        return (<bytes>self._call.loop.line.version).decode("ascii")

    cdef _over(self):
        self._data = self._event = self._adopted = None

    cdef _told(self):
        cdef Express express = self._express
        cdef const char *answer = <const char *>self._call.loop.answer
        cdef size_t size = self._call.loop.answer_size, written
        cdef http_text version
        cdef http_frame frame
        adopted = self._adopted
        self._over()
        express.told += 1
        self.active_ns = self._call.loop.answered_ns
        if adopted is not None:
            adopted(answer[:size])
            return
        if self._write is None:
            return
        express._frame.set(express._state.default_headers)
        frame = express._frame.around(self._call.loop.request_id)
        if self._by_url:
            written = http_answer(answer, size, &frame, express._out, OUT)
        else:
            version.data = self._call.loop.line.version
            version.size = strlen(version.data)
            written = http_invoked(answer, size, version, &frame, express._out, OUT)
        if written:
            self._write(PyBytes_FromStringAndSize(express._out, written))
        else:
            self._write(express._slow(answer[:size], self._id(), express._frame._fields, self._by_url, self._version()))
        express._state.total_requests += 1
        if not self.timed:
            self.timed = True
            self.time_out()

    def lost(self):
        """The connection is gone: nothing is written any more."""
        self._write = None
        if not self._call.under_way:
            self._data = None


cdef void call_told(door_call *call) noexcept:
    cdef ExpressConnection connection = <ExpressConnection>call.user
    try:
        connection._told()
    except BaseException as error:
        connection.failed(error)
    Py_DECREF(connection)


cdef void call_handed(door_call *call, void *standing) noexcept:
    cdef ExpressConnection connection = <ExpressConnection>call.user
    try:
        on = None if standing == NULL else <object>standing
        adopted, data = connection._adopted, connection._data
        about = connection._id(), connection._by_url, connection._version()
        connection._over()
        connection._express.handed += 1
        if adopted is not None:
            adopted(on)
        else:
            connection.resume(*about)(on)
            if connection._write is not None:
                connection.feed(data)
            else:
                connection.unheard()
    except BaseException as error:
        connection.failed(error)
    Py_DECREF(connection)


# --- For tests: what the parts in C do, each by itself ----------------------------------------------------------------


cdef str word_of(http_text text):
    return text.data[:text.size].decode("ascii") if text.size else ""


def recognise(bytes data not None):
    """What a connection's bytes are: None for what is left to the HTTP server, "coming", or a dict of the request."""
    cdef http_request request
    cdef http_found found = http_read(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &request)
    if found == HTTP_OTHER:
        return None
    if found == HTTP_COMING:
        return "coming"
    return {
        "kind": "url" if found == HTTP_URL else "invoke",
        "name": word_of(request.name),
        "method": word_of(request.method),
        "path": word_of(request.path),
        "query": word_of(request.query),
        "host": word_of(request.host),
        "body": request.body.data[:request.body.size] if request.body.size else b"",
        "by_host": bool(request.by_host),
    }


def event(bytes data not None, str client not None, str domain not None, str request_id not None, int64_t wall_ns,
          size_t room=LOOP_EVENT_MOST):
    """The event of a URL's request; None where it is not certain."""
    cdef http_request request
    cdef http_call about
    cdef bytes kept_client = client.encode("ascii"), kept_domain = domain.encode("ascii")
    cdef bytes kept_id = request_id.encode("ascii"), out = PyBytes_FromStringAndSize(NULL, room)
    if http_read(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &request) != HTTP_URL or len(kept_id) != LOOP_ID:
        raise ValueError("not a whole request to a URL, or no UUID")
    about.client, about.domain = text_of(kept_client), text_of(kept_domain)
    about.request_id, about.wall_ns = PyBytes_AS_STRING(kept_id), wall_ns
    cdef size_t size = http_event(&request, &about, PyBytes_AS_STRING(out), room)
    return out[:size] if size else None


def answer(bytes result not None, str request_id not None, status_lines, fields, version=None,
           size_t room=OUT):
    """The answer to a URL's call, or of what Invoke has run; None where it is not certain."""
    cdef Frame frame = Frame(status_lines)
    cdef bytes kept_id = request_id.encode("ascii"), out = PyBytes_FromStringAndSize(NULL, room)
    cdef bytes kept_version = (version or "").encode("ascii")
    cdef size_t size
    if len(kept_id) != LOOP_ID:
        raise ValueError("no UUID")
    frame.set(fields)
    cdef http_frame around = frame.around(PyBytes_AS_STRING(kept_id))
    if version is None:
        size = http_answer(result, len(result), &around, PyBytes_AS_STRING(out), room)
    else:
        size = http_invoked(result, len(result), text_of(kept_version), &around, PyBytes_AS_STRING(out), room)
    return out[:size] if size else None
