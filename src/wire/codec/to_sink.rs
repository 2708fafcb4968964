//! Data messages from the source to a sink.

use bytes::Bytes;

use super::compression::{Compressor, unpack};
use super::content::{self, Content};
use super::header::{Reader, Writer};
use super::noun::{
    ENTRY_BYTES_TYPICAL, read_entries, read_kind, read_metadata, read_page, read_path,
    read_path_below_root, read_range, read_time, write_entries, write_metadata, write_page,
    write_range, write_time,
};
use super::{Frames, WireError, malformed, require, split};
use crate::tree::{BLOCK_BYTES_MAX, BLOCK_HASH_BYTES, BLOCKS_MAX, BlockHash, Kind, RelPath};
use crate::wire::message::{Change, Lane, Page, ToSink};

const SYNCHRONISATION: u8 = 0;
const PING: u8 = 1;
const CHANGE: u8 = 2;

const ENTRIES: u8 = 0;
const DIR_META: u8 = 1;
const RENAME: u8 = 2;
const LISTING: u8 = 3;
const CHUNK: u8 = 4;
const PUBLISH: u8 = 5;
const ABANDON: u8 = 6;
const BASE: u8 = 7;

const LANE_LIVE: u8 = 0;
const LANE_BACKLOG: u8 = 1;

/// Bytes of a data message to a sink. Content is copied only where several bodies share the frame.
#[must_use]
pub fn encode_to_sink(message: &ToSink) -> Frames {
    encode(message, |_| None)
}

/// The same, with its content compressed on this level, if that makes it smaller.
#[must_use]
pub fn encode_to_sink_compressed(
    message: &ToSink,
    compressor: &mut Compressor,
    level: u8,
) -> Frames {
    encode(message, |content| compressor.pack(content, level))
}

fn encode(message: &ToSink, pack: impl FnOnce(&[u8]) -> Option<Bytes>) -> Frames {
    let mut w = Writer::with_capacity(typical_header_bytes(message));
    match message {
        ToSink::Synchronisation { nonce } => {
            w.array(2);
            w.uint(SYNCHRONISATION);
            w.uint(*nonce);
            vec![w.finish()]
        }
        ToSink::Ping { token } => {
            w.array(2);
            w.uint(PING);
            w.uint(*token);
            vec![w.finish()]
        }
        ToSink::Change {
            epoch,
            number,
            lane,
            change,
        } => {
            let content = content::joined(change.bodies());
            let packed = content.as_deref().and_then(pack);
            w.array(if packed.is_some() { 6 } else { 5 });
            w.uint(CHANGE);
            w.uint(*epoch);
            w.uint(*number);
            w.uint(match lane {
                Lane::Live => LANE_LIVE,
                Lane::Backlog => LANE_BACKLOG,
            });
            if let (Some(_), Some(content)) = (&packed, &content) {
                w.uint(content.len() as u64);
            }
            write_change(&mut w, change);
            let header = w.finish();
            [header].into_iter().chain(packed.or(content)).collect()
        }
    }
}

/// A guess that spares growing the header over and over; the names are short in most directories.
fn typical_header_bytes(message: &ToSink) -> usize {
    let entries = match message {
        ToSink::Change {
            change: Change::Entries { entries, .. },
            ..
        } => entries.len(),
        ToSink::Change {
            change:
                Change::Listing {
                    page: Page::Entries(entries),
                    ..
                },
            ..
        } => entries.len(),
        _ => 0,
    };
    128 + entries * ENTRY_BYTES_TYPICAL
}

fn write_change(w: &mut Writer, change: &Change) {
    match change {
        Change::Entries { dir, entries } => {
            w.array(3);
            w.uint(ENTRIES);
            w.bin(dir.as_bytes());
            write_entries(w, entries);
        }
        Change::DirMeta { dir, meta } => {
            w.array(3);
            w.uint(DIR_META);
            w.bin(dir.as_bytes());
            write_metadata(w, meta);
        }
        Change::Rename {
            from,
            to,
            kind,
            size,
            mtime,
        } => {
            w.array(7);
            w.uint(RENAME);
            w.bin(from.as_bytes());
            w.bin(to.as_bytes());
            w.uint(u8::from(*kind));
            w.uint(*size);
            write_time(w, *mtime);
        }
        Change::Listing { dir, range, page } => {
            w.array(5);
            w.uint(LISTING);
            w.bin(dir.as_bytes());
            write_range(w, range);
            write_page(w, page);
        }
        Change::Base {
            stream,
            path,
            offset,
            bytes,
            block,
            size,
        } => {
            w.array(7);
            w.uint(BASE);
            w.uint(*stream);
            w.bin(path.as_bytes());
            w.uint(*offset);
            w.uint(*bytes);
            w.uint(*block);
            w.uint(*size);
        }
        Change::Chunk {
            stream,
            offset,
            kept,
            hole,
            data,
            size,
        } => {
            w.array(7);
            w.uint(CHUNK);
            w.uint(*stream);
            w.uint(*offset);
            w.uint(*kept);
            w.uint(*hole);
            w.uint(data.len() as u64);
            w.uint(*size);
        }
        Change::Publish {
            stream,
            path,
            meta,
            hash,
        } => {
            w.array(5);
            w.uint(PUBLISH);
            w.uint(*stream);
            w.bin(path.as_bytes());
            write_metadata(w, meta);
            w.bin_or_nil(hash.as_ref().map(|hash| hash.as_bytes().as_slice()));
        }
        Change::Abandon { stream } => {
            w.array(2);
            w.uint(ABANDON);
            w.uint(*stream);
        }
    }
}

/// A data message to a sink from bytes. Its content shares the memory of the received frame.
///
/// # Errors
/// [`WireError`] if it is none or breaks a limit.
pub fn decode_to_sink(frames: &[Bytes]) -> Result<ToSink, WireError> {
    let (header, payload) = split(frames)?;
    let mut r = Reader::new(header);
    let mut content = Content::new(payload.cloned());
    let parts = r.list(6, "parts of a message")?;
    let message = match (r.code("type of message")?, parts) {
        (SYNCHRONISATION, 2) => ToSink::Synchronisation {
            nonce: r.uint("nonce")?,
        },
        (PING, 2) => ToSink::Ping {
            token: r.uint("token")?,
        },
        (CHANGE, 5 | 6) => {
            let (epoch, number) = (r.uint("epoch")?, r.uint("number")?);
            require(epoch != 0, "the epoch is 0")?;
            require(number != 0, "the number is 0")?;
            let lane = read_lane(&mut r)?;
            if parts == 6 {
                let packed = payload.ok_or_else(|| malformed("compressed content is missing"))?;
                content = Content::new(Some(unpack(packed, r.uint("length of the content")?)?));
            }
            let change = read_change(&mut r, &mut content)?;
            ToSink::Change {
                epoch,
                number,
                lane,
                change,
            }
        }
        _ => return Err(malformed("no such message to a sink")),
    };
    r.end()?;
    content.end()?;
    Ok(message)
}

fn read_lane(r: &mut Reader<'_>) -> Result<Lane, WireError> {
    match r.code("lane")? {
        LANE_LIVE => Ok(Lane::Live),
        LANE_BACKLOG => Ok(Lane::Backlog),
        _ => Err(malformed("no such lane")),
    }
}

fn read_change(r: &mut Reader<'_>, content: &mut Content) -> Result<Change, WireError> {
    let parts = r.list(7, "parts of a change")?;
    match (r.code("type of change")?, parts) {
        (ENTRIES, 3) => Ok(Change::Entries {
            dir: read_path(r)?,
            entries: read_entries(r, content)?,
        }),
        (DIR_META, 3) => {
            let (dir, meta) = (read_path(r)?, read_metadata(r)?);
            require(
                meta.kind == Kind::Dir,
                "metadata of a directory is of another kind",
            )?;
            Ok(Change::DirMeta { dir, meta })
        }
        (RENAME, 7) => read_rename(r),
        (LISTING, 5) => {
            let (dir, range) = (read_path(r)?, read_range(r)?);
            let page = read_page(r, &range)?;
            Ok(Change::Listing { dir, range, page })
        }
        (BASE, 7) => read_base(r),
        (CHUNK, 7) => read_chunk(r, content),
        (PUBLISH, 5) => {
            let (stream, path) = (r.uint("stream")?, read_path_below_root(r)?);
            let meta = read_metadata(r)?;
            require(meta.kind == Kind::File, "what is published is no file")?;
            Ok(Change::Publish {
                stream,
                path,
                meta,
                hash: read_hash(r)?,
            })
        }
        (ABANDON, 2) => Ok(Change::Abandon {
            stream: r.uint("stream")?,
        }),
        _ => Err(malformed("no such change")),
    }
}

fn read_rename(r: &mut Reader<'_>) -> Result<Change, WireError> {
    let (from, to): (RelPath, RelPath) = (read_path_below_root(r)?, read_path_below_root(r)?);
    require(from != to, "a rename to the same name")?;
    let (kind, size, mtime) = (read_kind(r)?, r.uint("size")?, read_time(r)?);
    Ok(Change::Rename {
        from,
        to,
        kind,
        size,
        mtime,
    })
}

fn read_hash(r: &mut Reader<'_>) -> Result<Option<BlockHash>, WireError> {
    if r.skip_nil() {
        return Ok(None);
    }
    let bytes = r.bin(BLOCK_HASH_BYTES, "length of a hash")?;
    let bytes = bytes.try_into();
    bytes
        .map(|bytes| Some(BlockHash::from_bytes(bytes)))
        .map_err(|_| malformed("a hash is too short"))
}

fn read_base(r: &mut Reader<'_>) -> Result<Change, WireError> {
    let (stream, path) = (r.uint("stream")?, read_path_below_root(r)?);
    let (offset, bytes) = (r.uint("offset")?, r.uint("length")?);
    let (block, size) = (r.uint("length of a block")?, r.uint("size")?);
    require(
        (1..=BLOCK_BYTES_MAX).contains(&block),
        "a block is empty or too long",
    )?;
    let end = offset.checked_add(bytes);
    require(
        end.is_some_and(|end| end <= size && (end == size || end % block == 0)),
        "a base ends within a block or beyond its file",
    )?;
    require(
        offset % block == 0 && bytes > 0 && bytes.div_ceil(block) <= BLOCKS_MAX as u64,
        "a base begins within a block, is empty or too long",
    )?;
    Ok(Change::Base {
        stream,
        path,
        offset,
        bytes,
        block,
        size,
    })
}

fn read_chunk(r: &mut Reader<'_>, content: &mut Content) -> Result<Change, WireError> {
    let (stream, offset) = (r.uint("stream")?, r.uint("offset")?);
    let (kept, hole) = (r.uint("kept")?, r.uint("hole")?);
    let (len, size) = (r.uint("length")?, r.uint("size")?);
    let start = offset
        .checked_add(kept)
        .and_then(|end| end.checked_add(hole));
    let end = start.and_then(|start| start.checked_add(len));
    require(
        end.is_some_and(|end| end <= size),
        "a chunk ends beyond its file",
    )?;
    require(end != Some(offset), "a chunk is empty")?;
    Ok(Change::Chunk {
        stream,
        offset,
        kept,
        hole,
        data: content.take(len)?,
        size,
    })
}
