//! What the backlog may use in a second: it keeps to that, gets there, and is in nobody's way (I5).

use osync::report::RateLimits;

use super::make;
use crate::world::World;
use crate::world::steps::{mkdir, write};

/// Directories of the source that the sink lacks at first, and the files in each.
const DIRS: usize = 10;
const FILES: usize = 4;

fn operations(per_s: u64) -> RateLimits {
    RateLimits {
        bytes_per_s: None,
        operations_per_s: Some(per_s),
    }
}

fn bytes(per_s: u64) -> RateLimits {
    RateLimits {
        bytes_per_s: Some(per_s),
        operations_per_s: None,
    }
}

/// A source with all of them, and an empty sink.
fn fresh(limits: RateLimits) -> World {
    World::prepared(
        |faults| faults.rate_limits = limits,
        |src, _| {
            for dir in 0..DIRS {
                mkdir(src, &format!("d{dir}"));
            }
            for path in paths() {
                write(src, &path, b"content");
            }
        },
    )
}

fn paths() -> impl Iterator<Item = String> {
    (0..DIRS).flat_map(|dir| (0..FILES).map(move |file| format!("d{dir}/{file}")))
}

fn arrived(world: &World) -> usize {
    let is_there = |path: &String| world.file_at_sink(path).is_some();
    paths().filter(is_there).count()
}

#[test]
fn a_limited_backlog_takes_its_time_and_arrives() {
    // Names and messages cost something too, and what was begun last is not paid for at the end.
    let files = DIRS * FILES;
    for (limits, seconds) in [
        (operations(8), files / 8 - 1),
        (bytes(500), files * 64 / 500),
    ] {
        let mut world = fresh(limits);
        let began_ms = world.now().ms;
        world.must_settle();
        let took_ms = world.now().ms - began_ms;
        assert!(
            took_ms >= seconds as u64 * 1_000,
            "{limits:?} took {took_ms} ms"
        );
        assert_eq!(arrived(&world), files);
    }
}

#[test]
fn live_changes_do_not_wait_for_a_limited_backlog() {
    for limits in [operations(1), bytes(1)] {
        let mut world = fresh(limits);
        world.register();
        world.flow();
        let before = arrived(&world);
        assert!(before < DIRS * FILES, "{limits:?}");
        make(&world, "live", "now");
        world.flow();
        assert_eq!(
            world.file_at_sink("live").as_deref(),
            Some(b"now".as_slice())
        );
        assert_eq!(arrived(&world), before, "no time has passed");
        world.limit(RateLimits::default());
        world.must_settle();
    }
}

#[test]
fn a_limit_is_lifted_while_it_holds_the_backlog_up() {
    let mut world = fresh(operations(1));
    world.register();
    world.flow();
    assert!(arrived(&world) < DIRS * FILES);
    world.limit(RateLimits::default());
    world.flow();
    assert_eq!(arrived(&world), DIRS * FILES, "without any time");
    world.must_settle();
}

#[test]
fn a_throttled_source_sleeps_until_it_may_go_on() {
    let mut world = fresh(operations(1));
    world.register();
    world.flow();
    let now_ms = world.now().ms;
    assert!(world.deadline_of_source() > now_ms, "it does not spin");
    // What it may use again while it is paused wakes nobody up.
    world.pause();
    world.wait(5_000);
    assert!(world.deadline_of_source() > world.now().ms);
    world.resume();
    world.limit(RateLimits::default());
    world.must_settle();
}

#[test]
fn a_new_directory_is_watched_before_it_is_told() {
    let mut world = World::prepared(
        |faults| faults.filter = crate::faults::filter("- *.no"),
        |src, _| (0..DIRS).for_each(|dir| mkdir(src, &format!("d{dir}"))),
    );
    world.must_settle();
    // The walk that binds watches comes by when the limit allows it.
    world.limit(operations(1));
    world.rescan("");
    world.flow();
    let watches = world.watches();
    world.mkdir("new");
    world.hear();
    assert_eq!(world.watches(), watches + 1);
    // Nothing of it is told but the time of its directory.
    world.write("new/x.no", "excluded");
    world.limit(RateLimits::default());
    world.must_settle();
}
