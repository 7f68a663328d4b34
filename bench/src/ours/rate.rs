//! How many sandboxes a second, for a while.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;

use super::{Stage, plain};
use crate::api::{Api, Sandbox};
use crate::results::{Results, Row, US};

const CREATES: Row = per_second("creates a second, 8 at a time, 240 kept", Some("≥ 200"));
const CYCLES: Row = per_second("created and deleted a second, 8 at a time, for 5 s", None);
const AT_ONCE: usize = 8;
const EACH: usize = 30;
const WHILE: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;

const fn per_second(title: &'static str, reach: Option<&'static str>) -> Row {
    Row {
        title,
        unit: "1/s",
        reach,
    }
}

pub(super) async fn measure(stage: Stage<'_>, results: &mut Results) -> Result<()> {
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let made = try_join_all((0..AT_ONCE).map(|_| create(stage.api))).await?;
        let rate = (AT_ONCE * EACH) as f64 / began.elapsed().as_secs_f64();
        results.add(CREATES, US, rate);
        for some in made.concat().chunks(AT_ONCE) {
            try_join_all(some.iter().map(Sandbox::delete)).await?;
        }
        let began = Instant::now();
        let cycles = try_join_all((0..AT_ONCE).map(|_| cycle(stage.api))).await?;
        let cycles: usize = cycles.iter().sum();
        results.add(CYCLES, US, cycles as f64 / began.elapsed().as_secs_f64());
    }
    Ok(())
}

async fn create(api: &Api) -> Result<Vec<Sandbox>> {
    let mut made = Vec::new();
    for _ in 0..EACH {
        made.push(api.create(&plain()).await?);
    }
    Ok(made)
}

async fn cycle(api: &Api) -> Result<usize> {
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < WHILE {
        api.create(&plain()).await?.delete().await?;
        count += 1;
    }
    Ok(count)
}
