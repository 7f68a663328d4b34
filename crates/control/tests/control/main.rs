//! Control against a real store and a node in memory that breaks on command.

mod create;
mod ends;
mod fake;
mod forks;
mod keys;
mod once;
mod races;
mod recovery;
mod world;
