//! Control messages: MessagePack maps with named fields.

use bytes::Bytes;

use super::{Frames, PAYLOAD_BYTES_MAX, WireError, malformed, require, single, value, within};
use crate::wire::message::{
    CAPABILITIES_MAX, CONNECTIONS_MAX, Command, ENTRIES_MAX, EXCEPTIONS_MAX, ID_BYTES_MAX,
    RegistrationRequest, Request, ResumePoint,
};

/// Longest description of an error, in characters. It quotes what came, so it must not grow with it.
const DESCRIPTION_CHARS_MAX: usize = 200;

/// Bytes of a control message.
#[must_use]
pub fn encode_command(message: &Command) -> Frames {
    let bytes = rmp_serde::to_vec_named(message)
        .expect("control messages have neither maps with odd keys nor values of unknown length");
    vec![Bytes::from(bytes)]
}

/// A control message from bytes. Unknown fields are ignored.
///
/// # Errors
/// [`WireError`] if it is none or breaks a limit.
pub fn decode_command(frames: &[Bytes]) -> Result<Command, WireError> {
    let bytes = single(frames)?;
    value::check_map(bytes)?;
    let message = rmp_serde::from_slice(bytes).map_err(|error| describe(&error))?;
    check(&message)?;
    Ok(message)
}

fn describe(error: &rmp_serde::decode::Error) -> WireError {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    malformed(
        error
            .to_string()
            .chars()
            .take(DESCRIPTION_CHARS_MAX)
            .map(plain)
            .collect::<String>(),
    )
}

/// What the types alone do not say.
fn check(message: &Command) -> Result<(), WireError> {
    match message {
        Command::RegistrationRequest(request) => check_registration(request),
        Command::RegistrationRequestAcknowledgement {
            epoch,
            source_id,
            payload_bytes_max,
            ..
        } => {
            check_epoch(*epoch)?;
            check_id(source_id)?;
            let content = 1..=PAYLOAD_BYTES_MAX as u64;
            require(
                content.contains(payload_bytes_max),
                "payload_bytes_max is out of range",
            )
        }
        Command::RegistrationSuccess { epoch, .. }
        | Command::RegistrationSuccessAcknowledgement { epoch }
        | Command::Unregister { epoch }
        | Command::UnregisterAcknowledgement { epoch }
        | Command::ServiceTermination { epoch }
        | Command::ServiceTerminationAcknowledgement { epoch }
        | Command::ReleaseBrake { epoch } => check_epoch(*epoch),
        Command::Request {
            request: Request::Enqueue { paths },
            ..
        } => within(paths.len(), ENTRIES_MAX, "number of paths"),
        Command::Request {
            request: Request::Limit(limits),
            ..
        } => require(limits.is_valid(), "a limit is out of range"),
        Command::Request { .. }
        | Command::Reply { .. }
        | Command::Ping { .. }
        | Command::Pong { .. }
        | Command::Error(_) => Ok(()),
    }
}

fn check_registration(request: &RegistrationRequest) -> Result<(), WireError> {
    let RegistrationRequest {
        sink_id,
        nonces,
        capabilities,
        limits,
        owners,
        resume,
        ..
    } = request;
    check_id(sink_id)?;
    within(nonces.len(), CONNECTIONS_MAX, "number of nonces")?;
    require(!nonces.is_empty(), "no nonce")?;
    let repeated = nonces
        .iter()
        .enumerate()
        .any(|(at, nonce)| nonces[..at].contains(nonce));
    require(!repeated, "a nonce is named twice")?;
    within(
        capabilities.len(),
        CAPABILITIES_MAX,
        "number of capabilities",
    )?;
    for capability in capabilities {
        within(capability.len(), ID_BYTES_MAX, "length of a capability")?;
    }
    limits.check().map_err(malformed)?;
    if let Some(owners) = owners {
        owners.check().map_err(malformed)?;
    }
    resume.as_ref().map_or(Ok(()), check_resume)
}

fn check_resume(resume: &ResumePoint) -> Result<(), WireError> {
    let ResumePoint {
        source_id,
        epoch,
        durable,
        exceptions,
        ..
    } = resume;
    check_id(source_id)?;
    check_epoch(*epoch)?;
    within(exceptions.len(), EXCEPTIONS_MAX, "number of exceptions")?;
    require(
        exceptions.is_sorted_by(|a, b| a < b),
        "the exceptions are not sorted",
    )?;
    let named = exceptions
        .iter()
        .all(|number| (1..=*durable).contains(number));
    require(named, "an exception is not among the durable numbers")
}

fn check_epoch(epoch: u64) -> Result<(), WireError> {
    require(epoch != 0, "the epoch is 0")
}

fn check_id(id: &str) -> Result<(), WireError> {
    require(!id.is_empty(), "an id is empty")?;
    within(id.len(), ID_BYTES_MAX, "length of an id")
}
