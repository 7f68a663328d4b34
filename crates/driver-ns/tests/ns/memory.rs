//! What goes on in a copy, and what cannot be kept: the table of docs/driver-ns-memory.md.

use skerry_driver::{Driver, DriverError, Extent, Spec};
use skerry_driver_ns::NsDriver;
use skerry_proto::agent::{Call, Hold, Release, Renew};
use skerry_types::SnapshotId;

use crate::agent::Agent;
use crate::bed::{Bed, create, test};

/// Programs that do one thing again and again, and count how often that went well.
const PROGRAMS: &str = include_str!("memory.py");
const GO_ON: [&str; 11] = [
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
];
/// What CRIU 4.1.1 refuses on some kernels or on all.
const MAY_BE_REFUSED: [&str; 5] = [
    "tcp_inside",
    "deleted_file",
    "semaphore",
    "sysv_shm",
    "timer",
];

/// Until it counted once more.
const COUNTS_ON: &str = "
before=$(cat /tmp/beat)
for i in $(seq 500); do
    [ \"$(cat /tmp/beat)\" -gt \"$before\" ] && exit 0
    sleep 0.01
done
echo \"it stays at $before: $(cat /tmp/log)\"; exit 1";

async fn start(bed: &Bed, driver: &NsDriver, program: &str) -> (Spec, Agent) {
    let spec = bed.spec();
    let (_, mut agent) = create(driver, &spec).await;
    let script = format!("exec python3 -I -c \"$1\" {program} >/tmp/log 2>&1");
    let argv = ["/bin/sh", "-c", &script, "sh", PROGRAMS];
    agent.start("", &argv).await;
    let begun = "for i in $(seq 500); do [ -s /tmp/beat ] && exit 0; sleep 0.01; done; cat /tmp/log; exit 1";
    let begun = agent.sh(begun).await;
    assert_eq!(begun.stdout, "", "{program} does not begin");
    (spec, agent)
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

async fn wake(
    bed: &Bed,
    driver: &NsDriver,
    from: SnapshotId,
) -> Result<(Spec, Agent), DriverError> {
    let spec = bed.spec();
    driver.restore(from, &spec).await?;
    let mut copy = Agent::new(driver.connect(spec.id).await?).await;
    let renew = Renew {
        entropy: vec![7; 64].into(),
        hostname: spec.hostname.clone(),
        ..Renew::default()
    };
    let renew = Some(renew);
    copy.ask(Call::Release(Release { renew })).await;
    Ok((spec, copy))
}

/// `None`, said aloud: no memory can be kept here.
#[expect(clippy::print_stderr, reason = "whoever runs the test reads it")]
async fn driver(bed: &Bed) -> Option<NsDriver> {
    let driver = bed.driver().await;
    if driver.capabilities().memory_snapshot {
        return Some(driver);
    }
    eprintln!("left out: no CRIU 4.1, or no root or control groups for it");
    None
}

#[test]
fn what_runs_goes_on_in_a_copy_and_in_what_was_copied() {
    test(async |bed| {
        let Some(driver) = driver(&bed).await else {
            return;
        };
        let mut troubles = Vec::new();
        for program in GO_ON {
            let (parent, mut agent) = start(&bed, &driver, program).await;
            let (kept, snapshot) = keep(&driver, &parent, &mut agent).await;
            let on = agent.sh(COUNTS_ON).await;
            troubles.extend(
                (!on.stdout.is_empty()).then(|| format!("{program} itself: {}", on.stdout)),
            );
            if let Err(error) = kept {
                troubles.push(format!("{program} is not kept: {error}"));
            } else {
                let mut woken = wake(&bed, &driver, snapshot).await;
                if woken.is_err() {
                    // Now and then CRIU 4.1.1 loses one; whoever asks again gets it.
                    woken = wake(&bed, &driver, snapshot).await;
                }
                match woken {
                    Err(error) => troubles.push(format!("{program} does not wake up: {error}")),
                    Ok((copy, mut agent)) => {
                        let on = agent.sh(COUNTS_ON).await.stdout;
                        troubles
                            .extend((!on.is_empty()).then(|| format!("{program}'s copy: {on}")));
                        driver.destroy(copy.id).await.unwrap();
                    }
                }
                driver.remove_snapshot(snapshot).await.unwrap();
            }
            driver.destroy(parent.id).await.unwrap();
        }
        assert_eq!(troubles, Vec::<String>::new());
        bed.assert_clean();
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
    let woken = wake(bed, driver, snapshot).await;
    driver.remove_snapshot(snapshot).await?;
    let (copy, mut agent) = woken?;
    agent.sh(COUNTS_ON).await.ok();
    driver.destroy(copy.id).await
}

#[test]
fn what_criu_cannot_do_is_a_reason_and_leaves_the_parent_alone() {
    test(async |bed| {
        let Some(driver) = driver(&bed).await else {
            return;
        };
        for program in MAY_BE_REFUSED {
            let (parent, mut agent) = start(&bed, &driver, program).await;
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
        let Some(driver) = driver(&bed).await else {
            return;
        };
        let copies = if std::env::var_os("SKERRY_TEST_ALL").is_some() {
            20
        } else {
            3
        };
        let (parent, mut agent) = start(&bed, &driver, "heap").await;
        let (kept, snapshot) = keep(&driver, &parent, &mut agent).await;
        kept.unwrap();
        let mut made = Vec::new();
        for _ in 0..copies {
            made.push(wake(&bed, &driver, snapshot).await.unwrap());
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
