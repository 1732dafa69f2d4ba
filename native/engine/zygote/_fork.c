/* The fork server as a module for zygotes, on the limited API: one build serves every Python from 3.9 on.
 *
 * It only converts and calls: what happens is in native/box/forkserver.c and mounts.c. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "box.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static const struct box_fork_hooks HOOKS = {PyOS_BeforeFork, PyOS_AfterFork_Parent, PyOS_AfterFork_Child};

static PyObject *raise_box_error(const struct box_error *err)
{
    PyObject *what = PyUnicode_FromFormat("%s: %s", err->stage, err->text);
    PyObject *args = what == NULL ? NULL : Py_BuildValue("iO", err->errnum, what);
    if (args != NULL)
        PyErr_SetObject(PyExc_OSError, args);
    Py_XDECREF(args);
    Py_XDECREF(what);
    return NULL;
}

static PyObject *enter_root(PyObject *module, PyObject *args)
{
    PyObject *prefixes;
    unsigned int uid_base, uid_count;
    int own_user;
    const char *paths[8], *name;
    struct box_error err = {0};

    (void)module;
    if (!PyArg_ParseTuple(args, "O!IIps", &PyTuple_Type, &prefixes, &uid_base, &uid_count, &own_user, &name))
        return NULL;
    Py_ssize_t count = PyTuple_Size(prefixes);
    if (count > 8)
        return PyErr_Format(PyExc_ValueError, "at most 8 prefixes, not %zd", count);
    for (Py_ssize_t which = 0; which < count; which++) {
        PyObject *encoded = PyTuple_GetItem(prefixes, which);
        if (!PyBytes_Check(encoded))
            return PyErr_Format(PyExc_TypeError, "prefixes are bytes");
        paths[which] = PyBytes_AsString(encoded);
    }
    if (box_zygote_shed(own_user, &err) < 0)
        return raise_box_error(&err);
    if (box_root_enter(paths, (size_t)count, uid_base, uid_count, own_user, name, &err) < 0 ||
        box_zygote_leave_host(&err) < 0)
        return raise_box_error(&err);
    Py_RETURN_NONE;
}

static PyObject *enter_user(PyObject *module, PyObject *args)
{
    struct box_error err = {0};
    int mapped;

    (void)module;
    if (!PyArg_ParseTuple(args, "p", &mapped))
        return NULL;
    if (box_user_enter(mapped, &err) < 0)
        return raise_box_error(&err);
    Py_RETURN_NONE;
}

static PyObject *try_user(PyObject *module, PyObject *unused)
{
    struct box_error err = {0};

    (void)module, (void)unused;
    if (box_user_try(&err) < 0)
        return raise_box_error(&err);
    Py_RETURN_NONE;
}

static PyObject *code_mount(PyObject *module, PyObject *args)
{
    struct box_error err = {0};
    const char *path, *nothing = NULL;

    (void)module;
    if (!PyArg_ParseTuple(args, "y|y", &path, &nothing))
        return NULL;
    int fd = box_code_mount(path, nothing, &err);
    return fd < 0 ? raise_box_error(&err) : PyLong_FromLong(fd);
}

static PyObject *merged_mount(PyObject *module, PyObject *args)
{
    struct box_error err = {0};
    const char *nothing, *paths[BOX_MAX_LAYERS] = {NULL};
    size_t count = 0;

    (void)module;
    if (!PyArg_ParseTuple(args, "yy|yyyy", &nothing, &paths[0], &paths[1], &paths[2], &paths[3], &paths[4]))
        return NULL;
    while (count < BOX_MAX_LAYERS && paths[count] != NULL)
        count++;
    int fd = box_merged_mount(paths, count, nothing, &err);
    return fd < 0 ? raise_box_error(&err) : PyLong_FromLong(fd);
}

static PyObject *tmpfs(PyObject *module, PyObject *args)
{
    struct box_error err = {0};
    struct box_scratch scratch;
    unsigned long long bytes, files;

    (void)module;
    if (!PyArg_ParseTuple(args, "KK", &bytes, &files))
        return NULL;
    return box_scratch_tmpfs(&scratch, bytes, files, &err) < 0 ? raise_box_error(&err) : PyLong_FromLong(scratch.mount);
}

static PyObject *mount_own(PyObject *module, PyObject *args)
{
    struct box_error err = {0};
    const char *path;
    int mount;

    (void)module;
    if (!PyArg_ParseTuple(args, "is", &mount, &path))
        return NULL;
    if (box_mount_own(mount, path, &err) < 0)
        return raise_box_error(&err);
    Py_RETURN_NONE;
}

static PyObject *trim(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    malloc_trim(0);
    Py_RETURN_NONE;
}

/* All of them at once, in one piece of memory: the C library's own calls keep each value that they have ever seen in a
 * tree, and each start would write all over it. */
static PyObject *put_environment(PyObject *module, PyObject *args)
{
    static char **own; /* which nobody else frees: environ(7) */
    PyObject *variables, *name, *value;
    Py_ssize_t position = 0;
    size_t bytes = 0, count = 0;

    (void)module;
    if (!PyArg_ParseTuple(args, "O!", &PyDict_Type, &variables))
        return NULL;
    while (PyDict_Next(variables, &position, &name, &value)) {
        if (!PyBytes_Check(name) || !PyBytes_Check(value))
            return PyErr_Format(PyExc_TypeError, "names and values are bytes");
        size_t length = (size_t)PyBytes_Size(name);
        if (length == 0 || memchr(PyBytes_AsString(name), '=', length) != NULL ||
            strlen(PyBytes_AsString(name)) != length || strlen(PyBytes_AsString(value)) != (size_t)PyBytes_Size(value))
            return PyErr_Format(PyExc_ValueError, "no environment variable can be %R", name);
        bytes += length + (size_t)PyBytes_Size(value) + 2;
        count++;
    }
    char **made = malloc((count + 1) * sizeof *made + bytes);
    if (made == NULL)
        return PyErr_NoMemory();
    char *text = (char *)(made + count + 1);
    position = 0;
    for (size_t which = 0; PyDict_Next(variables, &position, &name, &value); which++) {
        made[which] = text;
        memcpy(text, PyBytes_AsString(name), (size_t)PyBytes_Size(name));
        text += PyBytes_Size(name);
        *text++ = '=';
        memcpy(text, PyBytes_AsString(value), (size_t)PyBytes_Size(value) + 1);
        text += PyBytes_Size(value) + 1;
    }
    made[count] = NULL;
    environ = made;
    free(own);
    own = made;
    Py_RETURN_NONE;
}

static PyObject *note_pages(PyObject *module, PyObject *args)
{
    struct box_error err = {0};
    int proc;

    (void)module;
    if (!PyArg_ParseTuple(args, "i", &proc))
        return NULL;
    if (box_pages_note(proc, &err) < 0)
        return raise_box_error(&err);
    Py_RETURN_NONE;
}

static PyObject *try_pages(PyObject *module, PyObject *args)
{
    static struct box_pages runs[4096];
    struct box_error err = {0};
    int told, tell;

    (void)module;
    if (!PyArg_ParseTuple(args, "ii", &told, &tell))
        return NULL;
    ssize_t count = box_pages_trial(told, tell, &HOOKS, runs, sizeof runs / sizeof *runs, &err);
    return count < 0 ? raise_box_error(&err)
                     : PyBytes_FromStringAndSize((char *)runs, count * (Py_ssize_t)sizeof *runs);
}

static PyObject *tell_pages(PyObject *module, PyObject *args)
{
    struct box_error err = {0};
    int proc, fd;

    (void)module;
    if (!PyArg_ParseTuple(args, "ii", &proc, &fd))
        return NULL;
    if (box_pages_tell(proc, fd, &err) < 0)
        return raise_box_error(&err);
    Py_RETURN_NONE;
}

static PyObject *touch(PyObject *module, PyObject *args)
{
    struct box_error err = {0};
    const char *runs;
    Py_ssize_t size;

    (void)module;
    if (!PyArg_ParseTuple(args, "y#", &runs, &size))
        return NULL;
    if (box_pages_touch((const struct box_pages *)runs, (size_t)size / sizeof(struct box_pages), &err) < 0)
        return raise_box_error(&err);
    Py_RETURN_NONE;
}

static PyObject *pack_pages(PyObject *module, PyObject *args)
{
    struct box_error err = {0};
    int proc;

    (void)module;
    if (!PyArg_ParseTuple(args, "i", &proc))
        return NULL;
    if (box_pages_pack(proc, &err) < 0)
        return raise_box_error(&err);
    Py_RETURN_NONE;
}

static PyObject *line_buffer(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    /* A pipe's stream is written when its buffer is full: what C code prints would be out of order, and a later
     * invocation's. */
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    Py_RETURN_NONE;
}

static PyObject *flush(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    /* A thread that is writing has the lock, and flushes what it has. */
    if (ftrylockfile(stdout) == 0) {
        fflush_unlocked(stdout);
        funlockfile(stdout);
    }
    Py_RETURN_NONE;
}

static PyObject *end_with_parent(PyObject *module, PyObject *args)
{
    unsigned seconds;

    (void)module;
    if (!PyArg_ParseTuple(args, "I", &seconds))
        return NULL;
    signal(SIGALRM, SIG_DFL);
    alarm(seconds);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Py_RETURN_NONE;
}

static PyObject *serve(PyObject *module, PyObject *args)
{
    struct box_error err = {0};
    struct box_boot boot = {0};
    int sock, journal;

    (void)module;
    if (!PyArg_ParseTuple(args, "ii", &sock, &journal))
        return NULL;
    /* With the GIL held: a zygote has one thread, and nothing else may run while it forks. */
    int outcome = box_forkserver(sock, journal, &HOOKS, &boot, &err);
    if (outcome < 0)
        return raise_box_error(&err);
    return Py_BuildValue("iy#", outcome, (const char *)boot.ns, (Py_ssize_t)sizeof boot.ns);
}

static PyMethodDef METHODS[] = {
    {"enter_root", enter_root, METH_VARARGS,
     "enter_root(prefixes: tuple[bytes, ...], uid_base: int, uid_count: int, own_user: bool, name: str) -> None\n\n"
     "Leave the host's file system for the minimal read-only root, and the host's network. Once, in a zygote. With "
     "own_user in a user namespace."},
    {"enter_user", enter_user, METH_VARARGS,
     "enter_user(mapped: bool) -> None\n\n"
     "Leave the host's user and mount namespaces; with `mapped` somebody else maps the ids."},
    {"try_user", try_user, METH_NOARGS, "try_user() -> None\n\nSee whether a sandbox of this namespace can be had."},
    {"code_mount", code_mount, METH_VARARGS,
     "code_mount(path: bytes, nothing: bytes = None) -> int\n\nA folder as a detached mount."},
    {"merged_mount", merged_mount, METH_VARARGS,
     "merged_mount(nothing: bytes, *paths: bytes) -> int\n\nFolders as one detached mount, the first on top."},
    {"tmpfs", tmpfs, METH_VARARGS, "tmpfs(bytes: int, files: int) -> int\n\nA /tmp in memory, as a detached mount."},
    {"mount_own", mount_own, METH_VARARGS,
     "mount_own(mount: int, path: str) -> None\n\nAttach a detached mount for this process alone."},
    {"trim", trim, METH_NOARGS, "trim() -> None\n\nGive free heap back, so that forks do not inherit it."},
    {"put_environment", put_environment, METH_VARARGS,
     "put_environment(variables: dict[bytes, bytes]) -> None\n\nMake them the whole environment."},
    {"note_pages", note_pages, METH_VARARGS,
     "note_pages(proc: int) -> None\n\nNote what there is to write to, before a fork."},
    {"try_pages", try_pages, METH_VARARGS,
     "try_pages(told: int, tell: int) -> bytes\n\nFork: nothing in the fork, which is to tell its pages, and these in "
     "the other process."},
    {"end_with_parent", end_with_parent, METH_VARARGS,
     "end_with_parent(seconds: int) -> None\n\nEnd with the process that forked this one, or after so many seconds."},
    {"tell_pages", tell_pages, METH_VARARGS,
     "tell_pages(proc: int, fd: int) -> None\n\nWrite which pages this fork has written: struct box_pages."},
    {"touch", touch, METH_VARARGS, "touch(pages: bytes) -> None\n\nMake such pages this process's own."},
    {"pack_pages", pack_pages, METH_VARARGS,
     "pack_pages(proc: int) -> None\n\nMove this process's memory into large pages."},
    {"line_buffer", line_buffer, METH_NOARGS, "line_buffer() -> None\n\nWrite what C code prints by lines."},
    {"flush", flush, METH_NOARGS, "flush() -> None\n\nWrite what C code printed without a line's end."},
    {"serve", serve, METH_VARARGS,
     "serve(sock: int, journal: int) -> tuple[int, bytes]\n\n"
     "Fork on request. 1 in each sandbox, 2 in one that parks, 0 in the zygote when the engine left; and the moments "
     "of "
     "the sandbox's set-up: struct box_boot."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, .m_name = "_fork", .m_doc = "The fork server.", .m_size = 0,
                                    .m_methods = METHODS};

PyMODINIT_FUNC PyInit__fork(void)
{
    return PyModuleDef_Init(&MODULE);
}
