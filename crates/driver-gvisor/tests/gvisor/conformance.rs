//! The suite that every driver passes.

use std::env;

use skerry_driver::conformance::run;

use crate::bed::test;

/// `SKERRY_CONFORMANCE` names the checks to run; all without it.
#[test]
fn conforms_to_what_it_declares() {
    let filter = env::var("SKERRY_CONFORMANCE").unwrap_or_default();
    if let Some(report) = test(async |bed| run(&*bed, &filter).await) {
        println!("{report}");
        assert_eq!(report.failed().count(), 0, "{report}");
    }
}
