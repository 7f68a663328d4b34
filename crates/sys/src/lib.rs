//! Safe Linux primitives: the only crate beside the agent that may use `unsafe`.

pub mod boot;
pub mod btrfs;
pub mod cgroup;
pub mod clone;
pub mod connections;
pub mod entropy;
pub mod exec;
pub mod fdpass;
pub mod folder;
pub mod fsfreeze;
pub mod idmap;
pub mod loopback;
pub mod loopdev;
pub mod memfd;
pub mod mount;
pub mod netlink;
pub mod pidfd;
pub mod poll;
pub mod processes;
pub mod ranges;
pub mod seccomp;
pub mod tap;
pub mod userns;
pub mod watch;
