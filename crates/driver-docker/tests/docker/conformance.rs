//! The suite that every driver passes.

use std::env;

use skerry_driver::conformance::run;

use crate::bed::test;
use crate::service::Kind;

/// Checks that run by default: what only this driver could get wrong.
const QUICK: [&str; 9] = [
    "life: a sandbox is made, listed, killed and destroyed",
    "life: an agent told to shut down takes the sandbox with it",
    "life: files outlive a kill",
    "attach: a link cut again and again",
    "limits: ",
    "isolation: no capability",
    "pause: a paused sandbox can be killed",
    "snapshot: outlives its sandbox",
    "adopt: ",
];

/// `SKERRY_CONFORMANCE` names the checks to run; with `SKERRY_TEST_ALL` all of them run.
#[test]
fn conforms_to_what_it_declares() {
    conforms(Kind::Podman);
}

/// The same over Docker's own daemon, which takes its time.
#[test]
fn conforms_with_docker_too() {
    if env::var_os("SKERRY_TEST_ALL").is_none() {
        println!("left out: SKERRY_TEST_ALL=1 runs it");
        return;
    }
    conforms(Kind::Docker);
}

fn conforms(engine: Kind) {
    let named = env::var("SKERRY_CONFORMANCE").ok();
    let all = env::var_os("SKERRY_TEST_ALL").map(|_| String::new());
    let filters = match named.or(all) {
        Some(filter) => vec![filter],
        None => QUICK.map(str::to_owned).into(),
    };
    test(engine, async |bed| {
        for filter in filters {
            let report = run(&*bed, &filter).await;
            println!("{report}");
            assert!(!report.checked.is_empty(), "no check is called {filter:?}");
            assert_eq!(report.failed().count(), 0, "{report}");
        }
    });
}
