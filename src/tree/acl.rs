//! POSIX ACLs in the form of their extended attributes: a version, then entries of tag, rights and id,
//! all little-endian.

/// Extended attribute with the access ACL of an entry.
pub const ACL_ACCESS: &[u8] = b"system.posix_acl_access";

/// Extended attribute with the ACL that new entries in a directory inherit.
pub const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: [u8; 4] = 2u32.to_le_bytes();
const ENTRY_BYTES: usize = 8;

const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;

/// One entry of an ACL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ace {
    tag: u16,
    id: u32,
    rights: u16,
}

impl Ace {
    fn from_bytes(bytes: &[u8]) -> Self {
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            tag: short(0),
            rights: short(2),
            id: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    fn bytes(self) -> impl Iterator<Item = u8> {
        let Self { tag, id, rights } = self;
        let fixed = tag.to_le_bytes().into_iter().chain(rights.to_le_bytes());
        fixed.chain(id.to_le_bytes())
    }
}

/// The entries; `None` if the value has another form, which is then left alone.
fn entries(value: &[u8]) -> Option<Vec<Ace>> {
    let body = value.strip_prefix(&VERSION)?;
    body.len().is_multiple_of(ENTRY_BYTES).then(|| {
        body.chunks_exact(ENTRY_BYTES)
            .map(Ace::from_bytes)
            .collect()
    })
}

/// Gives named users and groups other ids, and sorts the entries again as the tools for ACLs do.
pub(super) fn map_ids(value: &mut Vec<u8>, user: impl Fn(u32) -> u32, group: impl Fn(u32) -> u32) {
    let Some(mut acl) = entries(value) else {
        return;
    };
    for ace in &mut acl {
        match ace.tag {
            USER => ace.id = user(ace.id),
            GROUP => ace.id = group(ace.id),
            _ => {}
        }
    }
    acl.sort_unstable();
    value.truncate(VERSION.len());
    value.extend(acl.into_iter().flat_map(Ace::bytes));
}

/// The rights (0 to 7) of the owning group alone. With an ACL the group bits of the mode are its mask,
/// which may allow more than the group is allowed.
pub(super) fn group_rights(value: &[u8]) -> Option<u32> {
    let acl = entries(value)?;
    let rights = |tag| acl.iter().find(|ace| ace.tag == tag).map(|ace| ace.rights);
    let group = rights(GROUP_OBJ)?;
    Some(u32::from(group & rights(MASK).unwrap_or(7)) & 7)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An ACL from (tag, rights, id).
    pub(in crate::tree) fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = entries
            .iter()
            .map(|&(tag, rights, id)| Ace { tag, id, rights });
        VERSION
            .into_iter()
            .chain(entries.flat_map(Ace::bytes))
            .collect()
    }

    const NOBODY: u32 = u32::MAX;

    #[test]
    fn ids_of_named_users_and_groups_are_mapped_and_sorted() {
        let mut value = acl(&[
            (0x01, 6, NOBODY),
            (USER, 7, 1000),
            (USER, 5, 1001),
            (GROUP_OBJ, 4, NOBODY),
            (GROUP, 4, 1000),
            (MASK, 7, NOBODY),
            (0x20, 0, NOBODY),
        ]);
        map_ids(
            &mut value,
            |id| if id == 1000 { 2000 } else { id },
            |id| id + 1,
        );
        let expected = acl(&[
            (0x01, 6, NOBODY),
            (USER, 5, 1001),
            (USER, 7, 2000),
            (GROUP_OBJ, 4, NOBODY),
            (GROUP, 4, 1001),
            (MASK, 7, NOBODY),
            (0x20, 0, NOBODY),
        ]);
        assert_eq!(value, expected);
    }

    #[test]
    fn another_form_is_left_alone() {
        for value in [&b""[..], b"\x03\0\0\0", b"\x02\0\0\0\x02\0", b"\x02\0\0"] {
            let mut mapped = value.to_vec();
            map_ids(&mut mapped, |_| 7, |_| 7);
            assert_eq!(mapped, value);
            assert_eq!(group_rights(value), None);
        }
    }

    #[test]
    fn the_group_has_what_its_entry_and_the_mask_allow() {
        let value = acl(&[
            (0x01, 6, 0),
            (USER, 7, 1),
            (GROUP_OBJ, 5, 0),
            (MASK, 6, 0),
            (0x20, 0, 0),
        ]);
        assert_eq!(group_rights(&value), Some(4));
        let plain = acl(&[(0x01, 6, 0), (GROUP_OBJ, 5, 0), (0x20, 0, 0)]);
        assert_eq!(group_rights(&plain), Some(5));
    }
}
