//! What was measured: for each row and each contestant the values, in the order of the rows.

use std::time::Duration;

use serde::Serialize;

/// One thing that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    /// What.
    pub(crate) title: &'static str,
    /// `ms`, `MiB`, `MiB/s` or `1/s`.
    pub(crate) unit: &'static str,
    /// The value to reach, as the design says it.
    pub(crate) reach: Option<&'static str>,
}

/// All values of a run.
#[derive(Debug, Default)]
pub(crate) struct Results {
    measured: Vec<(Row, Vec<Measured>)>,
    /// Who could not take part, and why.
    pub(crate) missing: Vec<Missing>,
    /// What a reader must know of this run.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug)]
struct Measured {
    who: String,
    values: Vec<f64>,
}

/// Somebody who could not take part in all or some of it.
#[derive(Debug, Serialize)]
pub(crate) struct Missing {
    pub(crate) who: String,
    pub(crate) why: String,
}

/// A row with its figures.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    #[serde(flatten)]
    pub(crate) row: Row,
    pub(crate) figures: Vec<Figures>,
}

/// The figures of one contestant.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) who: String,
    pub(crate) n: usize,
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// This one's p50 divided by ours.
    pub(crate) ratio: Option<f64>,
    /// Our p50 without this one's.
    pub(crate) ours_more: Option<f64>,
}

/// We, among the contestants.
pub(crate) const US: &str = "skerry";

impl Results {
    /// Adds a time to a row in `ms`.
    pub(crate) fn time(&mut self, row: Row, who: &str, took: Duration) {
        self.add(row, who, took.as_secs_f64() * 1e3);
    }

    /// Adds a value.
    pub(crate) fn add(&mut self, row: Row, who: &str, value: f64) {
        let at = self.measured.iter().position(|(known, _)| *known == row);
        let at = at.unwrap_or_else(|| {
            self.measured.push((row, Vec::new()));
            self.measured.len() - 1
        });
        let all = &mut self.measured[at].1;
        match all.iter_mut().find(|measured| measured.who == who) {
            Some(measured) => measured.values.push(value),
            None => all.push(Measured {
                who: who.to_owned(),
                values: vec![value],
            }),
        }
    }

    pub(crate) fn miss(&mut self, who: &str, why: impl Into<String>) {
        self.missing.push(Missing {
            who: who.to_owned(),
            why: why.into(),
        });
    }

    pub(crate) fn summary(&self) -> Vec<Summary> {
        let figures = |all: &[Measured]| -> Vec<Figures> {
            let mut figures: Vec<Figures> = all.iter().map(Figures::of).collect();
            let ours = figures.iter().find(|f| f.who == US).map(|f| f.p50);
            for other in figures.iter_mut().filter(|f| f.who != US) {
                other.ratio = ours.map(|ours| other.p50 / ours);
                other.ours_more = ours.map(|ours| ours - other.p50);
            }
            figures
        };
        self.measured
            .iter()
            .map(|(row, all)| Summary {
                row: *row,
                figures: figures(all),
            })
            .collect()
    }
}

impl Figures {
    fn of(measured: &Measured) -> Self {
        let mut sorted = measured.values.clone();
        sorted.sort_by(f64::total_cmp);
        Self {
            who: measured.who.clone(),
            n: sorted.len(),
            min: quantile(&sorted, 0.0),
            p50: quantile(&sorted, 0.5),
            p95: quantile(&sorted, 0.95),
            p99: quantile(&sorted, 0.99),
            max: quantile(&sorted, 1.0),
            ratio: None,
            ours_more: None,
        }
    }
}

/// The value that this share of all values does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    let value = sorted.get(rank.clamp(1, sorted.len().max(1)) - 1);
    value.copied().unwrap_or(f64::NAN)
}
