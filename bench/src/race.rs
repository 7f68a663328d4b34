//! Turns: contestants do the same thing one after the other, round after round.

use anyhow::{Context, Result};
use async_trait::async_trait;

use crate::results::Results;

/// Somebody who does what a race is about.
#[async_trait]
pub(crate) trait Contestant: Send {
    fn name(&self) -> &str;

    /// How many times it is worth waiting for.
    fn rounds(&self) -> usize;

    /// Does it once and notes what it took.
    async fn once(&mut self, results: &mut Results) -> Result<()>;
}

/// Lets everyone take turns; those with fewer rounds sit some out. Who fails leaves the race, and the report says why.
pub(crate) async fn run(
    mut contestants: Vec<Box<dyn Contestant>>,
    results: &mut Results,
) -> Result<()> {
    let rounds = contestants.iter().map(|c| c.rounds()).max().unwrap_or(0);
    for contestant in &mut contestants {
        // The first time fills caches.
        drop(contestant.once(&mut Results::default()).await);
    }
    for round in 0..rounds {
        let mut at = 0;
        while let Some(contestant) = contestants.get_mut(at) {
            if takes_part(round, contestant.rounds(), rounds) {
                let done = contestant.once(results).await;
                let name = contestant.name();
                if let Err(error) = done {
                    if name == crate::results::US {
                        return Err(error).context("our own turn");
                    }
                    results.miss(name, format!("{error:#}"));
                    contestants.remove(at);
                    continue;
                }
            }
            at += 1;
        }
    }
    Ok(())
}

/// Spreads a smaller number of turns evenly over all rounds.
fn takes_part(round: usize, turns: usize, rounds: usize) -> bool {
    (round + 1) * turns / rounds > round * turns / rounds
}
