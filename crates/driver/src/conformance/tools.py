import ctypes, errno, os, platform, socket

libc = ctypes.CDLL(None, use_errno=True)
# Numbers of system calls: on x86-64, and on the architectures that share one table.
NUMBERS = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "setns": (308, 268), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "reboot": (169, 142), "swapon": (167, 224), "acct": (163, 89), "open_by_handle_at": (304, 265), "clock_settime": (227, 112),
    "sethostname": (170, 161), "fanotify_init": (300, 262), "unshare": (272, 97), "ptrace": (101, 117),
}
CALLS = [name for name in NUMBERS if name not in ("unshare", "ptrace")]


def call(name, *arguments):
    """The error of a system call, or None."""
    number = NUMBERS[name][platform.machine() != "x86_64"]
    ctypes.set_errno(0)
    padded = [ctypes.c_long(argument) for argument in arguments] + [ctypes.c_long(0)] * (6 - len(arguments))
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *padded) == -1 else None


def refused(what, action):
    """Says so if the action works."""
    try:
        got = action()
    except OSError:
        return
    if got != b"":
        print(what, "is not refused:", got)


def read(path):
    with open(path, "rb") as file:
        return file.read(16)


def write(path):
    os.write(os.open(path, os.O_WRONLY), b"1")
