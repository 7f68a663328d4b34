//! What came of a run: a line for each check.

use std::fmt;
use std::time::Duration;

use crate::Capabilities;

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What the driver declared.
    pub capabilities: Capabilities,
    /// The checks, in order.
    pub checked: Vec<Checked>,
}

/// What came of one check.
#[derive(Debug)]
pub struct Checked {
    /// `area: what holds`.
    pub name: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// What it needs is not declared, or it is the refusal of what is.
    LeftOut,
    /// It does not hold, and what was seen.
    Failed(String),
}

impl Report {
    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Checked> {
        self.checked
            .iter()
            .filter(|checked| matches!(checked.outcome, Outcome::Failed(_)))
    }
}

/// One line for each check: outcome, driver, milliseconds, name, and what was seen if it failed.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for checked in &self.checked {
            let (word, seen) = match &checked.outcome {
                Outcome::Passed => ("ok", ""),
                Outcome::LeftOut => ("-", ""),
                Outcome::Failed(seen) => ("FAILED", seen.as_str()),
            };
            let (driver, took) = (&self.capabilities.driver, checked.took.as_millis());
            write!(f, "{word:6} {driver:6} {took:6} ms  {}", checked.name)?;
            if !seen.is_empty() {
                write!(f, ": {seen}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
