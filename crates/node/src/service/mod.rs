//! node.v1, answered by actors and journals.

mod events;
mod execs;
mod files;
mod sandboxes;
mod sessions;
