//! The store of images seen from outside; one binary, so that it is linked once.

mod base;
mod common;
mod hostile;
mod import;
mod pull;
mod store;
