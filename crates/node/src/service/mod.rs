//! node.v1, answered by actors and journals.

mod events;
mod execs;
mod files;
mod health;
mod making;
mod order;
mod ports;
mod program;
mod sandboxes;
mod sessions;
mod snapshots;
mod volumes;
