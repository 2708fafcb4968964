//! The limits of control messages, and what other implementations may do with them.

use serde_bytes::ByteBuf;

use super::limits::{accepts, refuses};
use super::samples::*;
use super::*;
use crate::report::RateLimits;
use crate::tree::{
    Filter, FixedOwner, GROUPS_MAX, LimitKind, OWNERS_MAX, OwnerTables, TargetLimits,
};
use crate::wire::message::*;

fn registered(alter: impl FnOnce(&mut RegistrationRequest)) -> Message {
    let mut request = registration(Some(resume_point()));
    alter(&mut request);
    Message::Command(Command::RegistrationRequest(request))
}

fn resumed(alter: impl FnOnce(&mut ResumePoint)) -> Message {
    registered(|request| alter(request.resume.as_mut().unwrap()))
}

fn enqueued(paths: usize) -> Message {
    let request = Request::Enqueue {
        paths: vec![path("p"); paths],
    };
    Message::Command(Command::Request { id: 1, request })
}

#[test]
fn registrations() {
    accepts(registered(|request| {
        request.sink_id = "i".repeat(ID_BYTES_MAX)
    }));
    refuses(
        registered(|request| request.sink_id = "i".repeat(ID_BYTES_MAX + 1)),
        "an id is above",
    );
    refuses(
        registered(|request| request.sink_id.clear()),
        "an id is empty",
    );
    accepts(registered(|request| request.nonces = (0..16).collect()));
    refuses(
        registered(|request| request.nonces = (0..17).collect()),
        "number of nonces is above",
    );
    refuses(registered(|request| request.nonces.clear()), "no nonce");
    refuses(
        registered(|request| request.nonces = vec![1, 2, 1]),
        "named twice",
    );
    let capability = || "c".repeat(ID_BYTES_MAX);
    accepts(registered(|request| {
        request.capabilities = vec![capability(); CAPABILITIES_MAX]
    }));
    let many = vec![capability(); CAPABILITIES_MAX + 1];
    refuses(
        registered(|request| request.capabilities = many),
        "number of capabilities is above",
    );
    let long = vec![capability() + "c"];
    refuses(
        registered(|request| request.capabilities = long),
        "length of a capability is above",
    );
}

#[test]
fn resume_points() {
    refuses(resumed(|resume| resume.source_id.clear()), "an id is empty");
    refuses(resumed(|resume| resume.epoch = 0), "the epoch is 0");
    let exceptions = |count: u64| {
        resumed(|resume| {
            resume.durable = count;
            resume.exceptions = (1..=count).collect();
        })
    };
    accepts(exceptions(EXCEPTIONS_MAX as u64));
    refuses(
        exceptions(EXCEPTIONS_MAX as u64 + 1),
        "number of exceptions is above",
    );
    refuses(
        resumed(|resume| resume.exceptions = vec![2, 1]),
        "not sorted",
    );
    refuses(
        resumed(|resume| resume.exceptions = vec![0]),
        "not among the durable",
    );
    refuses(
        resumed(|resume| resume.exceptions = vec![resume.durable + 1]),
        "not among the durable",
    );
}

#[test]
fn commands() {
    let limits = |payload_bytes_max| {
        Message::Command(Command::RegistrationRequestAcknowledgement {
            epoch: 1,
            source_id: "s".to_owned(),
            payload_bytes_max,
            root: String::new(),
            filter: Filter::default(),
        })
    };
    accepts(limits(PAYLOAD_BYTES_MAX as u64));
    refuses(
        limits(PAYLOAD_BYTES_MAX as u64 + 1),
        "payload_bytes_max is out of range",
    );
    refuses(limits(0), "payload_bytes_max is out of range");
    accepts(enqueued(ENTRIES_MAX));
    refuses(enqueued(ENTRIES_MAX + 1), "number of paths is above");
    let limited = |bytes_per_s, operations_per_s| {
        let request = Request::Limit(RateLimits {
            bytes_per_s,
            operations_per_s,
        });
        Message::Command(Command::Request { id: 1, request })
    };
    accepts(limited(None, None));
    accepts(limited(Some(16 * 1024), Some(1)));
    accepts(limited(Some(1 << 40), Some(10_000_000)));
    for (bytes, operations) in [
        (Some(16 * 1024 - 1), None),
        (Some((1 << 40) + 1), None),
        (None, Some(0)),
        (None, Some(10_000_001)),
    ] {
        refuses(limited(bytes, operations), "a limit is out of range");
    }
    let error = |len| {
        let (code, message) = (ErrorCode::Malformed, "m".repeat(len));
        Message::Command(Command::Error(ErrorAnswer { code, message }))
    };
    accepts(error(value::VALUE_BYTES_MAX));
    refuses(
        error(value::VALUE_BYTES_MAX + 1),
        "length of a value is above",
    );
}

#[test]
fn limits_and_owners_of_a_target() {
    let limited = |alter: fn(&mut TargetLimits)| registered(|request| alter(&mut request.limits));
    accepts(limited(|limits| limits.time.step_nanos = 2_000_000_000));
    refuses(
        limited(|limits| limits.time.step_nanos = 3),
        "range of times",
    );
    refuses(
        limited(|limits| limits.lacks = vec![LimitKind::Holes, LimitKind::Acls]),
        "not sorted",
    );
    let owner = |groups| {
        registered(|request| {
            request.limits.owner = Some(FixedOwner {
                uid: 1,
                groups: vec![0; groups],
            });
        })
    };
    accepts(owner(GROUPS_MAX));
    refuses(owner(GROUPS_MAX + 1), "too many");
    let users = |count| {
        registered(|request| {
            request.owners = Some(Box::new(OwnerTables {
                users: vec![(ByteBuf::from("u"), u32::MAX); count],
                groups: vec![(ByteBuf::from("g"), u32::MAX); OWNERS_MAX],
            }));
        })
    };
    // With both tables full the message is still one that can be read.
    accepts(users(OWNERS_MAX));
    refuses(users(OWNERS_MAX + 1), "too many users");
}

/// A control message as another implementation might write it.
fn decode_json(message: &serde_json::Value) -> Result<Command, WireError> {
    decode_command(&[rmp_serde::to_vec_named(message).unwrap().into()])
}

#[test]
fn control_messages_of_others() {
    let later = serde_json::json!({
        "new": [{"unknown": 1}], "type": "Request", "id": 1,
        "request": {"command": "rescan", "path": "text/as/path", "new": null},
    });
    let request = Request::Rescan {
        path: path("text/as/path"),
    };
    assert_eq!(decode_json(&later), Ok(Command::Request { id: 1, request }));
    let first = serde_json::json!({
        "type": "RegistrationRequest", "version": 1, "sink_id": "sink-1", "instance": 42,
        "nonces": [7, u64::MAX],
    });
    assert_eq!(
        decode_json(&first),
        Ok(Command::RegistrationRequest(registration(None)))
    );
    for (message, why) in [
        (serde_json::json!({"type": "Dance"}), "unknown variant"),
        (serde_json::json!({"token": 1}), "missing field `type`"),
        (serde_json::json!({"type": "Ping"}), "missing field `token`"),
        (
            serde_json::json!({"type": "Ping", "token": -1}),
            "invalid value",
        ),
        (serde_json::json!(["Ping", 1]), "a control message is a map"),
        (
            serde_json::json!({"type": "Ping\n".repeat(2000)}),
            "unknown variant",
        ),
        (
            serde_json::json!({"type": "Request", "id": 1, "request":
                {"command": "rescan", "path": "../up"}}),
            "'..' component",
        ),
    ] {
        let error = decode_json(&message).unwrap_err().to_string();
        assert!(error.contains(why), "{error:?} does not say {why:?}");
        assert!(error.len() < 1000 && !error.contains('\n'), "{error:?}");
    }
}

#[test]
fn shapes_of_control_messages() {
    let nested = |depth| {
        let inner = (1..depth).fold(serde_json::json!([]), |inner, _| serde_json::json!([inner]));
        decode_json(&serde_json::json!({"type": "Ping", "token": 1, "new": inner}))
    };
    assert_eq!(nested(value::DEPTH_MAX), Ok(Command::Ping { token: 1 }));
    assert_eq!(
        nested(value::DEPTH_MAX + 1),
        Err(WireError::Limit("depth of nesting"))
    );
    // The map, its three keys and two other values, and the list itself.
    let wide = |values: usize| {
        decode_json(&serde_json::json!({"type": "Ping", "token": 1, "new": vec![0; values]}))
    };
    assert_eq!(wide(value::VALUES_MAX - 7), Ok(Command::Ping { token: 1 }));
    assert_eq!(
        wide(value::VALUES_MAX - 6),
        Err(WireError::Limit("number of values"))
    );
    let ping = |tail: &[u8]| decode_command(&[[b"\x83\xa4type\xa4Ping", tail].concat().into()]);
    assert!(ping(b"\xa5token\x01\xa1x\xc0").is_ok());
    let refused = |tail: &[u8], why| assert!(ping(tail).unwrap_err().to_string().contains(why));
    refused(b"\xa5token\x01\x01\xc0", "a key is no text");
    refused(b"\xa5token\x01\xa1x\xd4\x01\x00", "not used here");
    refused(b"\xa5token\x01\xa1x", "cut short");
}
