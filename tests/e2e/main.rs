//! End to end: the real binary, real inotify, real sockets, a real sshd; rsync is the judge.
//!
//! Nothing here waits for a time to pass: every wait is for a condition and has a deadline, after
//! which the logs of all processes of the test are shown.

#![allow(clippy::unwrap_used)]

mod checked;
mod disk;
mod endpoint;
mod fixture;
mod judge;
mod process;
mod proxy;
mod seed;
mod sshd;
mod tree;
mod wait;

mod accidents;
mod audit;
mod background;
mod bad_input;
mod chaos;
mod compression;
mod deltas;
mod fidelity;
mod filters;
mod frozen_peer;
mod full_target;
mod hostile;
mod kill_and_restart;
mod killed_again;
mod limits;
mod link_faults;
mod lost_terminal;
mod lying_sink;
mod main_job;
mod memory;
mod mounts;
mod operations;
mod orderly_stop;
mod overflow;
mod owners;
mod peers;
mod power_cut;
mod problems;
mod push;
mod python_peer;
mod random_trees;
mod sparse;
mod symlink_race;
mod systemd;
mod through_ssh;
mod watch_limit;
