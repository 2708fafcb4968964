//! Named histories: each rule of order, and each bug that was found. Each test tells its history in
//! the order in which it breaks a replicator without the rule.

mod deltas;
mod durability;
mod filters;
mod flush;
mod limits;
mod links;
mod order;
mod outcomes;
mod remembered;
mod replaced;
mod sessions;
mod suspicion;
mod throttle;
mod walks;
mod watches;

use crate::world::World;

/// A world with these files, in directories that are made for them, equal on both sides.
fn equal(files: &[(&str, &str)]) -> World {
    let mut world = World::quiet();
    for (path, content) in files {
        make(&world, path, content);
    }
    world.must_settle();
    world.wait(2_000);
    world.must_settle();
    world
}

/// Time passes in which nothing happens, until nothing that was is recent.
fn long_after(world: &mut World) {
    for _ in 0..10 {
        world.wait(2_000);
        world.must_settle();
    }
}

/// The same where something is a problem, which stays.
fn long_after_with_problems(world: &mut World) {
    for _ in 0..10 {
        world.wait(2_000);
        world.flow();
    }
}

fn make(world: &World, at: &str, content: &str) {
    for (end, _) in at.match_indices('/') {
        let dir = crate::world::steps::path(&at[..end]);
        if world.src.disk().find(&dir).is_err() {
            world.mkdir(&at[..end]);
        }
    }
    world.write(at, content);
}

/// Does something after every number of steps that a history has, in turn.
fn at_every_moment(moments: u64, begin: impl Fn() -> World, act: impl Fn(&mut World)) {
    for moment in 0..moments {
        let mut world = begin();
        world.some_steps(moment);
        act(&mut world);
        world.must_settle();
    }
}
