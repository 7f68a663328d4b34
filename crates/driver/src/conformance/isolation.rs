//! What a program inside tries, and must not get.

use std::os::unix::fs::MetadataExt;

use super::failure::{Verdict, ensure, same};
use super::ground::Ground;
use super::{Check, checks};
use crate::{Capabilities, Isolation, Spec};

pub(super) const CHECKS: &[Check] = checks! {
    "isolation: only its own processes are visible", walled => processes;
    "isolation: the root has nothing above it and no file of the host below", walled => root;
    "isolation: no mount of the host shows", walled => mounts;
    "isolation: no capability and no new privileges at level restricted", walled => restricted;
    "isolation: a set-uid program gives nothing at level restricted", |c| walled(c) && c.users => set_uid;
    "isolation: kernel interfaces cannot be written", walled => kernel;
    "isolation: the settings of the host's network cannot be written", shares_kernel => network_settings;
    "isolation: there are no devices but the harmless, and none can be made", walled => devices;
    "isolation: mounts, namespaces, keyrings, bpf and raw sockets are refused", |c| shares_kernel(c) && c.call_filter => refused;
    "isolation: the agent cannot be traced, read, killed or stopped", shares_kernel => agent;
    "isolation: a root of one's own is no way out", walled => chroot;
};

fn walled(capabilities: &Capabilities) -> bool {
    capabilities.isolation != Isolation::None
}

fn shares_kernel(capabilities: &Capabilities) -> bool {
    capabilities.isolation == Isolation::Namespace
}

/// Functions that the programs below use.
const TOOLS: &str = include_str!("tools.py");

/// Runs a program at each level; it says nothing unless it got what it must not get.
async fn silent(ground: &Ground<'_>, program: &str) -> Verdict {
    for privilege in ground.levels() {
        let spec = Spec {
            privilege,
            ..ground.spec()
        };
        let mut agent = ground.create(&spec).await?;
        let said = agent.python(&format!("{TOOLS}\n{program}")).await?;
        ensure!(said.is_empty(), "at level {privilege:?}: {said}");
        same("its agent", agent.sh("echo well").await?, "well\n")?;
    }
    Ok(())
}

async fn processes(ground: Ground<'_>) -> Verdict {
    let host = std::process::id();
    let program = format!(
        "
numbers = [int(name) for name in os.listdir('/proc') if name.isdigit()]
if len(numbers) > 3:
    print('processes', numbers)
if {host} not in numbers:
    refused('signal to the host', lambda: os.kill({host}, 0))
"
    );
    silent(&ground, &program).await
}

async fn root(ground: Ground<'_>) -> Verdict {
    let secrets = ground.bed().secrets();
    let program = format!(
        "
above, own = os.stat('/..'), os.stat('/')
if (above.st_dev, above.st_ino) != (own.st_dev, own.st_ino):
    print('above the root:', os.listdir('/..'))
for secret in {secrets:?}:
    for way in ('', '/..', '/proc/1/root', '/proc/self/root/..', '/proc/self/cwd/..'):
        refused(way + secret, lambda: os.stat(way + secret))
"
    );
    silent(&ground, &program).await
}

async fn mounts(ground: Ground<'_>) -> Verdict {
    let rootfs = ground.bed().rootfs();
    let sources: Vec<_> = rootfs
        .binds
        .iter()
        .map(|bind| bind.source.clone())
        .collect();
    let device = std::fs::metadata("/")?.dev();
    let (major, minor) = (major_of(device), minor_of(device));
    let (secrets, shown) = (ground.bed().secrets(), ground.bed().shown());
    let program = format!(
        "
text = open('/proc/self/mountinfo').read()
lines = [line.split() for line in text.splitlines()]
if sum(line[4] == '/' for line in lines) != 1:
    print('more than one root:', text)
for secret in {secrets:?}:
    if secret in text:
        print(secret, 'shows:', text)
for line in lines:
    if line[2] == '{major}:{minor}' and line[3] not in {sources:?} and line[4] not in {shown:?}:
        print('of the host:', *line)
"
    );
    silent(&ground, &program).await
}

/// The numbers of a device, as the kernel packs them.
fn major_of(device: u64) -> u64 {
    (device >> 8) & 0xfff | (device >> 32) & !0xfff
}

fn minor_of(device: u64) -> u64 {
    device & 0xff | (device >> 12) & !0xff
}

/// 39 is `PR_GET_NO_NEW_PRIVS`.
const STATUS: &str = "
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'):
    # A kernel without ambient capabilities does not name them.
    print(name, int(status.get(name, '0'), 16))
import ctypes
print('NoNewPrivs', ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))
";

async fn restricted(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let said = agent.python(STATUS).await?;
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with("CapBnd"))
        .collect();
    let wanted = [
        "CapInh 0",
        "CapPrm 0",
        "CapEff 0",
        "CapAmb 0",
        "NoNewPrivs 1",
    ];
    same("status", lines, wanted)
}

async fn set_uid(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    agent
        .sh("cp $(command -v id) /tmp/id; chmod 4755 /tmp/id")
        .await?;
    let mut start = super::agent::command(&["/tmp/id", "-u"]);
    "1000:1000".clone_into(&mut start.user);
    same("its uid", agent.run(start).await?.ok()?, "1000\n")
}

const KERNEL: &str = "
for path in ('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname', '/proc/sys/vm/overcommit_memory',
             '/proc/sysrq-trigger', '/proc/irq/default_smp_affinity',
             '/sys/kernel/uevent_helper', '/sys/power/state', '/proc/acpi/wakeup'):
    refused('write to ' + path, lambda: write(path))
for path in ('/proc/kcore', '/proc/keys', '/proc/timer_list', '/dev/mem', '/dev/kmsg'):
    refused('read ' + path, lambda: read(path))
refused('a folder in /sys', lambda: os.mkdir('/sys/mine'))
refused('a folder in /proc', lambda: os.mkdir('/proc/mine'))
";

async fn kernel(ground: Ground<'_>) -> Verdict {
    silent(&ground, KERNEL).await
}

const NETWORK_SETTINGS: &str = "
for path in ('ipv4/ip_forward', 'ipv4/conf/all/forwarding', 'core/somaxconn'):
    path = '/proc/sys/net/' + path
    if os.path.exists(path):
        refused('write to ' + path, lambda: write(path))
";

async fn network_settings(ground: Ground<'_>) -> Verdict {
    silent(&ground, NETWORK_SETTINGS).await
}

const DEVICES: &str = "
harmless = 'core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero console'.split() + OWN
print(*(set(os.listdir('/dev')) - set(harmless)), end='')
for kind, major, minor in ((0o020000, 1, 1), (0o060000, 254, 0), (0o060000, 8, 0), (0o020000, 10, 232)):
    refused(f'device {major}:{minor}', lambda: os.mknod('/tmp/node', kind | 0o666, os.makedev(major, minor)))
";

async fn devices(ground: Ground<'_>) -> Verdict {
    // Behind these a kernel of its own has only what is its own.
    let own = if shares_kernel(ground.capabilities()) {
        "OWN = []"
    } else {
        "OWN = ['fuse', 'net']"
    };
    silent(&ground, &format!("{own}{DEVICES}")).await
}

const REFUSED: &str = "
for name in CALLS:
    if call(name) in (None, errno.EINVAL, errno.EFAULT, errno.EBADF):
        print(name, 'is not refused')
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x4000000, 0x8000000, 0x2000000):
    if call('unshare', flag) is None:
        print(f'unshare {flag:#x} is not refused')
refused('raw socket', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
refused('packet socket', lambda: socket.socket(17, socket.SOCK_RAW, 0))
refused('vsock', lambda: socket.socket(40, socket.SOCK_STREAM, 0))
refused('netfilter', lambda: socket.socket(16, socket.SOCK_RAW, 12))
";

async fn refused(ground: Ground<'_>) -> Verdict {
    silent(&ground, REFUSED).await
}

const AGENT: &str = "
for request in (16, 0x4206):
    if call('ptrace', request, 1) is None:
        print('the agent is traced')
refused('its memory', lambda: os.open('/proc/1/mem', os.O_RDWR))
refused('its environment', lambda: read('/proc/1/environ'))
refused('its descriptors', lambda: os.readlink('/proc/1/fd/0'))
refused('its program', lambda: os.open('/proc/1/exe', os.O_WRONLY))
for number in (9, 19):
    try:
        os.kill(1, number)
    except OSError:
        pass
";

async fn agent(ground: Ground<'_>) -> Verdict {
    silent(&ground, AGENT).await
}

async fn chroot(ground: Ground<'_>) -> Verdict {
    let secrets = ground.bed().secrets();
    let program = format!(
        "
os.makedirs('/tmp/cell', exist_ok=True)
outside = os.open('/', os.O_RDONLY)
try:
    os.chroot('/tmp/cell')
except OSError:
    pass
else:
    os.fchdir(outside)
    for _ in range(64):
        os.chdir('..')
    os.chroot('.')
for secret in {secrets:?}:
    refused(secret, lambda: os.stat(secret))
"
    );
    silent(&ground, &program).await
}
