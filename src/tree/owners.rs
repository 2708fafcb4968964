//! Users and groups by name, on hosts that number them differently.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Most users, and most groups, that a sink may name.
pub const OWNERS_MAX: usize = 8192;

/// Most bytes of all names of users, and of groups, that a sink may name.
pub const OWNERS_BYTES_MAX: usize = 192 * 1024;

/// The users and groups of a host: names with their numbers, in the order of the host's own tables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OwnerTables {
    /// Users.
    pub users: Vec<(ByteBuf, u32)>,
    /// Groups.
    pub groups: Vec<(ByteBuf, u32)>,
}

impl OwnerTables {
    /// Reads tables in the form of `/etc/passwd` and `/etc/group`. Lines of another form are left out,
    /// as the C library does.
    #[must_use]
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self {
            users: parse(passwd),
            groups: parse(group),
        }
    }

    /// Whether both tables are small enough to be sent.
    ///
    /// # Errors
    /// Which table is too large.
    pub fn check(&self) -> Result<(), &'static str> {
        let fits = |table: &[(ByteBuf, u32)]| {
            let bytes: usize = table.iter().map(|(name, _)| name.len()).sum();
            table.len() <= OWNERS_MAX && bytes <= OWNERS_BYTES_MAX
        };
        match (fits(&self.users), fits(&self.groups)) {
            (false, _) => Err("too many users"),
            (_, false) => Err("too many groups"),
            _ => Ok(()),
        }
    }
}

fn parse(table: &[u8]) -> Vec<(ByteBuf, u32)> {
    let lines = table.split(|&byte| byte == b'\n');
    lines
        .filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let number = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
            Some((ByteBuf::from(name), number))
        })
        .collect()
}

/// Numbers of the source to numbers of a target, for users or for groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct IdMap {
    /// Numbers whose name the target knows.
    to: BTreeMap<u32, u32>,
    /// Numbers of the target that belong to somebody of the source by name.
    taken: BTreeSet<u32>,
    /// Numbers of the target that belong to several of the source by name.
    doubled: BTreeSet<u32>,
}

impl IdMap {
    fn new(source: &[(ByteBuf, u32)], target: &[(ByteBuf, u32)]) -> Self {
        let mut numbers: BTreeMap<&[u8], u32> = BTreeMap::new();
        for (name, number) in target {
            // The first line counts, as it does for the host itself.
            numbers.entry(name.as_slice()).or_insert(*number);
        }
        let mut map = Self::default();
        for (name, number) in source {
            if let Some(&target) = numbers.get(name.as_slice())
                && !map.to.contains_key(number)
            {
                map.to.insert(*number, target);
                if !map.taken.insert(target) {
                    map.doubled.insert(target);
                }
            }
        }
        map
    }

    /// The number on the target, and whether somebody else of the source may have it too.
    fn map(&self, number: u32) -> (u32, bool) {
        match self.to.get(&number) {
            Some(&target) => (target, self.doubled.contains(&target)),
            None => (number, self.taken.contains(&number)),
        }
    }
}

/// Owners of a source as a target knows them: by name where both hosts know the name, else by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnerMap {
    users: IdMap,
    groups: IdMap,
}

impl OwnerMap {
    /// The map from one host to another.
    #[must_use]
    pub fn new(source: &OwnerTables, target: &OwnerTables) -> Self {
        Self {
            users: IdMap::new(&source.users, &target.users),
            groups: IdMap::new(&source.groups, &target.groups),
        }
    }

    /// A user's number on the target, and whether somebody else of the source may have it too.
    #[must_use]
    pub fn user(&self, uid: u32) -> (u32, bool) {
        self.users.map(uid)
    }

    /// A group's number on the target, and whether another of the source may have it too.
    #[must_use]
    pub fn group(&self, gid: u32) -> (u32, bool) {
        self.groups.map(gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(users: &[(&str, u32)]) -> OwnerTables {
        let users = users.iter().map(|&(name, id)| (ByteBuf::from(name), id));
        OwnerTables {
            users: users.collect(),
            groups: Vec::new(),
        }
    }

    #[test]
    fn reads_the_tables_of_a_host() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nb\xffb:x:1000:100::/:\n# a comment\nbad:x\n\
            :x:5:5::\n+nis::::::\nlate:x:7:7::/:/bin/sh";
        let tables = OwnerTables::parse(passwd, b"wheel:x:10:root\nx:y:z:\n");
        let expected = [(&b"root"[..], 0), (b"b\xffb", 1000), (b"late", 7)];
        assert_eq!(
            tables.users,
            expected.map(|(name, id)| (ByteBuf::from(name), id))
        );
        assert_eq!(tables.groups, [(ByteBuf::from("wheel"), 10)]);
    }

    #[test]
    fn names_known_on_both_hosts_are_mapped_and_others_keep_their_number() {
        let source = tables(&[("root", 0), ("ann", 1000), ("bob", 1001), ("gone", 1002)]);
        let target = tables(&[("root", 0), ("bob", 1000), ("ann", 2000)]);
        let map = OwnerMap::new(&source, &target);
        assert_eq!(map.user(0), (0, false));
        assert_eq!(map.user(1000), (2000, false));
        assert_eq!(map.user(1001), (1000, false));
        assert_eq!(map.user(1002), (1002, false));
        assert_eq!(map.user(4_000_000), (4_000_000, false));
    }

    #[test]
    fn an_unknown_number_that_is_another_users_on_the_target_is_told() {
        let map = OwnerMap::new(&tables(&[("ann", 1000)]), &tables(&[("ann", 2000)]));
        assert_eq!(map.user(2000), (2000, true));
    }

    #[test]
    fn two_names_with_one_number_on_the_target_are_told() {
        let source = tables(&[("ann", 1000), ("bob", 1001), ("cem", 1002)]);
        let target = tables(&[("ann", 7), ("bob", 7), ("cem", 8)]);
        let map = OwnerMap::new(&source, &target);
        assert_eq!((map.user(1000), map.user(1001)), ((7, true), (7, true)));
        assert_eq!(map.user(1002), (8, false));
    }

    #[test]
    fn of_several_names_for_one_number_the_first_that_is_known_counts() {
        let source = tables(&[("toor", 0), ("root", 0)]);
        let map = OwnerMap::new(&source, &tables(&[("root", 5), ("root", 6)]));
        assert_eq!(map.user(0), (5, false));
    }

    #[test]
    fn tables_beyond_the_limits_are_refused() {
        let many: Vec<(ByteBuf, u32)> = (0..=OWNERS_MAX as u32)
            .map(|id| (ByteBuf::from("u"), id))
            .collect();
        let tables = OwnerTables {
            users: Vec::new(),
            groups: many,
        };
        assert_eq!(tables.check(), Err("too many groups"));
        let long = OwnerTables {
            users: vec![(ByteBuf::from(vec![b'u'; OWNERS_BYTES_MAX + 1]), 1)],
            groups: Vec::new(),
        };
        assert_eq!(long.check(), Err("too many users"));
    }
}
