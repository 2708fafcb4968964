//! Directories that take the name of another one. What the sink holds under that name is the other, and
//! size and time of its files prove nothing, however old they are.

use super::{at_every_moment, equal, long_after};
use crate::world::World;

/// Steps of a short history, and some more.
const MOMENTS: u64 = 60;

/// Directories whose files differ in content alone, long since equal on both sides.
fn twins(dirs: &[&str]) -> World {
    let files: Vec<_> = dirs
        .iter()
        .map(|dir| (format!("{dir}/f"), dir.to_string()))
        .collect();
    let mut w = equal(
        &files
            .iter()
            .map(|(at, content)| (at.as_str(), content.as_str()))
            .collect::<Vec<_>>(),
    );
    for (at, _) in &files {
        w.set_common_time(at);
    }
    w.must_settle();
    long_after(&mut w);
    w
}

#[test]
fn directories_that_swap_names() {
    at_every_moment(
        MOMENTS,
        || {
            let w = twins(&["a", "b"]);
            w.mv("a", "c");
            w.mv("b", "a");
            w.mv("c", "b");
            w
        },
        |_| {},
    );
}

#[test]
fn directories_that_swap_names_one_step_at_a_time() {
    for moment in 0..MOMENTS {
        let mut w = twins(&["a", "b"]);
        w.mv("a", "c");
        w.some_steps(moment / 2);
        w.mv("b", "a");
        w.some_steps(moment);
        w.mv("c", "b");
        w.must_settle();
    }
}

#[test]
fn a_chain_of_directories() {
    let mut w = twins(&["a", "b", "c"]);
    w.mv("c", "d");
    w.mv("b", "c");
    w.mv("a", "b");
    w.must_settle();
}

#[test]
fn a_replaced_directory_that_moves_on() {
    at_every_moment(
        MOMENTS,
        || {
            let w = twins(&["a", "b"]);
            w.mv("a", "c");
            w.mv("b", "a");
            w
        },
        |w| w.mv("a", "d"),
    );
}

#[test]
fn a_directory_made_again() {
    at_every_moment(
        MOMENTS,
        || {
            let w = twins(&["a"]);
            w.rm_r("a");
            w.mkdir("a");
            w.write("a/f", "b");
            w.set_common_time("a/f");
            w
        },
        |_| {},
    );
}

#[test]
fn a_replaced_directory_over_a_cut() {
    at_every_moment(
        MOMENTS,
        || {
            let w = twins(&["a", "b"]);
            w.mv("a", "c");
            w.mv("b", "a");
            w.mv("c", "b");
            w
        },
        |w| w.cut_all(),
    );
}
