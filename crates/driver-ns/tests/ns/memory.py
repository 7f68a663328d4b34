import ctypes, fcntl, itertools, mmap, os, pty, select, signal, socket, subprocess, sys, threading, time

LIBC = ctypes.CDLL(None, use_errno=True)


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "a call of libc")
    return result


def heap():
    memory = bytearray(b"x" * (32 << 20))

    def step(n):
        assert memory[(n * 4096) % len(memory)] == ord("x")

    return step


def threads():
    counts = [0] * 16
    go = threading.Condition()

    def work(number):
        while True:
            with go:
                go.wait()
                counts[number] += 1

    for number in range(len(counts)):
        threading.Thread(target=work, args=(number,), daemon=True).start()

    def step(_):
        before = list(counts)
        until = time.monotonic() + 5
        while any(now == then for now, then in zip(counts, before)):
            assert time.monotonic() < until, counts
            with go:
                go.notify_all()
            time.sleep(0.001)

    return step


def child_tree():
    shell = "while read line; do echo $line; done"
    child = subprocess.Popen(["sh", "-c", f"sh -c '{shell}' | sh -c '{shell}'"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def step(n):
        child.stdin.write(b"%d\n" % n)
        child.stdin.flush()
        assert child.stdout.readline() == b"%d\n" % n

    return step


def zombie():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    def step(_):
        assert "Z" in open(f"/proc/{child.pid}/stat").read().rsplit(")")[1]

    return step


def terminal():
    controller, other = pty.openpty()
    subprocess.Popen(["sh", "-c", "stty -echo; while read line; do echo got $line; done"], stdin=other, stdout=other, start_new_session=True)
    return controller


def pty_():
    controller = terminal()
    time.sleep(0.2)

    def step(n):
        os.write(controller, b"%d\n" % n)
        seen = b""
        while b"got %d\r\n" % n not in seen:
            assert select.select([controller], [], [], 1)[0], seen
            seen += os.read(controller, 1000)

    return again(step)


def inotify():
    os.mkdir("/tmp/watched")
    watch = checked(LIBC.inotify_init())
    checked(LIBC.inotify_add_watch(watch, b"/usr/lib", 0x100))
    checked(LIBC.inotify_add_watch(watch, b"/tmp/watched", 0x100))
    names = itertools.count()

    def step(_):
        name = str(next(names))
        open(f"/tmp/watched/{name}", "w").close()
        assert select.select([watch], [], [], 1)[0]
        assert name.encode() in os.read(watch, 4096)

    return again(step)


def answering(listener):
    def serve(stream):
        while data := stream.recv(100):
            stream.sendall(data)

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def again(step):
    """A copy may be made in the middle of a step: what was on its way then, through a connection, a terminal or a watch, is lost."""

    def patient(n):
        for left in reversed(range(5)):
            try:
                return step(n)
            except (OSError, AssertionError):
                if not left:
                    raise
                time.sleep(0.05)

    return patient


def asking(kind, address):
    """One connection that stays, as far as it may be cut, and a new one each time."""
    kept = [None]

    def ask(stream, n):
        stream.sendall(b"%d" % n)
        assert stream.recv(100) == b"%d" % n

    def connect():
        stream = socket.socket(kind)
        stream.connect(address)
        return stream

    def step(n):
        with connect() as stream:
            ask(stream, n)
        try:
            ask(kept[0] or connect(), n)
        except (OSError, AssertionError):
            kept[0] = connect()
            ask(kept[0], n)

    kept[0] = connect()
    return again(step)


def unix_socket():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("/tmp/listener")
    listener.listen()
    answering(listener)
    return asking(socket.AF_UNIX, "/tmp/listener")


def tcp_inside():
    listener = socket.create_server(("0.0.0.0", 8080))
    answering(listener)
    return asking(socket.AF_INET, ("127.0.0.1", 8080))


def tcp_waiting():
    """Whoever waits for a connection hears of its end."""
    listener = socket.create_server(("127.0.0.1", 8081))
    ends, waiting = [], []

    def receive(stream):
        try:
            stream.recv(1)
        except OSError:
            pass

    def poll(stream):
        polled = select.epoll()
        polled.register(stream, select.EPOLLIN)
        polled.poll()

    def begin():
        ends[:] = [socket.create_connection(listener.getsockname()), listener.accept()[0]]
        waiting[:] = [threading.Thread(target=wait, args=(end,), daemon=True) for wait, end in zip((receive, poll), ends)]
        for thread in waiting:
            thread.start()

    def is_cut(end):
        try:
            return not end.getpeername()
        except OSError:
            return True

    def step(_):
        cut = [is_cut(end) for end in ends]
        assert cut[0] == cut[1]
        if cut[0]:
            for thread in waiting:
                thread.join(5)
            assert not any(thread.is_alive() for thread in waiting), "nobody told them"
            begin()
        assert all(thread.is_alive() for thread in waiting)

    begin()
    return step


def tcp_not_accepted():
    listener = socket.create_server(("127.0.0.1", 8082))
    listener.settimeout(1)
    kept = [socket.create_connection(listener.getsockname())]

    def step(_):
        kept.append(socket.create_connection(listener.getsockname()))
        listener.accept()[0].close()
        del kept[:-1]

    return again(step)


def udp():
    server, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    server.bind(("127.0.0.1", 8083))
    server.settimeout(1)
    client.connect(server.getsockname())

    def step(n):
        client.send(b"%d" % n)
        while server.recv(100) != b"%d" % n:
            pass

    return again(step)


def own_address():
    """Sockets of both kinds at the address that the sandbox has outside the loopback."""
    name = socket.gethostname()
    address = socket.gethostbyname(name)
    assert not address.startswith("127.")
    listener = socket.create_server((address, 8080))
    answering(listener)
    receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    receiver.bind((address, 8081))
    receiver.settimeout(1)
    sender.connect(("192.0.2.1", 53))

    def step(n):
        now = socket.gethostbyname(socket.gethostname())
        asking(socket.AF_INET, (now, 8080))(n)
        assert sender.getsockname()[0] == now
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"%d" % n, (now, 8081))
        while receiver.recv(100) != b"%d" % n:
            pass

    return again(step)


def reading_back(file):
    def step(n):
        file.seek(0)
        file.write(b"%08d" % n)
        file.flush()
        file.seek(0)
        assert file.read(8) == b"%08d" % n

    return step


def deleted_file():
    file = open("/tmp/deleted", "w+b")
    os.unlink("/tmp/deleted")
    return reading_back(file)


def mapped(path):
    file = open(path, "w+b")
    file.truncate(1 << 20)
    memory = mmap.mmap(file.fileno(), 1 << 20)

    def step(n):
        assert n == 0 or memory[:8] == b"%08d" % (n - 1)
        memory[:8] = b"%08d" % n
        with open(path, "rb") as again:
            assert again.read(8) == b"%08d" % n

    return step


def mapped_file():
    return mapped("/tmp/mapped")


def shm_file():
    return mapped("/dev/shm/mapped")


def semaphore():
    import multiprocessing

    turn = multiprocessing.Semaphore(0)

    def step(_):
        turn.release()
        assert turn.acquire(timeout=1)

    return step


def memfd():
    return reading_back(open(os.memfd_create("own"), "w+b"))


def lock():
    file = open("/tmp/locked", "w")
    fcntl.flock(file, fcntl.LOCK_EX)

    def step(_):
        assert not file.closed
        try:
            fcntl.flock(open("/tmp/locked"), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        raise AssertionError("the lock is lost")

    return step


def timer():
    rung = []
    signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)

    def step(_):
        before = len(rung)
        until = time.monotonic() + 5
        while len(rung) == before:
            assert time.monotonic() < until, "the timer is lost"
            time.sleep(0.005)

    return step


def epoll():
    event, poll = os.eventfd(0), select.epoll()
    poll.register(event, select.EPOLLIN)

    def step(_):
        os.eventfd_write(event, 1)
        assert poll.poll(1) == [(event, select.EPOLLIN)]
        assert os.eventfd_read(event) == 1

    return step


def sysv_shm():
    LIBC.shmat.restype = ctypes.c_void_p
    segment = checked(LIBC.shmget(0, 4096, 0o1600))
    address = LIBC.shmat(segment, None, 0)
    ctypes.c_long.from_address(address).value = 7

    def step(_):
        assert ctypes.c_long.from_address(address).value == 7

    return step


name = sys.argv[1]
step = pty_() if name == "pty" else globals()[name]()
count = 0
while True:
    step(count)
    count += 1
    with open("/tmp/beat.new", "w") as beat:
        beat.write(str(count))
    os.rename("/tmp/beat.new", "/tmp/beat")
    time.sleep(0.01)
