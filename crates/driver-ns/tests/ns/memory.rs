//! What goes on in a copy, and what cannot be kept: the table of docs/driver-ns-memory.md.

use skerry_driver::{Driver, DriverError, Extent, NetworkMode, Spec};
use skerry_driver_ns::NsDriver;
use skerry_net::Network;
use skerry_proto::agent::{Call, Hold, Release, Renew};
use skerry_types::SnapshotId;

use crate::agent::Agent;
use crate::bed::{Bed, HELPER, create, test};

/// Programs that do one thing again and again, and count how often that went well.
const PROGRAMS: &str = include_str!("memory.py");
const GO_ON: [&str; 15] = [
    "threads",
    "child_tree",
    "zombie",
    "pty",
    "mapped_file",
    "shm_file",
    "memfd",
    "lock",
    "epoll",
    "inotify",
    "unix_socket",
    "tcp_inside",
    "tcp_waiting",
    "tcp_not_accepted",
    "udp",
];
/// What CRIU refuses on some kernels or on all.
const MAY_BE_REFUSED: [&str; 4] = ["deleted_file", "semaphore", "sysv_shm", "timer"];

/// Until it counted once more.
const COUNTS_ON: &str = "
before=$(cat /tmp/beat)
for i in $(seq 500); do
    [ \"$(cat /tmp/beat)\" -gt \"$before\" ] && exit 0
    sleep 0.01
done
echo \"it stays at $before: $(cat /tmp/log)\"; exit 1";

async fn start(driver: &NsDriver, spec: &Spec, program: &str) -> Agent {
    let (_, mut agent) = create(driver, spec).await;
    let script = format!("exec python3 -I -c \"$1\" {program} >/tmp/log 2>&1");
    let argv = ["/bin/sh", "-c", &script, "sh", PROGRAMS];
    agent.start("", &argv).await;
    let begun = "for i in $(seq 500); do [ -s /tmp/beat ] && exit 0; sleep 0.01; done; cat /tmp/log; exit 1";
    let begun = agent.sh(begun).await;
    assert_eq!(begun.stdout, "", "{program} does not begin");
    agent
}

/// Takes a snapshot with memory; the sandbox goes on either way.
async fn keep(
    driver: &NsDriver,
    spec: &Spec,
    agent: &mut Agent,
) -> (Result<(), DriverError>, SnapshotId) {
    let id = SnapshotId::new();
    agent.ask(Call::Hold(Hold {})).await;
    let kept = driver.snapshot(spec.id, id, Extent::Memory).await;
    *agent = Agent::new(driver.connect(spec.id).await.unwrap()).await;
    agent.ask(Call::Release(Release { renew: None })).await;
    (kept.map(drop), id)
}

async fn wake(driver: &NsDriver, from: SnapshotId, spec: &Spec) -> Result<Agent, DriverError> {
    driver.restore(from, spec).await?;
    let mut copy = Agent::new(driver.connect(spec.id).await?).await;
    let renew = Renew {
        entropy: vec![7; 64].into(),
        hostname: spec.hostname.clone(),
    };
    let renew = Some(renew);
    copy.ask(Call::Release(Release { renew })).await;
    Ok(copy)
}

/// `None`, said aloud: no memory can be kept here.
#[expect(clippy::print_stderr, reason = "whoever runs the test reads it")]
async fn driver(bed: &Bed, network: Option<Network>) -> Option<NsDriver> {
    let driver = bed.driver_with(HELPER.as_ref(), network).await;
    if driver.capabilities().memory_snapshot {
        return Some(driver);
    }
    eprintln!("left out: no CRIU 4.1, or no root or control groups for it");
    None
}

/// Runs a program, copies it, and says what does not go on then.
async fn troubles(driver: &NsDriver, spec: impl Fn() -> Spec, program: &str) -> Vec<String> {
    let mut troubles = Vec::new();
    let mut must_count = |whose: &str, said: String| {
        troubles.extend((!said.is_empty()).then(|| format!("{program}{whose}: {said}")));
    };
    let parent = spec();
    let mut agent = start(driver, &parent, program).await;
    let (kept, snapshot) = keep(driver, &parent, &mut agent).await;
    must_count(" itself", agent.sh(COUNTS_ON).await.stdout);
    if let Err(error) = kept {
        must_count(" is not kept", error.to_string());
    } else {
        let copy = spec();
        match wake(driver, snapshot, &copy).await {
            Err(error) => must_count(" does not wake up", error.to_string()),
            Ok(mut agent) => {
                must_count("'s copy", agent.sh(COUNTS_ON).await.stdout);
                driver.destroy(copy.id).await.unwrap();
            }
        }
        driver.remove_snapshot(snapshot).await.unwrap();
    }
    driver.destroy(parent.id).await.unwrap();
    troubles
}

#[test]
fn what_runs_goes_on_in_a_copy_and_in_what_was_copied() {
    test(async |bed| {
        let Some(driver) = driver(&bed, None).await else {
            return;
        };
        let mut all = Vec::new();
        for program in GO_ON {
            all.extend(troubles(&driver, || bed.spec(), program).await);
        }
        assert_eq!(all, Vec::<String>::new());
        bed.assert_clean();
    });
}

#[test]
fn what_was_bound_to_the_address_is_bound_to_that_of_the_copy() {
    test(async |bed| {
        let network = bed.network().await;
        if let Some(driver) = driver(&bed, Some(network.clone())).await {
            let spec = || Spec {
                network: NetworkMode::Nat,
                ..bed.spec()
            };
            let troubles = troubles(&driver, spec, "own_address").await;
            assert_eq!(troubles, Vec::<String>::new());
            bed.assert_clean();
        }
        network.stop().await.unwrap();
    });
}

/// The copy counts on, or CRIU says in one line why there is none.
async fn copy_or_reason(
    bed: &Bed,
    driver: &NsDriver,
    parent: &Spec,
    agent: &mut Agent,
) -> Result<(), DriverError> {
    let (kept, snapshot) = keep(driver, parent, agent).await;
    kept?;
    let copy = bed.spec();
    let woken = wake(driver, snapshot, &copy).await;
    driver.remove_snapshot(snapshot).await?;
    woken?.sh(COUNTS_ON).await.ok();
    driver.destroy(copy.id).await
}

#[test]
fn what_criu_cannot_do_is_a_reason_and_leaves_the_parent_alone() {
    test(async |bed| {
        let Some(driver) = driver(&bed, None).await else {
            return;
        };
        for program in MAY_BE_REFUSED {
            let parent = bed.spec();
            let mut agent = start(&driver, &parent, program).await;
            match copy_or_reason(&bed, &driver, &parent, &mut agent).await {
                Ok(()) => {}
                Err(DriverError::Unsupported(why)) if !why.contains('\n') => {
                    let is_told = why.contains("a program has") || program == "timer";
                    assert!(is_told, "{program}: {why}");
                }
                Err(other) => panic!("{program}: {other:?}"),
            }
            agent.sh(COUNTS_ON).await.ok();
            assert_eq!(driver.list_snapshots().await.unwrap(), []);
            driver.destroy(parent.id).await.unwrap();
        }
        bed.assert_clean();
    });
}

#[test]
fn many_copies_of_a_counting_program_count_on_each_by_itself() {
    test(async |bed| {
        let Some(driver) = driver(&bed, None).await else {
            return;
        };
        let copies = if std::env::var_os("SKERRY_TEST_ALL").is_some() {
            20
        } else {
            3
        };
        let parent = bed.spec();
        let mut agent = start(&driver, &parent, "heap").await;
        let (kept, snapshot) = keep(&driver, &parent, &mut agent).await;
        kept.unwrap();
        let mut made = Vec::new();
        for _ in 0..copies {
            let copy = bed.spec();
            let agent = wake(&driver, snapshot, &copy).await.unwrap();
            made.push((copy, agent));
        }
        for (spec, agent) in &mut made {
            agent.sh(COUNTS_ON).await.ok();
            driver.destroy(spec.id).await.unwrap();
        }
        agent.sh(COUNTS_ON).await.ok();
        driver.destroy(parent.id).await.unwrap();
        driver.remove_snapshot(snapshot).await.unwrap();
        bed.assert_clean();
    });
}
