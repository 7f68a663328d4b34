//! What a program inside tries, and must not get.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use skerry_driver::{Driver, Privilege};

use crate::agent::Agent;
use crate::bed::{Bed, create, is_root, test};

/// Tries everything and prints what was not refused in the way it should be. `{…}` comes from [`program`].
const PROBES: &str = include_str!("probes.py");

/// Numbers of system calls that the probes make.
const CALLS: &[(&str, i64)] = &[
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("pivot_root", libc::SYS_pivot_root),
    ("open_tree", libc::SYS_open_tree),
    ("move_mount", libc::SYS_move_mount),
    ("fsopen", libc::SYS_fsopen),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("unshare", libc::SYS_unshare),
    ("setns", libc::SYS_setns),
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("keyctl", libc::SYS_keyctl),
    ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("delete_module", libc::SYS_delete_module),
    ("kexec_load", libc::SYS_kexec_load),
    ("reboot", libc::SYS_reboot),
    ("swapon", libc::SYS_swapon),
    ("acct", libc::SYS_acct),
    ("syslog", libc::SYS_syslog),
    ("quotactl", libc::SYS_quotactl),
    ("settimeofday", libc::SYS_settimeofday),
    ("clock_settime", libc::SYS_clock_settime),
    ("adjtimex", libc::SYS_adjtimex),
    ("sethostname", libc::SYS_sethostname),
    ("setdomainname", libc::SYS_setdomainname),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("name_to_handle_at", libc::SYS_name_to_handle_at),
    ("fanotify_init", libc::SYS_fanotify_init),
    ("memfd_secret", libc::SYS_memfd_secret),
    ("clone", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("ptrace", libc::SYS_ptrace),
    ("personality", libc::SYS_personality),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("prlimit64", libc::SYS_prlimit64),
];

fn program(level: Privilege, host_file: &str, port: u16, abstract_name: &str) -> String {
    let calls: Vec<String> = CALLS
        .iter()
        .map(|(name, n)| format!("'{name}': {n}"))
        .collect();
    let root = if level == Privilege::Root {
        "True"
    } else {
        "False"
    };
    let values = format!(
        "CALLS = {{{}}}\nROOT = {root}\nHOST_FILE = '{host_file}'\nHOST_PID = {}\nHOST_PORT = {port}\nHOST_SOCKET = '{abstract_name}'\n",
        calls.join(", "),
        std::process::id(),
    );
    values + PROBES
}

async fn probe(bed: &Bed, level: Privilege) {
    let secret = bed.path("secret");
    fs::write(&secret, "of the host").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("skerry-{}", secret.display());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let driver = bed.driver().await;
    let mut spec = bed.spec();
    spec.privilege = level;
    let (_, mut agent) = create(&driver, &spec).await;
    let port = tcp.local_addr().unwrap().port();
    let output = agent
        .python(&program(level, secret.to_str().unwrap(), port, &name))
        .await;
    assert_eq!(output.stderr, "");
    assert_eq!(output.ok(), "done\n");
    sees_only_its_own(&mut agent, bed).await;
    agent.sh("kill -9 1; kill -9 -1; true").await.ok();
    assert_eq!(
        agent.sh("echo alive").await.ok(),
        "alive\n",
        "nobody inside ends the agent"
    );
    driver.destroy(spec.id).await.unwrap();
    bed.assert_clean();
}

async fn sees_only_its_own(agent: &mut Agent, bed: &Bed) {
    let mounts = agent.sh("cat /proc/self/mountinfo").await.ok();
    let data = bed.data();
    assert!(
        !mounts.contains(data.to_str().unwrap()),
        "the host's folders show: {mounts}"
    );
    let at_root = mounts
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some("/"));
    assert_eq!(
        at_root.count(),
        1,
        "something lies on or below the root: {mounts}"
    );
    let groups = agent.sh("cat /proc/self/cgroup").await.ok();
    let path = &bed.cgroup_parent;
    assert!(
        !groups.contains(path.as_str()),
        "the host's groups show: {groups}"
    );
    let devices = agent.sh("cd /dev; echo *").await.ok();
    let expected = "core fd full null ptmx pts random shm stderr stdin stdout tty urandom zero\n";
    assert_eq!(devices, expected);
}

#[test]
fn nothing_gets_out_at_level_restricted() {
    test(async |bed| probe(&bed, Privilege::Restricted).await);
}

#[test]
fn nothing_gets_out_at_level_root() {
    if !is_root() {
        eprintln!("left out: level root needs root");
        return;
    }
    test(async |bed| probe(&bed, Privilege::Root).await);
}

#[test]
fn capabilities_are_those_of_the_level_and_set_uid_works_at_root_only() {
    if !is_root() {
        eprintln!("left out: other users need root");
        return;
    }
    test(async |bed| {
        let driver = bed.driver().await;
        let (restricted, root) = (bed.spec(), bed.spec_root());
        let (_, mut none) = create(&driver, &restricted).await;
        let (_, mut some) = create(&driver, &root).await;
        let status = "grep -E '^(Cap(Eff|Prm|Inh|Amb)|NoNewPrivs|Seccomp):' /proc/self/status | cut -f2 | paste -sd' '";
        let zero = "0000000000000000";
        assert_eq!(
            none.sh(status).await.ok(),
            format!("{zero} {zero} {zero} {zero} 1 2\n")
        );
        // chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot audit_write setfcap
        let twelve = "00000000a00405fb";
        assert_eq!(
            some.sh(status).await.ok(),
            format!("{zero} {twelve} {twelve} {zero} 0 2\n")
        );
        let make = "cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id";
        none.sh(make).await.ok();
        some.sh(make).await.ok();
        assert_eq!(none.run("user", &["/tmp/id", "-u"]).await.ok(), "1000\n");
        assert_eq!(some.run("user", &["/tmp/id", "-u"]).await.ok(), "0\n");
        driver.destroy(restricted.id).await.unwrap();
        driver.destroy(root.id).await.unwrap();
    });
}

#[test]
fn no_two_sandboxes_share_ids_on_the_host() {
    if !is_root() {
        eprintln!("left out: id ranges need root");
        return;
    }
    test(async |bed| {
        let driver = bed.driver().await;
        let (a, b) = (bed.spec_root(), bed.spec());
        let (_, mut first) = create(&driver, &a).await;
        let (_, mut second) = create(&driver, &b).await;
        let map = "cat /proc/self/uid_map /proc/self/gid_map";
        assert_ne!(first.sh(map).await.ok(), second.sh(map).await.ok());
        // Files keep the ids of the inside, so a fork into another range owns them.
        first.sh("touch /mine; chown 1000:1000 /mine").await.ok();
        let child = bed.spec();
        driver.fork(a.id, &child).await.unwrap();
        let mut forked = Agent::new(driver.connect(child.id).await.unwrap()).await;
        let owners = forked.sh("stat -c %u:%g /mine /usr /tmp").await.ok();
        assert_eq!(owners, "1000:1000\n0:0\n0:0\n");
        for spec in [a, b, child] {
            driver.destroy(spec.id).await.unwrap();
        }
        bed.assert_clean();
    });
}
