//! Sandboxes that are virtual machines, from the command line to what runs in them.
#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says that it was left out"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skerry_testkit::host::signal;
use skerry_testkit::server::Launch;
use skerry_testkit::wait::until;
use skerry_types::SandboxId;

use crate::bed::{Bed, SKERRY};

const PATIENCE: Duration = Duration::from_mins(1);

/// Counts in its memory, and writes each number down.
const COUNT: &str = "
import time
number = 0
with open('/tmp/numbers', 'w', buffering=1) as file:
    while True:
        number += 1
        print(number, file=file)
        time.sleep(0.01)
";
/// Says how many numbers there are, unless one is missing or there twice.
const COUNTED: &str = "
numbers = [int(line) for line in open('/tmp/numbers').read().split()]
print(len(numbers) if numbers == list(range(1, len(numbers) + 1)) else numbers)
";
/// Told to, writes anywhere in its memory and in a file; always says what both are then, the file as it is on the disk.
const SCATTER: &str = "
import hashlib, os, random, signal
memory, size = bytearray(16 << 20), 8 << 20
disk = os.open('/tmp/disk', os.O_RDWR | os.O_CREAT)
os.truncate(disk, size)
def scatter():
    for _ in range(300):
        at = random.randrange(len(memory) - 4096)
        memory[at:at + 4096] = os.urandom(4096)
        os.pwrite(disk, os.urandom(4096), random.randrange(size - 4096))
def tell():
    os.fsync(disk)
    os.posix_fadvise(disk, 0, size, os.POSIX_FADV_DONTNEED)
    sums = [hashlib.sha1(part).hexdigest() for part in (memory, os.pread(disk, size, 0))]
    with open('/tmp/new', 'w') as file:
        print(*sums, file=file)
    os.rename('/tmp/new', '/tmp/sums')
signals = {signal.SIGUSR1, signal.SIGUSR2}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print(os.getpid(), file=open('/tmp/pid', 'w'))
while True:
    if signal.sigwait(signals) == signal.SIGUSR1:
        scatter()
    tell()
";

/// A server that offers machines, with a small image; `None` where they cannot run.
fn bed() -> Option<Bed> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = cache.unwrap_or_else(home);
    let tools = ["qemu", "kernel"].map(|name| cache.join("skerry/tools").join(name));
    if !rustix::process::geteuid().is_root() || !tools.iter().all(|tool| tool.is_dir()) {
        println!("left out: it needs root, and scripts/tools.sh qemu kernel");
        return None;
    }
    let bed = Bed::with(Launch::new(SKERRY).env("XDG_CACHE_HOME", &cache.display()));
    let root = skerry_testkit::root::small(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    bed.ok(&["image", "import", root.to_str().unwrap(), "small"]);
    Some(bed)
}

fn is_long() -> bool {
    let all = std::env::var_os("SKERRY_TEST_ALL").is_some();
    if !all {
        println!("left out: SKERRY_TEST_ALL=1 runs it");
    }
    all
}

fn create(bed: &Bed, name: &str) {
    let size = ["--cpus", "1", "--memory", "256M", "--disk", "512M"];
    let what = [
        "create", "--driver", "vm", "--image", "small", "--name", name,
    ];
    bed.ok(&[&what[..], &size[..]].concat());
}

/// Starts a Python program in it that may run as long as any, and goes on once that has made the file.
fn start(bed: &Bed, name: &str, program: &str, file: &str) {
    let begin = ["exec", "-d", "--timeout", "2h", name];
    bed.ok(&[&begin[..], &["--", "python3", "-c", program]].concat());
    bed.ok(&[
        "exec",
        name,
        &format!("until [ -s {file} ]; do sleep 0.02; done"),
    ]);
}

/// How far the program counted.
fn counted(bed: &Bed, name: &str) -> u64 {
    let said = bed.ok(&["exec", name, "--", "python3", "-c", COUNTED]);
    said.parse()
        .unwrap_or_else(|_| panic!("not one after another in {name}: {said}"))
}

/// The process that runs it, if it runs.
fn machine(bed: &Bed, name: &str) -> Option<u32> {
    let record = bed.json(&["get", name]);
    let id: SandboxId = record["sandbox_id"].as_str().unwrap().parse().unwrap();
    let wanted = format!("skerry-vm:{}", id.label());
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').next() == Some(&wanted)
    })
}

#[test]
fn a_machine_does_what_any_sandbox_does() {
    let Some(mut bed) = bed() else { return };
    let refused = bed.run(&["create", "--isolation", "vm", "--image", "host"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("skerry image build base"),
        "{}",
        refused.stderr
    );

    create(&bed, "m");
    let facts = bed.json(&["get", "m"])["facts"].clone();
    assert_eq!(facts["isolation"], "vm");
    let kernel = bed.ok(&["exec", "m", "cat /proc/version"]);
    let own = fs::read_to_string("/proc/version").unwrap();
    assert_ne!(kernel, own.trim_end(), "a kernel of its own");
    assert_eq!(bed.run(&["exec", "m", "exit 7"]).code, 7);
    fs::write(bed.home.path().join("file"), "content").unwrap();
    bed.ok(&["cp", "file", "m:/tmp"]);
    assert!(bed.run(&["cp", "m:/tmp/file", "-"]).bytes == b"content");
    let session = bed.ok(&["session", "open", "m"]);
    bed.ok(&["session", "exec", "m", &session, "cd /tmp; word=kept"]);

    start(&bed, "m", COUNT, "/tmp/numbers");
    bed.ok(&[
        "snapshot", "create", "m", "--memory", "required", "--name", "then",
    ]);
    let at_snapshot = counted(&bed, "m");
    bed.ok(&["fork", "m", "--memory", "required", "--name", "f"]);
    assert!(counted(&bed, "f") >= at_snapshot);
    bed.ok(&["create", "--image", "then", "--name", "c"]);
    for copy in ["f", "c"] {
        let before = counted(&bed, copy);
        assert!(counted(&bed, copy) > before, "it counts on in {copy}");
        assert_eq!(bed.ok(&["exec", copy, "cat /etc/hostname"]), copy);
    }

    bed.ok(&["pause", "m"]);
    assert_eq!(machine(&bed, "m"), None, "paused to disk");
    bed.ok(&["resume", "m"]);
    let before = counted(&bed, "m");
    bed.server.kill().unwrap();
    bed.server.start().unwrap();
    assert!(counted(&bed, "m") > before);
    let kept = bed.ok(&["session", "exec", "m", &session, "pwd; echo $word"]);
    assert_eq!(kept, "/tmp\nkept");

    signal(machine(&bed, "f").unwrap(), "KILL");
    until(PATIENCE, "its end is told", || {
        Ok((bed.json(&["get", "f"])["status"] != "running").then_some(()))
    })
    .unwrap();
    let ended = bed.json(&["get", "f"]);
    assert_eq!(ended["status"], "failed", "{ended}");
    let before = counted(&bed, "m");
    assert!(counted(&bed, "m") > before, "nobody else noticed");

    bed.ok(&["pause", "m"]);
    bed.server.cut_power().unwrap();
    bed.server.start().unwrap();
    bed.ok(&["resume", "m"]);
    assert!(
        counted(&bed, "m") > before,
        "it outlives the machine under it"
    );

    let left = bed.json(&["ls"]).as_array().unwrap().len();
    assert_eq!(left, 4, "with the one that was refused");
    bed.ok(&["clean", "--force"]);
    bed.ok(&["snapshot", "rm", "then"]);
    let traces = bed.server.traces().to_string();
    assert!(
        !traces.contains("vm/") && !traces.contains("skerry-vm"),
        "{traces}"
    );
}

#[test]
fn each_of_many_forks_counts_on() {
    let Some(bed) = is_long().then(bed).flatten() else {
        return;
    };
    create(&bed, "m");
    start(&bed, "m", COUNT, "/tmp/numbers");
    let before = counted(&bed, "m");
    let forks = bed.ok(&["fork", "m", "--number", "20", "--memory", "required"]);
    let forks: Vec<&str> = forks.lines().collect();
    assert_eq!(forks.len(), 20);
    for fork in forks.into_iter().chain(["m"]) {
        assert!(counted(&bed, fork) > before, "{fork}");
    }
}

#[test]
fn memory_and_disk_are_the_same_after_many_pauses() {
    let Some(bed) = is_long().then(bed).flatten() else {
        return;
    };
    create(&bed, "m");
    start(&bed, "m", SCATTER, "/tmp/pid");
    let sums = |signal: &str| {
        let ask = format!("rm -f /tmp/sums; kill -{signal} $(cat /tmp/pid)");
        let wait = "until [ -e /tmp/sums ]; do sleep 0.01; done; cat /tmp/sums";
        bed.ok(&["exec", "m", &format!("{ask}; {wait}")])
    };
    for round in 0..200 {
        let before = sums("USR1");
        bed.ok(&["pause", "m"]);
        bed.ok(&["resume", "m"]);
        assert_eq!(sums("USR2"), before, "round {round}");
    }
}
