//! The source's tree as a target can hold it.
//!
//! The source turns everything that it says to a sink, be it sent or only compared, into what that
//! target can hold. So both sides agree on what "equal" means, nothing is sent for ever because it
//! cannot arrive, and the source knows what was left out.

use std::cell::Cell;

use super::acl::{self, ACL_ACCESS, ACL_DEFAULT};
use super::limits::{FixedOwner, LimitKind, LimitSet, TargetLimits};
use super::owners::OwnerMap;
use super::{Kind, Metadata, Name, Time};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;

/// How entries of a source look on one target. The default is a target that can hold everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    limits: TargetLimits,
    owners: Option<OwnerMap>,
}

impl View {
    /// The view of a target with these limits, and with owners by name if there is a map.
    #[must_use]
    pub fn new(limits: TargetLimits, owners: Option<OwnerMap>) -> Self {
        Self { limits, owners }
    }

    /// What the target cannot hold.
    #[must_use]
    pub fn limits(&self) -> &TargetLimits {
        &self.limits
    }

    /// True if the target does not have this limit.
    #[must_use]
    pub fn keeps(&self, kind: LimitKind) -> bool {
        !self.limits.has(kind)
    }

    /// As [`View::show`], for an entry that may have further names.
    pub fn show_name(&self, name: Option<&Name>, meta: &mut Metadata, is_linked: bool) -> LimitSet {
        let mut met = self.show(name, meta);
        if is_linked && !self.keeps(LimitKind::HardLinks) {
            met.insert(LimitKind::HardLinks);
        }
        met
    }

    /// Turns the metadata of an entry (the root has no name) into what the target can hold. Returns
    /// the limits that it met, those because of which it cannot be made at all among them.
    pub fn show(&self, name: Option<&Name>, meta: &mut Metadata) -> LimitSet {
        if self.owners.is_none() && self.limits == TargetLimits::default() {
            return LimitSet::default();
        }
        let mut met = self.limits.forbids(name, meta);
        self.map_owners(meta, &mut met);
        self.fix_owner(meta, &mut met);
        self.drop_xattrs(meta, &mut met);
        self.fix_mode(meta, &mut met);
        let mtime = self.time(meta.mtime);
        if mtime != meta.mtime {
            meta.mtime = mtime;
            met.insert(LimitKind::Times);
        }
        met
    }

    /// A time as the target can hold it.
    #[must_use]
    pub fn time(&self, time: Time) -> Time {
        self.limits.time.nearest(time)
    }

    fn map_owners(&self, meta: &mut Metadata, met: &mut LimitSet) {
        let Some(owners) = &self.owners else { return };
        let shared = Cell::new(false);
        let noted = |(id, is_shared)| {
            shared.set(shared.get() | is_shared);
            id
        };
        for (name, value) in &mut meta.xattrs {
            if [ACL_ACCESS, ACL_DEFAULT].contains(&name.as_slice()) {
                let (user, group) = (|id| noted(owners.user(id)), |id| noted(owners.group(id)));
                acl::map_ids(value, user, group);
            }
        }
        meta.uid = noted(owners.user(meta.uid));
        meta.gid = noted(owners.group(meta.gid));
        if shared.get() {
            met.insert(LimitKind::SharedOwners);
        }
    }

    fn fix_owner(&self, meta: &mut Metadata, met: &mut LimitSet) {
        let Some(FixedOwner { uid, groups }) = &self.limits.owner else {
            return;
        };
        if meta.uid != *uid {
            meta.uid = *uid;
            // It would give away the rights of another user than the one who gave them.
            meta.mode &= !SET_USER_ID;
            met.insert(LimitKind::Owners);
        }
        if !groups.contains(&meta.gid) {
            meta.gid = groups.first().copied().unwrap_or(meta.gid);
            // On a directory it gives no rights, it only says what new entries get.
            if meta.kind != Kind::Dir {
                meta.mode &= !SET_GROUP_ID;
            }
            met.insert(LimitKind::Owners);
        }
    }

    fn drop_xattrs(&self, meta: &mut Metadata, met: &mut LimitSet) {
        for &kind in &self.limits.lacks {
            let Some(prefix) = kind.xattr_prefix() else {
                continue;
            };
            let is_lost = |name: &[u8]| name.starts_with(prefix);
            if !meta.xattrs.iter().any(|(name, _)| is_lost(name)) {
                continue;
            }
            met.insert(kind);
            let access = meta.xattrs.iter().find(|(name, _)| name == ACL_ACCESS);
            if kind == LimitKind::Acls
                && let Some(rights) = access.and_then(|(_, value)| acl::group_rights(value))
            {
                meta.mode = meta.mode & !0o070 | rights << 3;
            }
            meta.xattrs.retain(|(name, _)| !is_lost(name));
        }
    }

    fn fix_mode(&self, meta: &mut Metadata, met: &mut LimitSet) {
        let Some(fixed) = self.limits.mode.filter(|_| meta.kind != Kind::Symlink) else {
            return;
        };
        let mode = if meta.kind == Kind::Dir {
            fixed.dir
        } else {
            fixed.file
        };
        if meta.mode != mode {
            meta.mode = mode;
            met.insert(LimitKind::Modes);
        }
    }
}

#[cfg(test)]
mod tests;
