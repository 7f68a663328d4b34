//! The agent as a node sees it: the binary that ships, driven over its socket.

mod exec;
mod files;
mod link;
mod node;
mod session;
mod tar;
mod terminal;
