# /tmp: part of _box.pyx.


cdef class Scratch:
    """One /tmp. Its descriptor is a detached mount, for one sandbox."""

    cdef box_scratch scratch
    cdef bint whole  # there is a mount, and nobody is at it without the GIL
    cdef bint emptied  # somebody is, who has it afterwards

    def __dealloc__(self):
        if self.whole:
            box_scratch_close(&self.scratch)

    @property
    def device(self):
        """What it lies on, for people: its loop device, or the name of its folder; "" in memory."""
        if self.scratch.kind == BOX_SCRATCH_IMAGE:
            return f"/dev/loop{self.scratch.loop}"
        return self.scratch.name.decode()

    @property
    def loop(self):
        """The number of its loop device; -1 where it has none."""
        return self.scratch.loop if self.scratch.kind == BOX_SCRATCH_IMAGE else -1

    def fileno(self):
        if not self.whole:
            raise ValueError("this /tmp is closed")
        return self.scratch.mount

    def used(self):
        """Bytes stored in it."""
        cdef box_error err
        cdef uint64_t count
        if not self.whole:
            raise ValueError("this /tmp is closed")
        if box_scratch_used(&self.scratch, &count, &err) < 0:
            raise fault(&err)
        return count

    @property
    def held(self):
        return self.scratch.held != 0

    def renew(self):
        cdef int renewed
        if not self.whole:
            raise ValueError("this /tmp is closed")
        self.whole, self.emptied = False, True
        with nogil:
            renewed = box_scratch_renew(&self.scratch)
        self.whole, self.emptied = True, False
        return renewed == 1

    def close(self):
        if self.emptied:
            raise ValueError("this /tmp is being emptied by another thread")
        if self.whole:
            self.whole = False
            with nogil:
                box_scratch_close(&self.scratch)


def scratch_template(bytes path):
    """Put what every /tmp begins with into a formatted image."""
    cdef box_error err
    cdef int status
    cdef const char *text = path
    with nogil:
        status = box_scratch_template(text, &err)
    if status < 0:
        raise fault(&err)


def scratch_image(bytes template_path, bytes folder, *, bint encrypt, bint reserve, int near=-1):
    """A fresh /tmp from an image; `near` is the number of a loop device that may be free."""
    cdef box_error err
    cdef int status
    cdef const char *template_text = template_path
    cdef const char *folder_text = folder
    cdef unsigned flags = (BOX_SCRATCH_ENCRYPT if encrypt else 0) | (BOX_SCRATCH_RESERVE if reserve else 0)
    cdef Scratch made = Scratch.__new__(Scratch)
    with nogil:
        status = box_scratch_open(&made.scratch, template_text, folder_text, flags, near, &err)
    if status < 0:
        raise fault(&err)
    made.whole = True
    return made


def scratch_tmpfs(size_bytes, files):
    """A /tmp in memory."""
    cdef box_error err
    cdef Scratch made = Scratch.__new__(Scratch)
    if box_scratch_tmpfs(&made.scratch, size_bytes, files, &err) < 0:
        raise fault(&err)
    made.whole = True
    return made


def scratch_of(int mount_fd):
    """A /tmp that somebody else made; its descriptor is this object's from here on."""
    cdef Scratch made = Scratch.__new__(Scratch)
    memset(&made.scratch, 0, sizeof(made.scratch))
    made.scratch.kind = BOX_SCRATCH_TMPFS
    made.scratch.mount = mount_fd
    made.scratch.root = made.scratch.image = -1
    made.whole = True
    return made


def scratch_project(bytes folder, *, size_bytes, files, bint encrypt):
    """A /tmp that is a project of the folder's file system."""
    cdef box_error err
    cdef int status
    cdef const char *folder_text = folder
    cdef uint64_t limit_bytes = size_bytes
    cdef uint64_t limit_files = files
    cdef unsigned flags = BOX_SCRATCH_ENCRYPT if encrypt else 0
    cdef Scratch made = Scratch.__new__(Scratch)
    with nogil:
        status = box_scratch_project(&made.scratch, folder_text, limit_bytes, limit_files, flags, &err)
    if status < 0:
        raise fault(&err)
    made.whole = True
    return made


def scratch_subvolume(bytes folder, *, size_bytes):
    """A /tmp that is a subvolume of the folder's btrfs."""
    cdef box_error err
    cdef int status
    cdef const char *folder_text = folder
    cdef uint64_t limit_bytes = size_bytes
    cdef Scratch made = Scratch.__new__(Scratch)
    with nogil:
        status = box_scratch_subvolume(&made.scratch, folder_text, limit_bytes, &err)
    if status < 0:
        raise fault(&err)
    made.whole = True
    return made


def subvolume_quota(bytes folder):
    """Turn the quotas of the folder's btrfs on."""
    cdef box_error err
    cdef int status
    cdef const char *folder_text = folder
    with nogil:
        status = box_subvolume_quota(folder_text, &err)
    if status < 0:
        raise fault(&err)


def scratch_sweep(bytes folder):
    """Remove what a killed engine left of projects and subvolumes; how many there were."""
    cdef box_error err
    cdef int count
    cdef const char *folder_text = folder
    with nogil:
        count = box_scratch_sweep(folder_text, &err)
    if count < 0:
        raise fault(&err)
    return count
