//! Every message of the protocol, as data. This is the one model of the wire: the engine speaks it,
//! `codec` turns it into bytes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::report::{
    Limit, ProblemsReport, QueueReport, RateLimits, Shortage, Status, TransferReport,
};
use crate::tree::{
    BlockHash, Body, Digest, Entry, Filter, Kind, ListEntry, Metadata, Name, NameRange,
    OwnerTables, RelPath, State, TargetLimits, Time,
};

/// Version of the protocol. Peers with another major number refuse each other.
pub const VERSION: u32 = 1;

/// Most entries in one [`Change::Entries`] or names in one [`Page::Entries`].
pub const ENTRIES_MAX: usize = 512;

/// Most outcomes in one [`ToSource::Acknowledgement`].
pub const OUTCOMES_MAX: usize = 4096;

/// Most names in each list of an [`Answer::Names`]: what is on the source only or differs comes from
/// a page of the source, what is in excess is cut by the sink.
pub const ANSWER_NAMES_MAX: usize = 2 * ENTRIES_MAX;

/// Longest [`Refusal::Problem`] operation, in bytes.
pub const OPERATION_BYTES_MAX: usize = 64;

/// Longest id of a source or a sink, in bytes; the shortest has one.
pub const ID_BYTES_MAX: usize = 64;

/// Most data connections of one session.
pub const CONNECTIONS_MAX: usize = 16;

/// Most capabilities that a sink may name, each at most [`ID_BYTES_MAX`] long.
pub const CAPABILITIES_MAX: usize = 32;

/// Most numbers in [`ResumePoint::exceptions`].
pub const EXCEPTIONS_MAX: usize = 4096;

/// Which lane a message was sent for; it decides whose share of the credit pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// A change that the file system reported.
    Live,
    /// An entry that a walk or an operator found.
    Backlog,
}

/// Source to sink, on a data connection.
#[derive(Debug, Clone, PartialEq)]
pub enum ToSink {
    /// Proves this data connection during the handshake; carries the nonce of its announcement.
    Synchronisation {
        /// The nonce that the sink announced on this connection.
        nonce: u64,
    },
    /// Asks for a [`ToSource::Pong`] with the same token.
    Ping {
        /// Any value.
        token: u64,
    },
    /// One numbered message of a session.
    Change {
        /// The session.
        epoch: u64,
        /// Place in the session, from 1, without gaps over all data connections together.
        number: u64,
        /// Whose credit it uses.
        lane: Lane,
        /// What to do.
        change: Change,
    },
}

impl ToSink {
    /// Bytes of content that travel with it.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        match self {
            Self::Change { change, .. } => change.bodies().map(Bytes::len).sum(),
            _ => 0,
        }
    }
}

/// What a numbered message tells the sink.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// States of names in one directory, sorted by name, each name once.
    Entries {
        /// The directory, which must exist on the sink.
        dir: RelPath,
        /// The names and what they are now.
        entries: Vec<Entry>,
    },
    /// Metadata of a directory, set after everything earlier below it, holding nothing back. Of the
    /// root too.
    DirMeta {
        /// The directory.
        dir: RelPath,
        /// Its metadata.
        meta: Metadata,
    },
    /// One entry changed its name. Refused as a mismatch unless the sink holds at `from` what is
    /// described.
    Rename {
        /// Old path.
        from: RelPath,
        /// New path; replaces what is there, as rename(2) does.
        to: RelPath,
        /// What moved.
        kind: Kind,
        /// Its size in bytes (files and symlinks; 0 for directories).
        size: u64,
        /// Its time of change (files and symlinks; not compared for directories).
        mtime: Time,
    },
    /// What the source holds in a range of names of one directory, to be compared.
    Listing {
        /// The directory.
        dir: RelPath,
        /// Which of its names.
        range: NameRange,
        /// Their digest or themselves.
        page: Page,
    },
    /// A range of what the sink holds at a path is to be the base of a stream: the sink copies it, and answers
    /// with the hashes of the blocks that it has copied.
    Base {
        /// The stream, unique in the session.
        stream: u64,
        /// Where the base lies.
        path: RelPath,
        /// Where the range begins, a multiple of `block`; behind all that was told of the stream.
        offset: u64,
        /// Bytes of the range; at most [`BLOCKS_MAX`](crate::tree::BLOCKS_MAX) blocks.
        bytes: u64,
        /// Bytes of a block, the last one of the file apart; at most
        /// [`BLOCK_BYTES_MAX`](crate::tree::BLOCK_BYTES_MAX).
        block: u64,
        /// Bytes of the whole file.
        size: u64,
    },
    /// The next piece of a large file or of one with holes: what is kept of the base, a hole, then data.
    Chunk {
        /// The stream, unique in the session.
        stream: u64,
        /// Bytes of the file before this piece, 0 in the first.
        offset: u64,
        /// Bytes that are as in the base: whole blocks of which the sink has told the hashes.
        kept: u64,
        /// Bytes of the hole.
        hole: u64,
        /// The data; at most [`super::PAYLOAD_BYTES_MAX`], and none only behind something else.
        data: Bytes,
        /// Bytes of the whole file, in every piece the same.
        size: u64,
    },
    /// The stream is whole: publish it under this path.
    Publish {
        /// The stream.
        stream: u64,
        /// Where it belongs.
        path: RelPath,
        /// Metadata of the file; its size is the length of the stream.
        meta: Metadata,
        /// Of a stream with a base the hash of the whole file, without which it is not published.
        hash: Option<BlockHash>,
    },
    /// The stream is void: free its stage.
    Abandon {
        /// The stream.
        stream: u64,
    },
}

impl Change {
    /// What of it is raw content, in order: files, targets of symlinks, pieces of large files.
    pub fn bodies(&self) -> impl Iterator<Item = &Bytes> + Clone {
        let (entries, data) = match self {
            Self::Entries { entries, .. } => (entries.as_slice(), None),
            Self::Chunk { data, .. } => (&[][..], Some(data)),
            _ => (&[][..], None),
        };
        let of_entries = entries.iter().filter_map(|entry| match &entry.state {
            State::Present(_, Body::Content(content) | Body::Target(content)) => Some(content),
            _ => None,
        });
        of_entries.chain(data)
    }

    /// What the message costs of the credit, in bytes: 64, and for each entry 64, plus the bytes of
    /// paths, names, extended attributes and content. Both sides count it the same way.
    #[must_use]
    pub fn cost(&self) -> u64 {
        let bytes = match self {
            Self::Entries { dir, entries } => {
                dir.len() + entries.iter().map(entry_cost).sum::<usize>()
            }
            Self::DirMeta { dir, meta } => dir.len() + xattrs_cost(meta),
            Self::Rename { from, to, .. } => from.len() + to.len(),
            Self::Listing {
                dir,
                page: Page::Digest(..),
                ..
            } => dir.len(),
            Self::Listing {
                dir,
                page: Page::Entries(entries),
                ..
            } => {
                dir.len()
                    + entries
                        .iter()
                        .map(|e| ENTRY_COST + e.name.as_bytes().len())
                        .sum::<usize>()
            }
            Self::Base { path, .. } => path.len(),
            Self::Chunk { data, .. } => data.len(),
            Self::Publish { path, meta, .. } => path.len() + xattrs_cost(meta),
            Self::Abandon { .. } => 0,
        };
        (ENTRY_COST + bytes) as u64
    }
}

/// Fixed part of the cost of a message and of each entry, in bytes.
pub const ENTRY_COST: usize = 64;

/// What one entry costs of the credit, in bytes, its content included.
#[must_use]
pub fn entry_cost(entry: &Entry) -> usize {
    let held = match &entry.state {
        State::Absent => 0,
        State::Present(meta, Body::Link { to, .. }) => xattrs_cost(meta) + to.len(),
        State::Present(meta, body) => xattrs_cost(meta) + body.len(),
    };
    ENTRY_COST + entry.name.as_bytes().len() + held
}

/// Bytes of the extended attributes.
#[must_use]
pub fn xattrs_cost(meta: &Metadata) -> usize {
    meta.xattrs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq)]
pub enum Page {
    /// Only the digest, of this many entries.
    Digest(Digest, u32),
    /// The entries, sorted by name; at most [`ENTRIES_MAX`].
    Entries(Vec<ListEntry>),
}

/// Sink to source, on a data connection.
#[derive(Debug, Clone, PartialEq)]
pub enum ToSource {
    /// First message of every data connection: the sink's nonce for this connection.
    Announce {
        /// Random; its registration names the nonces of all its connections.
        nonce: u64,
    },
    /// Answer to [`ToSink::Ping`].
    Pong {
        /// The token of the ping.
        token: u64,
    },
    /// Outcomes, marks and credit.
    Acknowledgement {
        /// The session.
        epoch: u64,
        /// Outcomes that are more than "done", by number. They count before the marks.
        outcomes: Vec<(u64, Outcome)>,
        /// Every number up to here has its outcome; those never named are done.
        applied: u64,
        /// Every number up to here survives a power cut of the sink.
        durable: u64,
        /// What the source may have sent, since the start of the session.
        credit: Credit,
    },
}

/// Credit as totals since the start of the session, so that a repeated grant changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Credit {
    /// Bytes of headers and content.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
}

/// The sink's answer to one numbered message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Entries (by place in the message, 0 for a message with one subject) that were not done.
    pub refused: Vec<(u32, Refusal)>,
    /// Entries whose directory the sink had to make.
    pub made: Vec<u32>,
    /// The answer to a listing or to the question for a base.
    pub answer: Option<Answer>,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The sink's file system refused: operation and errno.
    Problem {
        /// What was tried, a verb such as `create` or `set owner`.
        operation: String,
        /// Error number of Linux.
        errno: i32,
    },
    /// The directory that should hold the entry is missing, or is no directory.
    ParentMissing,
    /// The sink does not hold what the message builds on.
    Mismatch,
    /// The brake holds back removals until the operator has agreed.
    Halted,
    /// The target takes no content now, which passes by itself.
    Full(Shortage),
    /// The directory stays, because excluded entries lie in it; everything else in it was removed.
    Kept,
}

/// Answer to a listing: names at which the source must look again. Or what the sink holds of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The range is the same on the sink.
    Equal,
    /// The digest differs: send the entries.
    Different,
    /// The sink has no such directory, or nothing of the file from there on.
    Missing,
    /// Names in the range, sorted.
    Names {
        /// On the source only.
        lacks: Vec<Name>,
        /// On both, not the same.
        differs: Vec<Name>,
        /// On the sink only. At most [`ANSWER_NAMES_MAX`]; see `more`.
        excess: Vec<Name>,
        /// There are more in excess than were named: compare the range again afterwards.
        more: bool,
    },
    /// The sink could not list the directory: errno.
    Failed(i32),
    /// The blocks of a base from its offset on, at most [`BLOCKS_MAX`](crate::tree::BLOCKS_MAX); none where
    /// the sink holds no whole block of data.
    Blocks(Vec<Option<BlockHash>>),
}

/// Messages on the command channel, both directions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Command {
    /// Sink: register me. The data connections have announced themselves before.
    RegistrationRequest(RegistrationRequest),
    /// Source: your epoch and limits; watch for Synchronisation on each data connection.
    RegistrationRequestAcknowledgement {
        /// The new session.
        epoch: u64,
        /// Who the source is, random per state directory.
        source_id: String,
        /// Most bytes of content in one message.
        payload_bytes_max: u64,
        /// Device and inode of the source's root, for the operator.
        root: String,
        /// Which entries take part; the sink leaves all others alone.
        #[serde(default, skip_serializing_if = "Filter::is_empty")]
        filter: Filter,
    },
    /// Sink: Synchronisation was seen on every data connection, nothing older can take effect.
    RegistrationSuccess {
        /// The session.
        epoch: u64,
        /// First credit.
        credit: Credit,
    },
    /// Source: transfer begins.
    RegistrationSuccessAcknowledgement {
        /// The session.
        epoch: u64,
    },
    /// Sink: let me go; what was sent is applied and made durable first.
    Unregister {
        /// The session.
        epoch: u64,
    },
    /// Source: nothing more will be sent to you.
    UnregisterAcknowledgement {
        /// The session.
        epoch: u64,
    },
    /// Source: the service ends; everything sent has been reported durable.
    ServiceTermination {
        /// The session.
        epoch: u64,
    },
    /// Sink: agreed.
    ServiceTerminationAcknowledgement {
        /// The session.
        epoch: u64,
    },
    /// Source: the operator has agreed to the halted removals.
    ReleaseBrake {
        /// The session.
        epoch: u64,
    },
    /// Either side: are you there?
    Ping {
        /// Any value, returned in the answer.
        token: u64,
    },
    /// Either side: yes.
    Pong {
        /// The token of the ping.
        token: u64,
    },
    /// Either side: what you sent was not accepted.
    Error(ErrorAnswer),
    /// Operator: a request.
    Request {
        /// Chosen by the operator's program, returned in the reply.
        id: u64,
        /// What is wanted.
        request: Request,
    },
    /// Source: the reply to a request.
    Reply {
        /// The request's.
        id: u64,
        /// The answer.
        reply: Reply,
    },
}

/// Who wants to be registered, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationRequest {
    /// [`VERSION`] of the sink.
    pub version: u32,
    /// Who the sink is, random per state directory, 1 to 64 bytes.
    pub sink_id: String,
    /// Random per process: tells a sink that returns from another process with its id.
    pub instance: u64,
    /// Nonces of the data connections, 1 to [`CONNECTIONS_MAX`], all different.
    pub nonces: Vec<u64>,
    /// Optional parts of the protocol that the sink speaks. None are defined in version 1.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// What the target cannot hold. The source leaves it out of all that it says to this sink.
    #[serde(default)]
    pub limits: Box<TargetLimits>,
    /// The users and groups of the sink's host, if owners are to be matched by name. The source then
    /// says the numbers that names known on both hosts have there.
    #[serde(default)]
    pub owners: Option<Box<OwnerTables>>,
    /// Where the sink stands, if it was registered before.
    pub resume: Option<ResumePoint>,
}

/// What a sink knows of its last session. Saves sending again what is durable; proves nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    /// The source it was registered with.
    pub source_id: String,
    /// The session.
    pub epoch: u64,
    /// Everything up to this number is durable.
    pub durable: u64,
    /// Numbers up to `durable` whose outcome was more than "done", which the source may not have
    /// heard of. Sorted.
    pub exceptions: Vec<u64>,
    /// The exceptions are known for numbers above this one; nothing is claimed of those before.
    pub known_from: u64,
    /// True if the sink ran without a break since then.
    pub continuous: bool,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// What kind of error.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

/// Kinds of error answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The bytes are no message, or break a limit.
    Malformed,
    /// A message that does not belong here now.
    OutOfPhase,
    /// The peer speaks another version.
    Version,
    /// Another living process is registered with this sink id.
    Duplicate,
    /// More sinks or requests than the limit.
    Busy,
    /// The source is terminating.
    Terminating,
    /// A deadline of the handshake passed.
    Timeout,
    /// The filters of the source exclude what was named.
    Excluded,
}

/// What an operator can ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// One screen of where it stands.
    Status,
    /// The queue report.
    ReportQueue,
    /// The transfer report.
    ReportTransfer,
    /// Paths that cannot be replicated now.
    ReportProblems,
    /// Reply when all that happened before is durable on every sink.
    Flush {
        /// Milliseconds after which the reply is "not yet".
        timeout_ms: u64,
    },
    /// Send nothing until resumed; changes are still collected.
    Pause,
    /// Go on after a pause, or once what has halted the source is as it was.
    Resume {
        /// Agree to what is held back: removals that the brake holds, or a root that is not what it was.
        accept: bool,
    },
    /// From now on, limit the backlog so, and no otherwise.
    Limit(RateLimits),
    /// Compare this subtree again.
    Rescan {
        /// Its top.
        path: RelPath,
    },
    /// Put these paths at the front of the backlog; at most [`ENTRIES_MAX`] a request.
    Enqueue {
        /// The paths.
        paths: Vec<RelPath>,
    },
    /// Terminate in mutual agreement.
    Stop,
}

/// What an operator is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Done as asked.
    Done,
    /// Answer to [`Request::Status`].
    Status(Box<Status>),
    /// Answer to [`Request::ReportQueue`].
    Queue(Box<QueueReport>),
    /// Answer to [`Request::ReportTransfer`].
    Transfer(Box<TransferReport>),
    /// Answer to [`Request::ReportProblems`].
    Problems(Box<ProblemsReport>),
    /// Answer to [`Request::Flush`].
    Flush(FlushResult),
    /// The request was not carried out.
    Refused(ErrorAnswer),
}

/// How a flush ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushResult {
    /// True if all that happened before is durable on every sink that the source knows.
    pub complete: bool,
    /// Paths that cannot be replicated: with any, the flush is no success.
    pub problems: u64,
    /// What is still missing, for people; empty if complete.
    pub waiting_for: String,
    /// What the targets cannot hold and entries of the source have: with any, the flush is no success.
    #[serde(default)]
    pub limits: Vec<Limit>,
}
