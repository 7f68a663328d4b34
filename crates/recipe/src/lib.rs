//! Recipes: how a template is made, read from a Dockerfile or a TOML file.
//!
//! Every front end ends in one [`Recipe`]; what its steps mean is told by [`State`], and what makes two of them the same by [`Key`]. There is a
//! parser of our own because variables stand in words whose quotes matter, and the parsers there are take the quotes away.
//!
//! Invariant: pure. No I/O, no async; nothing that a file says is executed here.
#![warn(missing_docs)]

mod dockerfile;
mod document;
mod error;
mod ignore;
mod key;
mod lines;
mod ready;
mod recipe;
mod state;
mod text;
mod words;

pub use dockerfile::dockerfile;
pub use document::document;
pub use error::ParseError;
pub use ignore::{Ignore, wild};
pub use key::Key;
pub use ready::{READY_MADE, ReadyMade, ready_made};
pub use recipe::{Action, Command, Map, Recipe, Step};
pub use state::{Effect, State};
pub use text::{Text, TextError};
