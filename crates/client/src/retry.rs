//! When to try again, and after how long.

use std::time::Duration;

use reqwest::{Response, StatusCode, header};

/// Times that a request is sent at most.
pub(crate) const ATTEMPTS: u32 = 4;
/// A server that wants us to wait longer gets no second try.
const MOST_PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether a request may be sent again although it might have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Doing it twice is the same as doing it once.
    Safe,
    /// Only when the server said that it did not do it.
    IfRefused,
}

/// A pause that doubles with each failed attempt, from 0, and differs between clients.
pub(crate) fn backoff(attempt: u32) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(attempt));
    whole
        .min(LONGEST_PAUSE)
        .mul_f64(rand::random_range(0.5..1.0))
}

/// How long to wait before the same request is sent again; `None`: do not.
pub(crate) fn pause_after(response: &Response, attempt: u32) -> Option<Duration> {
    let asked = retry_after(response);
    let pause = match response.status() {
        StatusCode::TOO_MANY_REQUESTS => asked?,
        StatusCode::SERVICE_UNAVAILABLE => asked.unwrap_or_else(|| backoff(attempt)),
        _ => return None,
    };
    (pause <= MOST_PATIENCE).then_some(pause)
}

/// How long to wait for what the server is still doing for us; `None`: too long, or it does not say.
pub(crate) fn pause_meanwhile(response: &Response) -> Option<Duration> {
    retry_after(response).filter(|pause| *pause <= MOST_PATIENCE)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for attempt in 0..100 {
            let pause = backoff(attempt);
            assert!(pause <= LONGEST_PAUSE);
            assert!(pause >= FIRST_PAUSE.min(LONGEST_PAUSE) / 2);
        }
        assert!(backoff(10) > backoff(0));
    }
}
