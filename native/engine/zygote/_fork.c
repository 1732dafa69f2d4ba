/* The fork server as a module for zygotes, on the limited API: one build serves every Python from 3.9 on.
 *
 * It only converts and calls: what happens is in native/box/forkserver.c and mounts.c. */
#include <Python.h>

#include "box.h"

#include <malloc.h>
#include <string.h>

static PyObject *raise_box_error(const struct box_error *err)
{
    return PyErr_Format(PyExc_OSError, "%s: %s", err->stage, err->text);
}

static PyObject *enter_root(PyObject *module, PyObject *args)
{
    PyObject *prefixes;
    unsigned int uid_base, uid_count;
    const char *paths[8];
    struct box_error err = {0};

    (void)module;
    if (!PyArg_ParseTuple(args, "O!II", &PyTuple_Type, &prefixes, &uid_base, &uid_count))
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
    if (box_root_enter(paths, (size_t)count, uid_base, uid_count, &err) < 0)
        return raise_box_error(&err);
    Py_RETURN_NONE;
}

static PyObject *trim(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    malloc_trim(0);
    Py_RETURN_NONE;
}

static PyObject *serve(PyObject *module, PyObject *args)
{
    static const struct box_fork_hooks hooks = {PyOS_BeforeFork, PyOS_AfterFork_Parent, PyOS_AfterFork_Child};
    struct box_error err = {0};
    int sock, journal;

    (void)module;
    if (!PyArg_ParseTuple(args, "ii", &sock, &journal))
        return NULL;
    /* With the GIL held: a zygote has one thread, and nothing else may run while it forks. */
    int outcome = box_forkserver(sock, journal, &hooks, &err);
    return outcome < 0 ? raise_box_error(&err) : PyLong_FromLong(outcome);
}

static PyMethodDef METHODS[] = {
    {"enter_root", enter_root, METH_VARARGS,
     "enter_root(prefixes: tuple[bytes, ...], uid_base: int, uid_count: int) -> None\n\n"
     "Leave the host's file system for the minimal read-only root. Once, in a zygote."},
    {"trim", trim, METH_NOARGS, "trim() -> None\n\nGive free heap back, so that forks do not inherit it."},
    {"serve", serve, METH_VARARGS,
     "serve(sock: int, journal: int) -> int\n\n"
     "Fork on request. 1 in each sandbox, 2 in one that parks, 0 in the zygote when the engine left."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, .m_name = "_fork", .m_doc = "The fork server.", .m_size = 0,
                                    .m_methods = METHODS};

PyMODINIT_FUNC PyInit__fork(void)
{
    return PyModuleDef_Init(&MODULE);
}
