# Whose turn it is to ask a zygote: part of _box.pyx.

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)


cdef class Turns:
    """One request at a time over a zygote's socket, whose answers say no more than which is the next. Who waits for a
    turn, and who has it, does not hold the interpreter: in a burst each would wait for that several times in a turn.
    After one that was not answered there is no other."""

    cdef pthread_mutex_t mutex
    cdef int sock
    cdef int journal
    cdef bint lost

    def __cinit__(self, int sock, int journal):
        pthread_mutex_init(&self.mutex, NULL)
        self.sock, self.journal, self.lost = sock, journal, False

    def __dealloc__(self):
        pthread_mutex_destroy(&self.mutex)

    def fileno(self):
        return self.sock

    @property
    def unanswered(self):
        """Whether the zygote owes an answer: what it may have cloned for it is in its journal."""
        return self.lost

    def close(self):
        """Let nobody have another; waits for the one under way."""
        with nogil:
            pthread_mutex_lock(&self.mutex)
            self.sock = -1
            pthread_mutex_unlock(&self.mutex)

    cdef int ask(self, const box_fork_request *request, const box_fork_fds *fds, int timeout_ms, int *pid,
                 box_error *err) noexcept nogil:
        """The pidfd, or -1."""
        cdef int pidfd = -1
        pthread_mutex_lock(&self.mutex)
        if self.sock < 0 or self.lost:
            (&errno)[0] = 0
            box_fail(err, "zygote", "it is gone")
        else:
            pidfd = box_fork_ask(self.sock, self.journal, request, fds, timeout_ms, pid, err)
            self.lost = pidfd < 0 and strcmp(err.stage, "zygote") == 0
        pthread_mutex_unlock(&self.mutex)
        return pidfd
