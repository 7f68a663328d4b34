import ctypes, errno, os, socket, struct

libc = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    """The error of a system call, or None."""
    ctypes.set_errno(0)
    padded = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    padded += [ctypes.c_long(0)] * (6 - len(padded))
    result = libc.syscall(ctypes.c_long(number), *padded)
    return ctypes.get_errno() if result == -1 else None


def expect(name, got, *wanted):
    if got not in wanted:
        names = [errno.errorcode.get(w, w) for w in wanted]
        print(f"{name}: got {errno.errorcode.get(got, got)}, wanted {names}")


def of(action):
    """The error of something in Python, or None."""
    try:
        action()
    except OSError as error:
        return error.errno


def write(path):
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"1")


# Calls that are refused whatever their arguments.
for name in """mount umount2 pivot_root open_tree move_mount fsopen mount_setattr setns unshare bpf perf_event_open userfaultfd
    io_uring_setup keyctl add_key request_key init_module finit_module delete_module kexec_load reboot swapon acct syslog quotactl
    settimeofday clock_settime adjtimex sethostname setdomainname open_by_handle_at name_to_handle_at fanotify_init memfd_secret""".split():
    expect(name, call(CALLS[name]), errno.EPERM)

# Calls that do not exist: new ones, those of another ABI, and clone3, whose flags no filter sees.
expect("clone3", call(CALLS["clone3"], 0, 0), errno.ENOSYS)
expect("unknown call", call(9999), errno.ENOSYS)
expect("x32 call", call(0x40000000 | 39), errno.ENOSYS)

# Calls that are refused by argument.
NEWUSER, NEWNS, NEWPID, NEWNET, NEWUTS, NEWIPC, NEWCGROUP = 0x10000000, 0x20000, 0x20000000, 0x40000000, 0x4000000, 0x8000000, 0x2000000
for flag in (NEWUSER, NEWNS, NEWPID, NEWNET, NEWUTS, NEWIPC, NEWCGROUP, NEWUSER | NEWNS):
    expect(f"clone {flag:#x}", call(CALLS["clone"], flag | 17), errno.EPERM)
expect("personality", call(CALLS["personality"], 0x0400000), errno.EPERM)
primary, secondary = os.openpty()
character = ctypes.create_string_buffer(b"x")
for request in (0x5412, 0x541C, 0x5412 | 1 << 32):
    ctypes.set_errno(0)
    result = libc.ioctl(secondary, ctypes.c_ulong(request), character)
    expect(f"ioctl {request:#x}", ctypes.get_errno() if result == -1 else None, errno.EPERM)

# Sockets.
for name, family, kind, protocol in [
    ("packet", 17, socket.SOCK_RAW, 0),
    ("vsock", 40, socket.SOCK_STREAM, 0),
    ("alg", 38, socket.SOCK_SEQPACKET, 0),
    ("netlink audit", 16, socket.SOCK_RAW, 9),
    ("netlink netfilter", 16, socket.SOCK_RAW, 12),
]:
    expect(name, of(lambda: socket.socket(family, kind, protocol)), errno.EAFNOSUPPORT)
expect("raw", of(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)), errno.EPERM)
expect("route", of(lambda: socket.socket(16, socket.SOCK_RAW, 0)), None)
host = socket.socket(socket.AF_UNIX)
expect("abstract socket of the host", of(lambda: host.connect("\0" + HOST_SOCKET)), errno.ECONNREFUSED)
expect("port of the host", of(lambda: socket.create_connection(("127.0.0.1", HOST_PORT), 5)), errno.ECONNREFUSED)
expect("any address", of(lambda: socket.create_connection(("192.0.2.1", 80), 5)), errno.ENETUNREACH)

# Files and devices.
expect("file of the host", of(lambda: os.stat(HOST_FILE)), errno.ENOENT)
expect("through the root of pid 1", of(lambda: os.stat("/proc/1/root" + HOST_FILE)), errno.ENOENT, errno.EACCES, errno.EPERM)
expect("write below a bind", of(lambda: os.mkdir("/usr/x")), errno.EROFS)
for kind, major, minor in ((0o020000, 1, 1), (0o060000, 254, 0), (0o020000, 5, 1)):
    expect("mknod", of(lambda: os.mknod("/tmp/node", kind | 0o666, os.makedev(major, minor))), errno.EPERM)
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory",
             "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"):
    expect(path, of(lambda: write(path)), errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT)
for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"):
    if os.path.exists(path) and open(path, "rb").read(1):
        print(path, "shows something")
if os.listdir("/sys"):
    print("/sys shows something")
expect("write to /sys", of(lambda: os.mkdir("/sys/x")), errno.EROFS, errno.EACCES, errno.EPERM)
for path in ("/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/vda", "/dev/net/tun"):
    expect(path, of(lambda: os.stat(path)), errno.ENOENT)

# Processes.
expect("process of the host", of(lambda: os.kill(HOST_PID, 0)), errno.ESRCH)
numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
if len(numbers) > 4:
    print("too many processes:", numbers)
open_files = os.listdir("/proc/self/fd")
if len(open_files) > 6 + 1:
    print("inherited descriptors:", [os.readlink(f"/proc/self/fd/{fd}") for fd in open_files[:-1]])

# The agent.
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
for name, request in (("attach", PTRACE_ATTACH), ("seize", PTRACE_SEIZE)):
    expect(f"ptrace {name} of the agent", call(CALLS["ptrace"], request, 1), errno.EPERM)
expect("memory of the agent", of(lambda: os.open("/proc/1/mem", os.O_RDWR)), errno.EACCES, errno.EPERM)
buffer = ctypes.create_string_buffer(16)
iovec = struct.pack("QQ", ctypes.addressof(buffer), 16)
remote = struct.pack("QQ", 0x1000, 16)
expect("read the agent", call(CALLS["process_vm_readv"], 1, iovec, 1, remote, 1, 0), errno.EPERM)
expect("limits of the agent", call(CALLS["prlimit64"], 1, 7, struct.pack("QQ", 3, 3)), errno.EPERM)
expect("own limits", call(CALLS["prlimit64"], 0, 7, struct.pack("QQ", 256, 256)), None)
expect("descriptors of the agent", of(lambda: os.readlink("/proc/1/fd/0")), errno.EACCES, errno.EPERM)
expect("program of the agent", of(lambda: os.open("/proc/1/exe", os.O_WRONLY)), errno.EACCES, errno.EPERM, errno.ETXTBSY)

# Out through a root of one's own.
os.makedirs("/tmp/cell", exist_ok=True)
if ROOT:
    outside = os.open("/", os.O_RDONLY)
    os.chroot("/tmp/cell")
    os.fchdir(outside)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    expect("out of a chroot", of(lambda: os.stat(HOST_FILE)), errno.ENOENT)
else:
    expect("chroot", of(lambda: os.chroot("/tmp/cell")), errno.EPERM)

print("done")
