#![allow(clippy::unwrap_used)]

use serde_bytes::ByteBuf;

use super::*;
use crate::tree::acl::tests::acl;
use crate::tree::{FixedMode, OwnerTables, TimeRange};

fn file() -> Metadata {
    Metadata {
        kind: Kind::File,
        mode: 0o6755,
        uid: 0,
        gid: 0,
        size: 1,
        mtime: Time {
            secs: 1_000_000_001,
            nanos: 123_456_789,
        },
        rdev: 0,
        xattrs: Vec::new(),
    }
}

fn with_xattr(name: &[u8], value: &[u8]) -> Metadata {
    Metadata {
        xattrs: vec![(ByteBuf::from(name), ByteBuf::from(value))],
        ..file()
    }
}

fn met(kinds: &[LimitKind]) -> LimitSet {
    let mut set = LimitSet::default();
    kinds.iter().for_each(|&kind| set.insert(kind));
    set
}

fn unprivileged() -> View {
    let limits = TargetLimits {
        owner: Some(FixedOwner {
            uid: 1000,
            groups: vec![1000, 50],
        }),
        lacks: vec![
            LimitKind::TrustedXattrs,
            LimitKind::SecurityXattrs,
            LimitKind::Devices,
        ],
        ..TargetLimits::default()
    };
    View::new(limits, None)
}

#[test]
fn a_target_that_holds_everything_changes_nothing() {
    let mut meta = with_xattr(b"trusted.a", b"1");
    let before = meta.clone();
    assert!(View::default().show(None, &mut meta).is_empty());
    assert_eq!(meta, before);
}

#[test]
fn foreign_owners_become_the_sinks_without_the_rights_of_others() {
    let mut meta = file();
    assert_eq!(
        unprivileged().show(None, &mut meta),
        met(&[LimitKind::Owners])
    );
    assert_eq!((meta.uid, meta.gid, meta.mode), (1000, 1000, 0o755));

    // A group of the sink's own can be given, with its rights.
    let mut own = Metadata {
        uid: 1000,
        gid: 50,
        ..file()
    };
    assert!(unprivileged().show(None, &mut own).is_empty());
    assert_eq!((own.uid, own.gid, own.mode), (1000, 50, 0o6755));

    let mut dir = Metadata {
        kind: Kind::Dir,
        uid: 1000,
        ..file()
    };
    unprivileged().show(None, &mut dir);
    assert_eq!((dir.gid, dir.mode), (1000, 0o6755));
}

#[test]
fn what_is_shown_is_shown_unchanged_the_second_time() {
    for mut meta in [file(), with_xattr(b"security.capability", b"1")] {
        unprivileged().show(None, &mut meta);
        let once = meta.clone();
        assert!(unprivileged().show(None, &mut meta).is_empty());
        assert_eq!(meta, once);
    }
}

#[test]
fn attributes_that_cannot_be_set_are_left_out() {
    let mut meta = with_xattr(b"security.capability", b"1");
    meta.xattrs
        .push((ByteBuf::from("user.a"), ByteBuf::from("2")));
    let seen = unprivileged().show(None, &mut meta);
    assert!(seen.contains(LimitKind::SecurityXattrs) && !seen.contains(LimitKind::TrustedXattrs));
    assert_eq!(meta.xattrs, [(ByteBuf::from("user.a"), ByteBuf::from("2"))]);
}

#[test]
fn without_its_acl_a_group_gets_no_rights_of_the_mask() {
    let limits = TargetLimits {
        lacks: vec![LimitKind::Acls],
        ..TargetLimits::default()
    };
    // The owner, another user with all rights, the group with none, and a mask that allows all.
    let value = acl(&[(1, 6, 0), (2, 7, 5), (4, 0, 0), (16, 7, 0), (32, 0, 0)]);
    let mut meta = Metadata {
        mode: 0o670,
        ..with_xattr(ACL_ACCESS, &value)
    };
    let seen = View::new(limits, None).show(None, &mut meta);
    assert_eq!(seen, met(&[LimitKind::Acls]));
    assert_eq!((meta.mode, meta.xattrs.len()), (0o600, 0));
}

#[test]
fn entries_that_cannot_be_made_are_told() {
    let limits = TargetLimits {
        name_bytes_max: Some(4),
        lacks: vec![
            LimitKind::Devices,
            LimitKind::Pipes,
            LimitKind::NonUtf8Names,
        ],
        ..TargetLimits::default()
    };
    let view = View::new(limits, None);
    let name = |bytes: &[u8]| Name::new(bytes).unwrap();
    let show = |kind, bytes: &[u8]| view.show(Some(&name(bytes)), &mut Metadata { kind, ..file() });
    assert_eq!(show(Kind::File, b"four"), met(&[]));
    assert_eq!(show(Kind::File, b"5long"), met(&[LimitKind::LongNames]));
    assert_eq!(show(Kind::Dir, b"\xff"), met(&[LimitKind::NonUtf8Names]));
    assert_eq!(show(Kind::BlockDevice, b"d"), met(&[LimitKind::Devices]));
    assert_eq!(show(Kind::Socket, b"s"), met(&[LimitKind::Pipes]));
    assert_eq!(show(Kind::Symlink, b"l"), met(&[]));
}

#[test]
fn fixed_modes_are_those_of_the_target() {
    let limits = TargetLimits {
        mode: Some(FixedMode {
            file: 0o644,
            dir: 0o755,
        }),
        ..TargetLimits::default()
    };
    let view = View::new(limits, None);
    let mode = |kind, mode| {
        let mut meta = Metadata {
            kind,
            mode,
            ..file()
        };
        let seen = view.show(None, &mut meta);
        (meta.mode, !seen.is_empty())
    };
    assert_eq!(mode(Kind::File, 0o600), (0o644, true));
    assert_eq!(mode(Kind::File, 0o644), (0o644, false));
    assert_eq!(mode(Kind::Dir, 0o700), (0o755, true));
    assert_eq!(mode(Kind::Symlink, 0o777), (0o777, false));
}

#[test]
fn times_become_the_nearest_that_the_target_has() {
    let time = |secs, nanos| Time { secs, nanos };
    let range = TimeRange {
        step_nanos: 100,
        first_secs: -100,
        last_secs: 1000,
    };
    assert_eq!(range.nearest(time(5, 199)), time(5, 100));
    assert_eq!(range.nearest(time(-5, 199)), time(-5, 100));
    assert_eq!(range.nearest(time(1000, 5)), time(1000, 0));
    assert_eq!(range.nearest(time(i64::MAX, 5)), time(1000, 0));
    assert_eq!(range.nearest(time(-101, 5)), time(-100, 0));
    let seconds = |secs: u64| TimeRange {
        step_nanos: secs * 1_000_000_000,
        ..TimeRange::default()
    };
    assert_eq!(seconds(1).nearest(time(7, 999)), time(7, 0));
    assert_eq!(seconds(2).nearest(time(7, 999)), time(6, 0));
    assert_eq!(seconds(2).nearest(time(-7, 1)), time(-8, 0));
    assert_eq!(
        TimeRange::default().nearest(time(i64::MIN, 1)),
        time(i64::MIN, 1)
    );
}

#[test]
fn times_of_common_file_systems_are_no_limit_worth_a_word() {
    let time = |step_nanos, last_secs| TargetLimits {
        time: TimeRange {
            step_nanos,
            first_secs: -(1 << 31),
            last_secs,
        },
        ..TargetLimits::default()
    };
    assert!(!time(1, 15_032_385_535).has(LimitKind::Times));
    assert!(time(100, 15_032_385_535).has(LimitKind::Times));
    let old = time(1_000_000_000, (1 << 31) - 1);
    assert!(old.has(LimitKind::Times));
    assert_eq!(
        old.consequence(LimitKind::Times),
        "times are rounded down to 1 s; times before 1901-12-13 become that; times after \
         2038-01-19 become that"
    );
    // A file that does have another time is met all the same.
    let mut late = Metadata {
        mtime: Time {
            secs: 1 << 40,
            nanos: 0,
        },
        ..file()
    };
    let view = View::new(time(1, 15_032_385_535), None);
    assert_eq!(view.show(None, &mut late), met(&[LimitKind::Times]));
}

#[test]
fn owners_by_name_reach_into_acls() {
    let table = |id: u32| vec![(ByteBuf::from("ann"), id)];
    let tables = |user, group| OwnerTables {
        users: table(user),
        groups: table(group),
    };
    let owners = OwnerMap::new(&tables(1000, 100), &tables(2000, 200));
    let view = View::new(TargetLimits::default(), Some(owners));
    let value = acl(&[
        (1, 6, 0),
        (2, 7, 1000),
        (4, 0, 0),
        (8, 5, 100),
        (16, 7, 0),
        (32, 0, 0),
    ]);
    for attribute in [ACL_ACCESS, ACL_DEFAULT] {
        let mut meta = Metadata {
            uid: 1000,
            gid: 100,
            ..with_xattr(attribute, &value)
        };
        assert!(view.show(None, &mut meta).is_empty());
        assert_eq!((meta.uid, meta.gid), (2000, 200));
        let mapped = acl(&[
            (1, 6, 0),
            (2, 7, 2000),
            (4, 0, 0),
            (8, 5, 200),
            (16, 7, 0),
            (32, 0, 0),
        ]);
        assert_eq!(meta.xattrs[0].1.as_slice(), mapped);
    }
    // A number without a name that is somebody else's on the target is told.
    let mut stranger = Metadata {
        uid: 2000,
        ..file()
    };
    assert_eq!(
        view.show(None, &mut stranger),
        met(&[LimitKind::SharedOwners])
    );
}

#[test]
fn what_a_peer_cannot_mean_is_refused() {
    let limits = |alter: fn(&mut TargetLimits)| {
        let mut limits = TargetLimits::default();
        alter(&mut limits);
        limits.check()
    };
    assert_eq!(limits(|_| {}), Ok(()));
    let owner = |groups: usize| {
        Some(FixedOwner {
            uid: 1,
            groups: vec![1; groups],
        })
    };
    let with_groups = |groups| TargetLimits {
        owner: owner(groups),
        ..TargetLimits::default()
    };
    assert!(with_groups(0).check().is_err());
    assert!(with_groups(1024).check().is_ok());
    assert!(with_groups(1025).check().is_err());
    assert!(limits(|l| l.time.step_nanos = 0).is_err());
    assert!(limits(|l| l.time.step_nanos = 3).is_err());
    assert!(limits(|l| l.time.step_nanos = u64::MAX).is_err());
    assert!(limits(|l| l.time.last_secs = i64::MIN).is_err());
    assert!(limits(|l| l.lacks = vec![LimitKind::Acls, LimitKind::Acls]).is_err());
}
