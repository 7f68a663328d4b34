//! Where the time goes, on request: `cargo test -p skerry-driver-gvisor measure -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use skerry_driver::{Driver, Extent, Step};
use skerry_types::SnapshotId;

use crate::bed::test;

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
        println!("  {:<16} {:>8.1}", step.name, median(took));
    }
}

#[test]
#[ignore = "measures, and proves nothing"]
fn measure() {
    test(async |bed| {
        let driver = bed.driver().await;
        let first = bed.spec();
        driver.create(&first).await.unwrap();
        let (mut creates, mut keeps, mut restores) = (Vec::new(), Vec::new(), Vec::new());
        let (mut pauses, mut resumes) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (spec, copy, snapshot) = (bed.spec(), bed.spec(), SnapshotId::new());
            creates.push(driver.create(&spec).await.unwrap().steps);
            let kept = driver.snapshot(first.id, snapshot, Extent::Memory).await;
            keeps.push(kept.unwrap().steps);
            restores.push(driver.restore(snapshot, &copy).await.unwrap().steps);
            let began = Instant::now();
            driver.pause(copy.id).await.unwrap();
            pauses.push(began.elapsed());
            let began = Instant::now();
            driver.resume(copy.id).await.unwrap();
            resumes.push(began.elapsed());
            driver.destroy(spec.id).await.unwrap();
            driver.destroy(copy.id).await.unwrap();
            driver.remove_snapshot(snapshot).await.unwrap();
        }
        show("create", &creates);
        show("keep with memory", &keeps);
        show("restore with memory", &restores);
        println!("pause {:.1}, resume {:.1}", median(pauses), median(resumes));
        driver.destroy(first.id).await.unwrap();
    });
}
