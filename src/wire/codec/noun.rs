//! The nouns of a tree as parts of a header: names, paths, metadata, entries, listings.

use serde_bytes::ByteBuf;

use super::content::Content;
use super::header::{Reader, Writer};
use super::{WireError, malformed, require, within};
use crate::tree::{
    Body, Digest, Entry, Kind, ListEntry, Metadata, NAME_BYTES_MAX, Name, NameRange,
    PATH_BYTES_MAX, RelPath, State, Time, XATTRS_BYTES_MAX, Xattrs,
};
use crate::wire::message::{ENTRIES_MAX, Page};

const BODY_EMPTY: u8 = 0;
const BODY_CONTENT: u8 = 1;
const BODY_TARGET: u8 = 2;
const BODY_UNCHANGED: u8 = 3;
const BODY_LINK: u8 = 4;

const PAGE_DIGEST: u8 = 0;
const PAGE_ENTRIES: u8 = 1;

/// Highest permission bits, set-user-id, set-group-id and sticky included.
const MODE_MAX: u32 = 0o7777;

/// Longest name of an extended attribute (XATTR_NAME_MAX of Linux).
const XATTR_NAME_BYTES_MAX: usize = 255;

/// About how many bytes of header an entry needs without its name and extended attributes.
pub(super) const ENTRY_BYTES_TYPICAL: usize = 48;

pub(super) fn read_name(r: &mut Reader<'_>) -> Result<Name, WireError> {
    Name::new(r.bin(NAME_BYTES_MAX, "length of a name")?)
        .map_err(|error| malformed(format!("name: {error}")))
}

pub(super) fn read_path(r: &mut Reader<'_>) -> Result<RelPath, WireError> {
    RelPath::new(r.bin(PATH_BYTES_MAX, "length of a path")?)
        .map_err(|error| malformed(format!("path: {error}")))
}

/// A path that has a name, as the root has not.
pub(super) fn read_path_below_root(r: &mut Reader<'_>) -> Result<RelPath, WireError> {
    let path = read_path(r)?;
    require(!path.is_root(), "the root cannot be renamed or published")?;
    Ok(path)
}

pub(super) fn read_kind(r: &mut Reader<'_>) -> Result<Kind, WireError> {
    Kind::try_from(r.code("kind")?).map_err(malformed)
}

pub(super) fn write_time(w: &mut Writer, time: Time) {
    w.int(time.secs);
    w.uint(time.nanos);
}

pub(super) fn read_time(r: &mut Reader<'_>) -> Result<Time, WireError> {
    let time = Time {
        secs: r.i64("seconds")?,
        nanos: r.u32("nanoseconds")?,
    };
    require(
        time.nanos < 1_000_000_000,
        "nanoseconds are a second or more",
    )?;
    Ok(time)
}

fn read_mode(r: &mut Reader<'_>) -> Result<u32, WireError> {
    let mode = r.u32("mode")?;
    within(mode as usize, MODE_MAX as usize, "mode")?;
    Ok(mode)
}

/// Sizes and device numbers mean something for some kinds only; elsewhere they are 0, so that equal
/// entries have equal bytes and equal digests.
fn check_numbers(kind: Kind, size: u64, rdev: u64) -> Result<(), WireError> {
    let sized = matches!(kind, Kind::File | Kind::Symlink);
    require(sized || size == 0, "only files and symlinks have a size")?;
    let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    require(device || rdev == 0, "only devices have a device number")
}

pub(super) fn write_metadata(w: &mut Writer, meta: &Metadata) {
    w.array(9);
    w.uint(u8::from(meta.kind));
    w.uint(meta.mode);
    w.uint(meta.uid);
    w.uint(meta.gid);
    w.uint(meta.size);
    write_time(w, meta.mtime);
    w.uint(meta.rdev);
    w.array(2 * meta.xattrs.len());
    for (name, value) in &meta.xattrs {
        w.bin(name);
        w.bin(value);
    }
}

pub(super) fn read_metadata(r: &mut Reader<'_>) -> Result<Metadata, WireError> {
    r.array(9, "metadata")?;
    let meta = Metadata {
        kind: read_kind(r)?,
        mode: read_mode(r)?,
        uid: r.u32("owner")?,
        gid: r.u32("group")?,
        size: r.uint("size")?,
        mtime: read_time(r)?,
        rdev: r.uint("device number")?,
        xattrs: read_xattrs(r)?,
    };
    check_numbers(meta.kind, meta.size, meta.rdev)?;
    Ok(meta)
}

/// Names and values take turns in one array.
fn read_xattrs(r: &mut Reader<'_>) -> Result<Xattrs, WireError> {
    let len = r.list(XATTRS_BYTES_MAX, "number of extended attributes")?;
    require(len % 2 == 0, "an extended attribute without a value")?;
    let mut xattrs = Xattrs::new();
    let mut bytes = 0;
    for _ in 0..len / 2 {
        let name = r.bin(XATTR_NAME_BYTES_MAX, "name of an extended attribute")?;
        let value = r.bin(XATTRS_BYTES_MAX, "length of an extended attribute")?;
        require(
            !name.is_empty() && !name.contains(&0),
            "an extended attribute's name is invalid",
        )?;
        let ascends = xattrs.last().is_none_or(|(last, _)| last.as_slice() < name);
        require(ascends, "extended attributes are not sorted by name")?;
        bytes += name.len() + value.len();
        within(bytes, XATTRS_BYTES_MAX, "length of the extended attributes")?;
        xattrs.push((ByteBuf::from(name), ByteBuf::from(value)));
    }
    Ok(xattrs)
}

/// Writes the entries, without the content that their bodies have in the other frame.
pub(super) fn write_entries(w: &mut Writer, entries: &[Entry]) {
    w.array(entries.len());
    for Entry { name, state } in entries {
        match state {
            State::Absent => {
                w.array(1);
                w.bin(name.as_bytes());
            }
            State::Present(meta, body) => {
                w.array(2 + body_parts(body));
                w.bin(name.as_bytes());
                write_body(w, meta, body);
                write_metadata(w, meta);
            }
        }
    }
}

/// How many parts of an entry tell its body.
fn body_parts(body: &Body) -> usize {
    match body {
        Body::Empty | Body::Content(_) | Body::Target(_) => 1,
        Body::Unchanged { .. } => 2,
        Body::Link { .. } => 3,
    }
}

fn write_body(w: &mut Writer, meta: &Metadata, body: &Body) {
    debug_assert!(
        !matches!(body, Body::Content(content) | Body::Target(content) if content.len() as u64 != meta.size),
        "the size is what tells the peer where a body ends"
    );
    w.uint(match body {
        Body::Empty => BODY_EMPTY,
        Body::Content(_) => BODY_CONTENT,
        Body::Target(_) => BODY_TARGET,
        Body::Unchanged { .. } => BODY_UNCHANGED,
        Body::Link { .. } => BODY_LINK,
    });
    match body {
        Body::Unchanged { links } => w.uint(*links),
        Body::Link { to, links } => {
            w.bin(to.as_bytes());
            match links {
                Some(links) => w.uint(*links),
                None => w.nil(),
            }
        }
        Body::Empty | Body::Content(_) | Body::Target(_) => {}
    }
}

pub(super) fn read_entries(
    r: &mut Reader<'_>,
    content: &mut Content,
) -> Result<Vec<Entry>, WireError> {
    let len = r.list(ENTRIES_MAX, "number of entries")?;
    let mut entries: Vec<Entry> = Vec::with_capacity(len);
    for _ in 0..len {
        let entry = read_entry(r, content)?;
        check_order(entries.last().map(|last| &last.name), &entry.name)?;
        entries.push(entry);
    }
    Ok(entries)
}

fn read_entry(r: &mut Reader<'_>, content: &mut Content) -> Result<Entry, WireError> {
    let parts = r.list(5, "parts of an entry")?;
    require(parts != 2, "an entry has one part or three and more")?;
    let name = read_name(r)?;
    if parts == 1 {
        return Ok(Entry {
            name,
            state: State::Absent,
        });
    }
    let code = r.code("kind of body")?;
    let reference = read_reference(r, code)?;
    let expected = reference.as_ref().map_or(1, body_parts);
    require(
        parts == 2 + expected,
        "parts of an entry are missing or too many",
    )?;
    let meta = read_metadata(r)?;
    let body = match reference {
        Some(body) => check_reference(body, &meta)?,
        None => read_body(code, &meta, content)?,
    };
    Ok(Entry {
        name,
        state: State::Present(meta, body),
    })
}

/// A body that refers to what the sink holds.
fn read_reference(r: &mut Reader<'_>, code: u8) -> Result<Option<Body>, WireError> {
    Ok(match code {
        BODY_UNCHANGED => Some(Body::Unchanged {
            links: r.uint("number of names")?,
        }),
        BODY_LINK => Some(Body::Link {
            to: read_path_below_root(r)?,
            links: if r.skip_nil() {
                None
            } else {
                Some(r.uint("number of names")?)
            },
        }),
        _ => None,
    })
}

fn check_reference(body: Body, meta: &Metadata) -> Result<Body, WireError> {
    let fits = match body {
        Body::Unchanged { .. } => meta.kind == Kind::File,
        _ => meta.kind != Kind::Dir,
    };
    require(fits, "the body does not fit the kind")?;
    Ok(body)
}

fn read_body(code: u8, meta: &Metadata, content: &mut Content) -> Result<Body, WireError> {
    match (meta.kind, code) {
        (Kind::File, BODY_CONTENT) => Ok(Body::Content(content.take(meta.size)?)),
        (Kind::Symlink, BODY_TARGET) => {
            let target = content.take(meta.size)?;
            require(!target.is_empty(), "a symlink's target is empty")?;
            require(!target.contains(&0), "a symlink's target holds a NUL byte")?;
            Ok(Body::Target(target))
        }
        (Kind::File | Kind::Symlink, _) => Err(malformed("the body does not fit the kind")),
        (_, BODY_EMPTY) => Ok(Body::Empty),
        _ => Err(malformed("the body does not fit the kind")),
    }
}

/// Names ascend, so none is there twice and pages can be merged without sorting.
fn check_order(last: Option<&Name>, name: &Name) -> Result<(), WireError> {
    require(last.is_none_or(|last| last < name), "names are not sorted")
}

pub(super) fn write_range(w: &mut Writer, range: &NameRange) {
    w.bin_or_nil(range.after.as_ref().map(Name::as_bytes));
    w.bin_or_nil(range.upto.as_ref().map(Name::as_bytes));
}

pub(super) fn read_range(r: &mut Reader<'_>) -> Result<NameRange, WireError> {
    let after = if r.skip_nil() {
        None
    } else {
        Some(read_name(r)?)
    };
    let upto = if r.skip_nil() {
        None
    } else {
        Some(read_name(r)?)
    };
    if let (Some(after), Some(upto)) = (&after, &upto) {
        require(after < upto, "the range of names is empty")?;
    }
    Ok(NameRange { after, upto })
}

pub(super) fn write_page(w: &mut Writer, page: &Page) {
    match page {
        Page::Digest(digest, entries) => {
            w.array(3);
            w.uint(PAGE_DIGEST);
            w.bin(digest.as_bytes());
            w.uint(*entries);
        }
        Page::Entries(entries) => {
            w.array(2);
            w.uint(PAGE_ENTRIES);
            w.array(entries.len());
            for entry in entries {
                write_list_entry(w, entry);
            }
        }
    }
}

pub(super) fn read_page(r: &mut Reader<'_>, range: &NameRange) -> Result<Page, WireError> {
    let parts = r.list(3, "parts of a page")?;
    match (r.code("kind of page")?, parts) {
        (PAGE_DIGEST, 3) => {
            let digest = r.bin(16, "length of a digest")?;
            let digest = digest
                .try_into()
                .map_err(|_| malformed("a digest has 16 bytes"))?;
            Ok(Page::Digest(
                Digest::from_bytes(digest),
                r.u32("number of entries")?,
            ))
        }
        (PAGE_ENTRIES, 2) => Ok(Page::Entries(read_list_entries(r, range)?)),
        _ => Err(malformed("no such kind of page")),
    }
}

fn write_list_entry(w: &mut Writer, entry: &ListEntry) {
    w.array(11);
    w.bin(entry.name.as_bytes());
    w.uint(u8::from(entry.kind));
    w.uint(entry.mode);
    w.uint(entry.uid);
    w.uint(entry.gid);
    w.uint(entry.size);
    write_time(w, entry.mtime);
    w.uint(entry.rdev);
    w.uint(entry.extra);
    w.flag(entry.linked);
}

fn read_list_entries(r: &mut Reader<'_>, range: &NameRange) -> Result<Vec<ListEntry>, WireError> {
    let len = r.list(ENTRIES_MAX, "number of entries")?;
    let mut entries: Vec<ListEntry> = Vec::with_capacity(len);
    for _ in 0..len {
        let entry = read_list_entry(r)?;
        check_order(entries.last().map(|last| &last.name), &entry.name)?;
        require(
            range.contains(entry.name.as_bytes()),
            "a name lies outside the page's range",
        )?;
        entries.push(entry);
    }
    Ok(entries)
}

fn read_list_entry(r: &mut Reader<'_>) -> Result<ListEntry, WireError> {
    r.array(11, "entry of a listing")?;
    let entry = ListEntry {
        name: read_name(r)?,
        kind: read_kind(r)?,
        mode: read_mode(r)?,
        uid: r.u32("owner")?,
        gid: r.u32("group")?,
        size: r.uint("size")?,
        mtime: read_time(r)?,
        rdev: r.uint("device number")?,
        extra: r.uint("hash of the extras")?,
        linked: r.flag("further names")?,
    };
    check_numbers(entry.kind, entry.size, entry.rdev)?;
    Ok(entry)
}
