//! Data messages from a sink to the source.

use bytes::Bytes;

use super::header::{Reader, Writer};
use super::noun::read_name;
use super::{Frames, WireError, malformed, require, single};
use crate::report::Shortage;
use crate::tree::{BLOCK_HASH_BYTES, BLOCKS_MAX, BlockHash, Name};
use crate::wire::message::{
    ANSWER_NAMES_MAX, Answer, Credit, ENTRIES_MAX, OPERATION_BYTES_MAX, OUTCOMES_MAX, Outcome,
    Refusal, ToSource,
};

const ANNOUNCE: u8 = 0;
const PONG: u8 = 1;
const ACKNOWLEDGEMENT: u8 = 2;

const PROBLEM: u8 = 0;
const PARENT_MISSING: u8 = 1;
const MISMATCH: u8 = 2;
const HALTED: u8 = 3;
const FULL: u8 = 4;
const KEPT: u8 = 5;

const SPACE: u8 = 0;
const INODES: u8 = 1;
const QUOTA: u8 = 2;
const READ_ONLY: u8 = 3;

const EQUAL: u8 = 0;
const DIFFERENT: u8 = 1;
const MISSING: u8 = 2;
const NAMES: u8 = 3;
const FAILED: u8 = 4;
const BLOCKS: u8 = 5;

/// Stands for a block of which there is no hash. Should a block ever have this one, it is sent.
const NO_HASH: [u8; BLOCK_HASH_BYTES] = [0; BLOCK_HASH_BYTES];

/// Bytes of a data message to the source.
#[must_use]
pub fn encode_to_source(message: &ToSource) -> Frames {
    let mut w = Writer::with_capacity(64);
    match message {
        ToSource::Announce { nonce } => {
            w.array(2);
            w.uint(ANNOUNCE);
            w.uint(*nonce);
        }
        ToSource::Pong { token } => {
            w.array(2);
            w.uint(PONG);
            w.uint(*token);
        }
        ToSource::Acknowledgement {
            epoch,
            outcomes,
            applied,
            durable,
            credit,
        } => {
            w.array(7);
            w.uint(ACKNOWLEDGEMENT);
            w.uint(*epoch);
            w.uint(*applied);
            w.uint(*durable);
            w.uint(credit.bytes);
            w.uint(credit.messages);
            w.array(outcomes.len());
            for (number, outcome) in outcomes {
                write_outcome(&mut w, *number, outcome);
            }
        }
    }
    vec![w.finish()]
}

fn write_outcome(w: &mut Writer, number: u64, outcome: &Outcome) {
    w.array(4);
    w.uint(number);
    w.array(outcome.refused.len());
    for (place, refusal) in &outcome.refused {
        write_refusal(w, *place, refusal);
    }
    w.array(outcome.made.len());
    for place in &outcome.made {
        w.uint(*place);
    }
    match &outcome.answer {
        None => w.nil(),
        Some(answer) => write_answer(w, answer),
    }
}

fn write_refusal(w: &mut Writer, place: u32, refusal: &Refusal) {
    let code = match refusal {
        Refusal::Problem { operation, errno } => {
            w.array(4);
            w.uint(place);
            w.uint(PROBLEM);
            w.text(operation);
            w.int(*errno);
            return;
        }
        Refusal::Full(shortage) => {
            w.array(3);
            w.uint(place);
            w.uint(FULL);
            w.uint(match shortage {
                Shortage::Space => SPACE,
                Shortage::Inodes => INODES,
                Shortage::Quota => QUOTA,
                Shortage::ReadOnly => READ_ONLY,
            });
            return;
        }
        Refusal::ParentMissing => PARENT_MISSING,
        Refusal::Mismatch => MISMATCH,
        Refusal::Halted => HALTED,
        Refusal::Kept => KEPT,
    };
    w.array(2);
    w.uint(place);
    w.uint(code);
}

fn write_answer(w: &mut Writer, answer: &Answer) {
    let code = match answer {
        Answer::Names {
            lacks,
            differs,
            excess,
            more,
        } => {
            w.array(5);
            w.uint(NAMES);
            for names in [lacks, differs, excess] {
                write_names(w, names);
            }
            w.flag(*more);
            return;
        }
        Answer::Blocks(blocks) => {
            w.array(2);
            w.uint(BLOCKS);
            w.bin(&block_bytes(blocks));
            return;
        }
        Answer::Failed(errno) => {
            w.array(2);
            w.uint(FAILED);
            w.int(*errno);
            return;
        }
        Answer::Equal => EQUAL,
        Answer::Different => DIFFERENT,
        Answer::Missing => MISSING,
    };
    w.array(1);
    w.uint(code);
}

fn block_bytes(blocks: &[Option<BlockHash>]) -> Vec<u8> {
    let hashes = blocks.iter();
    let hashes = hashes.map(|hash| hash.map_or(NO_HASH, |hash| *hash.as_bytes()));
    hashes.collect::<Vec<_>>().concat()
}

fn write_names(w: &mut Writer, names: &[Name]) {
    w.array(names.len());
    for name in names {
        w.bin(name.as_bytes());
    }
}

/// A data message to the source from bytes.
///
/// # Errors
/// [`WireError`] if it is none or breaks a limit.
pub fn decode_to_source(frames: &[Bytes]) -> Result<ToSource, WireError> {
    let mut r = Reader::new(single(frames)?);
    let parts = r.list(7, "parts of a message")?;
    let message = match (r.code("type of message")?, parts) {
        (ANNOUNCE, 2) => ToSource::Announce {
            nonce: r.uint("nonce")?,
        },
        (PONG, 2) => ToSource::Pong {
            token: r.uint("token")?,
        },
        (ACKNOWLEDGEMENT, 7) => read_acknowledgement(&mut r)?,
        _ => return Err(malformed("no such message to the source")),
    };
    r.end()?;
    Ok(message)
}

fn read_acknowledgement(r: &mut Reader<'_>) -> Result<ToSource, WireError> {
    let epoch = r.uint("epoch")?;
    require(epoch != 0, "the epoch is 0")?;
    let (applied, durable) = (r.uint("applied mark")?, r.uint("durable mark")?);
    require(durable <= applied, "more is durable than applied")?;
    let credit = Credit {
        bytes: r.uint("credit")?,
        messages: r.uint("credit")?,
    };
    let len = r.list(OUTCOMES_MAX, "number of outcomes")?;
    let outcomes = (0..len)
        .map(|_| read_outcome(r))
        .collect::<Result<_, _>>()?;
    Ok(ToSource::Acknowledgement {
        epoch,
        outcomes,
        applied,
        durable,
        credit,
    })
}

fn read_outcome(r: &mut Reader<'_>) -> Result<(u64, Outcome), WireError> {
    r.array(4, "outcome")?;
    let number = r.uint("number")?;
    require(number != 0, "the number is 0")?;
    let refused = r.list(ENTRIES_MAX, "number of refusals")?;
    let refused = (0..refused)
        .map(|_| read_refusal(r))
        .collect::<Result<_, _>>()?;
    let made = r.list(ENTRIES_MAX, "number of made directories")?;
    let made = (0..made).map(|_| read_place(r)).collect::<Result<_, _>>()?;
    let answer = if r.skip_nil() {
        None
    } else {
        Some(read_answer(r)?)
    };
    Ok((
        number,
        Outcome {
            refused,
            made,
            answer,
        },
    ))
}

/// Which entry of its message an outcome is about.
fn read_place(r: &mut Reader<'_>) -> Result<u32, WireError> {
    let place = r.u32("place of an entry")?;
    require(
        (place as usize) < ENTRIES_MAX,
        "no message has an entry in that place",
    )?;
    Ok(place)
}

fn read_refusal(r: &mut Reader<'_>) -> Result<(u32, Refusal), WireError> {
    let parts = r.list(4, "parts of a refusal")?;
    let place = read_place(r)?;
    let refusal = match (r.code("kind of refusal")?, parts) {
        (PROBLEM, 4) => Refusal::Problem {
            operation: r.text(OPERATION_BYTES_MAX, "length of an operation")?,
            errno: r.i32("error number")?,
        },
        (PARENT_MISSING, 2) => Refusal::ParentMissing,
        (MISMATCH, 2) => Refusal::Mismatch,
        (HALTED, 2) => Refusal::Halted,
        (FULL, 3) => Refusal::Full(match r.code("what the target lacks")? {
            SPACE => Shortage::Space,
            INODES => Shortage::Inodes,
            QUOTA => Shortage::Quota,
            READ_ONLY => Shortage::ReadOnly,
            _ => return Err(malformed("no such shortage")),
        }),
        (KEPT, 2) => Refusal::Kept,
        _ => return Err(malformed("no such refusal")),
    };
    Ok((place, refusal))
}

fn read_answer(r: &mut Reader<'_>) -> Result<Answer, WireError> {
    let parts = r.list(5, "parts of an answer")?;
    match (r.code("kind of answer")?, parts) {
        (EQUAL, 1) => Ok(Answer::Equal),
        (DIFFERENT, 1) => Ok(Answer::Different),
        (MISSING, 1) => Ok(Answer::Missing),
        (NAMES, 5) => Ok(Answer::Names {
            lacks: read_names(r)?,
            differs: read_names(r)?,
            excess: read_names(r)?,
            more: r.flag("whether there is more in excess")?,
        }),
        (FAILED, 2) => Ok(Answer::Failed(r.i32("error number")?)),
        (BLOCKS, 2) => read_blocks(r),
        _ => Err(malformed("no such answer")),
    }
}

fn read_blocks(r: &mut Reader<'_>) -> Result<Answer, WireError> {
    let bytes = r.bin(BLOCKS_MAX * BLOCK_HASH_BYTES, "length of hashes")?;
    let (hashes, rest) = bytes.as_chunks();
    require(rest.is_empty(), "a hash is too short")?;
    let hashes = hashes.iter();
    let hashes = hashes.map(|hash| (*hash != NO_HASH).then(|| BlockHash::from_bytes(*hash)));
    Ok(Answer::Blocks(hashes.collect()))
}

fn read_names(r: &mut Reader<'_>) -> Result<Vec<Name>, WireError> {
    let len = r.list(ANSWER_NAMES_MAX, "number of names")?;
    let mut names: Vec<Name> = Vec::with_capacity(len);
    for _ in 0..len {
        let name = read_name(r)?;
        require(
            names.last().is_none_or(|last| *last < name),
            "names are not sorted",
        )?;
        names.push(name);
    }
    Ok(names)
}
