//! Where the time goes, on request: `cargo test -p skerry-driver-vm measure -- --ignored --nocapture`.

use std::fs;
use std::time::{Duration, Instant};

use skerry_driver::{Driver, Extent, Spec, Step};
use skerry_types::{SandboxId, SnapshotId};
use tokio::io::AsyncReadExt;

use crate::bed::{spec, test};

const ROUNDS: usize = 15;

/// The middle of some durations, in milliseconds.
fn median(mut all: Vec<Duration>) -> f64 {
    all.sort_unstable();
    all[all.len() / 2].as_secs_f64() * 1000.0
}

fn show(what: &str, rounds: &[Vec<Step>]) {
    println!("{what}: median of {} in ms", rounds.len());
    for (at, step) in rounds[0].iter().enumerate() {
        let took = rounds.iter().map(|steps| steps[at].took).collect();
        println!("  {:<24} {:>8.1}", step.name, median(took));
    }
}

/// From the word to the agent's first byte.
async fn greet(driver: &dyn Driver, id: SandboxId) -> Duration {
    let began = Instant::now();
    let mut link = driver.connect(id).await.unwrap();
    link.read_u8().await.unwrap();
    began.elapsed()
}

/// What a machine's processes take of the host's memory, shared pages by halves, in KiB.
fn pss(id: SandboxId) -> u64 {
    let name = format!("skerry-vm:{}", id.label());
    let of = |pid: &str| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let is_it = |pid: &String| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(&name)
    };
    let text: String = pids.filter(is_it).map(|pid| of(&pid)).collect();
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "measures, and proves nothing"]
fn measure() {
    test(async |bed| {
        let driver = bed.driver(None).await;
        let began = Instant::now();
        let first = spec();
        driver.create(&first).await.unwrap();
        println!("first of its kind: {:?}", began.elapsed());
        let (mut creates, mut greets) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let spec = spec();
            creates.push(driver.create(&spec).await.unwrap().steps);
            greets.push(greet(&driver, spec.id).await);
            driver.destroy(spec.id).await.unwrap();
        }
        show("create", &creates);
        println!("  connect to first byte    {:>8.1}", median(greets));
        let (mut keeps, mut restores, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (snapshot, spec) = (SnapshotId::new(), spec());
            let kept = driver.snapshot(first.id, snapshot, Extent::Memory).await;
            let kept = kept.unwrap();
            held.push(kept.held);
            keeps.push(kept.steps);
            restores.push(driver.restore(snapshot, &spec).await.unwrap().steps);
            greet(&driver, spec.id).await;
            driver.destroy(spec.id).await.unwrap();
            driver.remove_snapshot(snapshot).await.unwrap();
        }
        show("snapshot with memory", &keeps);
        println!("  held                     {:>8.1}", median(held));
        show("restore", &restores);
        let many: Vec<Spec> = (0..10).map(|_| spec()).collect();
        for spec in &many {
            driver.create(spec).await.unwrap();
        }
        let all: Vec<u64> = many.iter().map(|spec| pss(spec.id)).collect();
        println!(
            "memory of each of ten (PSS): {:?} MiB",
            all.iter().map(|kib| kib / 1024).collect::<Vec<_>>()
        );
        for spec in many.iter().chain([&first]) {
            driver.destroy(spec.id).await.unwrap();
        }
    });
}
