/* The fork server as a module for zygotes, on the limited API: one build serves every Python from 3.9 on.
 *
 * It only converts and calls: what happens is in native/box/forkserver.c and mounts.c. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "box.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>

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
    if (box_zygote_shed(&err) < 0)
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

static PyObject *trim(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    malloc_trim(0);
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

static PyObject *serve(PyObject *module, PyObject *args)
{
    static const struct box_fork_hooks hooks = {PyOS_BeforeFork, PyOS_AfterFork_Parent, PyOS_AfterFork_Child};
    struct box_error err = {0};
    struct box_boot boot = {0};
    int sock, journal;

    (void)module;
    if (!PyArg_ParseTuple(args, "ii", &sock, &journal))
        return NULL;
    /* With the GIL held: a zygote has one thread, and nothing else may run while it forks. */
    int outcome = box_forkserver(sock, journal, &hooks, &boot, &err);
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
    {"tmpfs", tmpfs, METH_VARARGS, "tmpfs(bytes: int, files: int) -> int\n\nA /tmp in memory, as a detached mount."},
    {"trim", trim, METH_NOARGS, "trim() -> None\n\nGive free heap back, so that forks do not inherit it."},
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
