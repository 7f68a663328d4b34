//! Spawners and daemons that die at any moment.
