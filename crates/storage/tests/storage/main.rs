//! The store as its callers see it, on every rung that this machine has.

#[cfg(test)]
mod common;
#[cfg(test)]
mod pool;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod volumes;
