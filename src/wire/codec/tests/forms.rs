//! Every form that a part of a message can take, by name, so that none can lack golden bytes: the
//! compiler demands a name for each new variant, and a test demands a sample for each name.

use super::Message;
use crate::report::Phase;
use crate::tree::{Body, Kind, Metadata, State};
use crate::wire::message::{
    Answer, Change, Command, ErrorCode, Lane, Outcome, Page, Refusal, Reply, Request, ToSink,
    ToSource,
};

macro_rules! forms {
    ($function:ident, $all:ident, $type:ty, $($pattern:pat => $name:literal,)+) => {
        fn $function(value: &$type) -> &'static str {
            match value { $($pattern => $name,)+ }
        }
        const $all: &[&str] = &[$($name),+];
    };
}

forms!(command, COMMANDS, Command,
    Command::RegistrationRequest(_) => "command registration request",
    Command::RegistrationRequestAcknowledgement { .. } => "command registration request acknowledgement",
    Command::RegistrationSuccess { .. } => "command registration success",
    Command::RegistrationSuccessAcknowledgement { .. } => "command registration success acknowledgement",
    Command::Unregister { .. } => "command unregister",
    Command::UnregisterAcknowledgement { .. } => "command unregister acknowledgement",
    Command::ServiceTermination { .. } => "command service termination",
    Command::ServiceTerminationAcknowledgement { .. } => "command service termination acknowledgement",
    Command::ReleaseBrake { .. } => "command release brake",
    Command::Ping { .. } => "command ping",
    Command::Pong { .. } => "command pong",
    Command::Error(_) => "command error",
    Command::Request { .. } => "command request",
    Command::Reply { .. } => "command reply",
);

forms!(error_code, ERROR_CODES, ErrorCode,
    ErrorCode::Malformed => "error malformed",
    ErrorCode::OutOfPhase => "error out of phase",
    ErrorCode::Version => "error version",
    ErrorCode::Duplicate => "error duplicate",
    ErrorCode::Busy => "error busy",
    ErrorCode::Terminating => "error terminating",
    ErrorCode::Timeout => "error timeout",
    ErrorCode::Excluded => "error excluded",
);

forms!(request, REQUESTS, Request,
    Request::Status => "request status",
    Request::ReportQueue => "request report queue",
    Request::ReportTransfer => "request report transfer",
    Request::ReportProblems => "request report problems",
    Request::Flush { .. } => "request flush",
    Request::Pause => "request pause",
    Request::Resume { .. } => "request resume",
    Request::Limit(_) => "request limit",
    Request::Rescan { .. } => "request rescan",
    Request::Enqueue { .. } => "request enqueue",
    Request::Stop => "request stop",
);

forms!(reply, REPLIES, Reply,
    Reply::Done => "reply done",
    Reply::Status(_) => "reply status",
    Reply::Queue(_) => "reply queue",
    Reply::Transfer(_) => "reply transfer",
    Reply::Problems(_) => "reply problems",
    Reply::Flush(_) => "reply flush",
    Reply::Refused(_) => "reply refused",
);

forms!(phase, PHASES, Phase,
    Phase::Initialisation => "phase initialisation",
    Phase::Transfer => "phase transfer",
    Phase::Termination => "phase termination",
);

forms!(to_sink, TO_SINK, ToSink,
    ToSink::Synchronisation { .. } => "to sink synchronisation",
    ToSink::Ping { .. } => "to sink ping",
    ToSink::Change { .. } => "to sink change",
);

forms!(lane, LANES, Lane,
    Lane::Live => "lane live",
    Lane::Backlog => "lane backlog",
);

forms!(change, CHANGES, Change,
    Change::Entries { .. } => "change entries",
    Change::DirMeta { .. } => "change dir meta",
    Change::Rename { .. } => "change rename",
    Change::Listing { .. } => "change listing",
    Change::Base { .. } => "change base",
    Change::Chunk { .. } => "change chunk",
    Change::Publish { .. } => "change publish",
    Change::Abandon { .. } => "change abandon",
);

forms!(state, STATES, State,
    State::Absent => "entry absent",
    State::Present(_, Body::Empty) => "entry empty",
    State::Present(_, Body::Content(_)) => "entry content",
    State::Present(_, Body::Target(_)) => "entry target",
    State::Present(_, Body::Unchanged { .. }) => "entry unchanged",
    State::Present(_, Body::Link { links: None, .. }) => "entry link",
    State::Present(_, Body::Link { links: Some(_), .. }) => "entry link, names counted",
);

forms!(kind, KINDS, Kind,
    Kind::File => "kind file",
    Kind::Dir => "kind dir",
    Kind::Symlink => "kind symlink",
    Kind::Fifo => "kind fifo",
    Kind::Socket => "kind socket",
    Kind::CharDevice => "kind char device",
    Kind::BlockDevice => "kind block device",
);

forms!(page, PAGES, Page,
    Page::Digest(..) => "page digest",
    Page::Entries(_) => "page entries",
);

forms!(to_source, TO_SOURCE, ToSource,
    ToSource::Announce { .. } => "to source announce",
    ToSource::Pong { .. } => "to source pong",
    ToSource::Acknowledgement { .. } => "to source acknowledgement",
);

forms!(refusal, REFUSALS, Refusal,
    Refusal::Problem { .. } => "refusal problem",
    Refusal::ParentMissing => "refusal parent missing",
    Refusal::Mismatch => "refusal mismatch",
    Refusal::Halted => "refusal halted",
    Refusal::Full(_) => "refusal full",
    Refusal::Kept => "refusal kept",
);

forms!(answer, ANSWERS, Answer,
    Answer::Equal => "answer equal",
    Answer::Different => "answer different",
    Answer::Missing => "answer missing",
    Answer::Names { .. } => "answer names",
    Answer::Failed(_) => "answer failed",
    Answer::Blocks(_) => "answer blocks",
);

/// Every name, for comparison with the names of the samples' parts.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    [
        COMMANDS,
        ERROR_CODES,
        REQUESTS,
        REPLIES,
        PHASES,
        TO_SINK,
        LANES,
        CHANGES,
        STATES,
        KINDS,
        PAGES,
        TO_SOURCE,
        REFUSALS,
        ANSWERS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The names of the forms in a message.
pub(super) fn of(message: &Message) -> Vec<&'static str> {
    match message {
        Message::Command(message) => of_command(message),
        Message::ToSink(message) | Message::Compressed(message) => of_to_sink(message),
        Message::ToSource(message) => of_to_source(message),
    }
}

fn of_command(message: &Command) -> Vec<&'static str> {
    let mut forms = vec![command(message)];
    match message {
        Command::Error(answer) => forms.push(error_code(&answer.code)),
        Command::Request {
            request: wanted, ..
        } => forms.push(request(wanted)),
        Command::Reply { reply: told, .. } => {
            forms.push(reply(told));
            match told {
                Reply::Status(status) => {
                    forms.push(phase(&status.phase));
                    forms.extend(status.sinks.iter().map(|sink| phase(&sink.phase)));
                }
                Reply::Refused(answer) => forms.push(error_code(&answer.code)),
                _ => {}
            }
        }
        _ => {}
    }
    forms
}

fn of_to_sink(message: &ToSink) -> Vec<&'static str> {
    let mut forms = vec![to_sink(message)];
    let ToSink::Change {
        lane: paying,
        change: told,
        ..
    } = message
    else {
        return forms;
    };
    forms.extend([lane(paying), change(told)]);
    match told {
        Change::Entries { entries, .. } => {
            for entry in entries {
                forms.push(state(&entry.state));
                if let State::Present(Metadata { kind: present, .. }, _) = &entry.state {
                    forms.push(kind(present));
                }
            }
        }
        Change::Listing { page: part, .. } => forms.push(page(part)),
        _ => {}
    }
    forms
}

fn of_to_source(message: &ToSource) -> Vec<&'static str> {
    let mut forms = vec![to_source(message)];
    if let ToSource::Acknowledgement { outcomes, .. } = message {
        for (
            _,
            Outcome {
                refused,
                answer: told,
                ..
            },
        ) in outcomes
        {
            forms.extend(refused.iter().map(|(_, why)| refusal(why)));
            forms.extend(told.as_ref().map(answer));
        }
    }
    forms
}
