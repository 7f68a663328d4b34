//! The namespace driver against the kernel of this machine.
//!
//! As root everything is tried; as an ordinary user what needs root says that it is left out.

mod agent;
mod bed;
mod crash;
mod life;
mod limits;
mod rootless;
mod walls;
