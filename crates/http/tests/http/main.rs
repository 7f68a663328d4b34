//! The edge through its public door: a real server over real control, with a node in memory behind it.
#![expect(unreachable_pub, reason = "the modules of one test binary")]

mod guard;
mod input;
mod log;
mod node;
mod operations;
mod pages;
mod serving;
mod streams;
mod surface;
mod world;
