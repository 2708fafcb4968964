//! End to end: the real binary, real inotify, real sockets, a real sshd; rsync is the judge.
//!
//! Nothing here waits for a time to pass: every wait is for a condition and has a deadline, after
//! which the logs of all processes of the test are shown.

#![allow(clippy::unwrap_used)]

mod endpoint;
mod fixture;
mod judge;
mod process;
mod sshd;
mod tree;
mod wait;

mod accidents;
mod bad_input;
mod fidelity;
mod filters;
mod hostile;
mod kill_and_restart;
mod limits;
mod main_job;
mod mounts;
mod operations;
mod owners;
mod peers;
mod problems;
mod push;
mod python_peer;
mod random_trees;
mod sparse;
mod through_ssh;
