//! Pages of a list: newest first, continued from the last id that was seen.

use std::fmt;
use std::str::FromStr;

use skerry_types::id::{base62_decode, base62_encode};
use skerry_types::{Error, ErrorCode};
use uuid::Uuid;

/// Where the next page begins. Opaque outside: it stays right when rows are added between two pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(Uuid);

impl Cursor {
    /// The page after this id.
    pub const fn after(id: Uuid) -> Self {
        Self(id)
    }

    /// The id.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", base62_encode(self.0.as_u128()))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.strip_prefix('c')
            .and_then(base62_decode)
            .map(|value| Self(Uuid::from_u128(value)))
            .ok_or_else(|| {
                Error::new(ErrorCode::BadRequest, "this cursor is not one of ours")
                    .with_hint("pass next_cursor as it came, or leave it out to start again")
            })
    }
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next begins, if there is one.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page of at most `limit` out of a list that was asked for one more.
    pub(crate) fn cut(mut items: Vec<T>, limit: u32, id: fn(&T) -> Uuid) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|item| Cursor(id(item)));
        Self { items, next }
    }
}
