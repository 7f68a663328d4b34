//! Why a check failed: what was seen.

use std::fmt;

/// Why a check failed.
#[derive(Debug)]
pub(crate) struct Failure(String);

/// What a check comes to.
pub(crate) type Verdict<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(seen: impl Into<String>) -> Self {
        Self(seen.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// With the whole chain of causes.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self(text)
    }
}

/// Fails the check unless it holds.
macro_rules! ensure {
    ($holds:expr, $($seen:tt)+) => {
        if !$holds {
            return Err($crate::conformance::failure::Failure::new(format!($($seen)+)));
        }
    };
}
pub(crate) use ensure;

/// Fails the check unless they are the same.
#[expect(
    clippy::needless_pass_by_value,
    reason = "most of what is seen is seen once"
)]
pub(crate) fn same<T, U>(what: &str, seen: T, wanted: U) -> Verdict
where
    T: fmt::Debug + PartialEq<U>,
    U: fmt::Debug,
{
    ensure!(seen == wanted, "{what}: saw {seen:?}, wanted {wanted:?}");
    Ok(())
}
