"""Handlers that do not want to end, for tests/security/test_time.py."""

from __future__ import annotations

CLINGERS = {
    "loops": "while True: pass",
    "sleeps": "time.sleep(60)",
    "ignores every signal": """
        for number in set(range(1, 65)) - {9, 19, 32, 33}:
            tried(signal.signal, number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        while True:
            pass
    """,
    "daemons of daemons": """
        for _ in range(5):
            if os.fork() == 0:
                os.setsid()
        while True:
            pass
    """,
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "a daemon holds its pipes": """
        if os.fork() == 0:
            os.setsid()
            time.sleep(60)
        os.read(os.pipe()[0], 1)
    """,
    "waits in vfork": """
        libc.vfork
        subprocess.run(["/bin/sleep", "60"])
    """,
    "traces its child": """
        child = os.fork()
        if child == 0:
            time.sleep(60)
        call("ptrace", 16, child, None, None)
        while True:
            pass
    """,
    "traces process 1": """
        call("ptrace", 16, 1, None, None)
        os.kill(1, signal.SIGSTOP)
        while True:
            pass
    """,
    "a child in a stopped trace": """
        child = os.fork()
        if child == 0:
            call("ptrace", 0, 0, None, None)
            os.kill(os.getpid(), signal.SIGSTOP)
        while True:
            os.waitpid(child, 0)
    """,
    "a full pipe": """
        out, into = os.pipe()
        while True:
            os.write(into, bytes(65_536))
    """,
    "closes its pipe to the engine and goes on": """
        if os.fork() == 0:
            while True:
                pass
        while True:
            time.sleep(1)
    """,
    "locks itself out": """
        one, other = [os.open("/tmp/lock", os.O_RDWR | os.O_CREAT) for _ in range(2)]
        fcntl.flock(one, fcntl.LOCK_EX)
        fcntl.flock(other, fcntl.LOCK_EX)
    """,
    "is nice": """
        os.nice(19)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        while True:
            pass
    """,
    "syncs": """
        while True:
            libc.sync()
    """,
    "forks for ever": """
        while True:
            tried(os.fork)
    """,
    "has a thousand processes": """
        for _ in range(1_000):
            if tried(os.fork) == 0:
                break
        time.sleep(60)
    """,
    "has a thousand threads": """
        threading.stack_size(65_536)
        try:
            while True:
                threading.Thread(target=time.sleep, args=(60,)).start()
        except RuntimeError:
            time.sleep(60)
    """,
    "has as many mappings as it may": """
        for which in range(60_000):
            syscall(9, 0, 4096, 3 - which % 2 * 2, 0x22, -1, 0)
        while True:
            pass
    """,
    "writes and waits for the disk": """
        fd = os.open("/tmp/file", os.O_CREAT | os.O_RDWR)
        while True:
            os.pwrite(fd, bytes(1 << 20), 0)
            os.fsync(fd)
    """,
}

HEAVY = {
    "forks for ever",
    "has a thousand processes",
    "has a thousand threads",
    "has as many mappings as it may",
    "writes and waits for the disk",
}
"""Those with more to take down than 20 ms of work for the kernel."""
