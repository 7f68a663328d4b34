//! A guest's clock, set right from outside: after a restore, and whenever the machine stood, since its clock stands with it.
//!
//! A time that is sent is wrong by as long as it takes until it is heard, which is long for a guest that was just restored; so the clock is read and
//! then told by how much it is wrong.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use skerry_driver::DriverError;
use skerry_proto::guest::{Call, Clock, Reply};
use tokio::time::timeout;

use crate::control;
use crate::record::Place;

/// An answer that came as soon is exact enough: the clock was read in the middle of it, half of this more or less.
const SOON: Duration = Duration::from_millis(4);
const LOOKS: usize = 5;
/// For all of it: a guest that takes longer keeps nobody waiting but those who want something of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was seen of a clock.
struct Look {
    wrong_ns: i64,
    took: Duration,
}

/// Sets it to what the host's says.
pub(crate) async fn set_right(place: &Place) -> Result<(), DriverError> {
    let set = timeout(PATIENCE, look_and_set(place)).await;
    set.unwrap_or(Err(DriverError::TooSlow(PATIENCE.as_secs())))
}

async fn look_and_set(place: &Place) -> Result<(), DriverError> {
    let mut best = look(place, 0).await?;
    for _ in 1..LOOKS {
        if best.took <= SOON {
            break;
        }
        let next = look(place, 0).await?;
        if next.took < best.took {
            best = next;
        }
    }
    look(place, best.wrong_ns.saturating_neg()).await.map(drop)
}

async fn look(place: &Place, shift_ns: i64) -> Result<Look, DriverError> {
    let (began, before) = (Instant::now(), SystemTime::now());
    let reply = control::ask(place, Call::Clock(Clock { shift_ns }), PATIENCE);
    let Reply::Time(said) = reply.await? else {
        let text = "it answered something else";
        return Err(DriverError::step("read the guest's clock")(text));
    };
    let took = began.elapsed();
    let middle = (before + took / 2).duration_since(UNIX_EPOCH);
    let middle = middle.map_or(0, |middle| middle.as_nanos() as i64);
    let wrong_ns = said.saturating_sub(middle);
    Ok(Look { wrong_ns, took })
}
