//! The bytes of ZMTP 3.1 with the NULL mechanism: greeting, heads of frames, commands. Pure.

use bytes::{BufMut, Bytes, BytesMut};

/// Length of a greeting.
pub(super) const GREETING_BYTES: usize = 64;

/// Longest command, in bytes. READY has at most an identity of 255 bytes and a few words.
pub(super) const COMMAND_BYTES_MAX: usize = 1024;

/// Longest context of a PING, in bytes, which PONG repeats.
const CONTEXT_BYTES_MAX: usize = 16;

const FLAG_MORE: u8 = 0x01;
const FLAG_LONG: u8 = 0x02;
const FLAG_COMMAND: u8 = 0x04;

/// Where the mechanism stands in a greeting.
const MECHANISM: std::ops::Range<usize> = 12..32;

/// How a peer broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("it does not speak ZMTP")]
    Signature,
    #[error("it speaks version {0} of ZMTP, and 3 is needed")]
    Version(u8),
    #[error("it wants another security mechanism than NULL")]
    Mechanism,
    #[error("a frame has flags {0:#04x}, which mean nothing")]
    Flags(u8),
    #[error("a command of {0} bytes, more than {COMMAND_BYTES_MAX}")]
    CommandTooLong(u64),
    #[error("a command that cannot be read")]
    Garbled,
    #[error("a command that means nothing here: {0}")]
    UnknownCommand(String),
    #[error("something else before READY")]
    NotReady,
    #[error("READY for a second time")]
    ReadyTwice,
    #[error("its socket is {0:?}, not {1}")]
    SocketType(String, &'static str),
    #[error("it refuses: {0}")]
    Refused(String),
}

/// What either side sends first.
pub(super) fn greeting() -> [u8; GREETING_BYTES] {
    let mut bytes = [0; GREETING_BYTES];
    bytes[0] = 0xFF;
    bytes[9] = 0x7F;
    bytes[10] = 3;
    bytes[11] = 1;
    bytes[MECHANISM][..4].copy_from_slice(b"NULL");
    bytes
}

/// Judges as much of a greeting as has come, so that nobody waits for the rest of what is none.
pub(super) fn check_greeting(bytes: &[u8]) -> Result<(), Violation> {
    let has = |at: usize, wanted: u8| bytes.get(at).is_none_or(|byte| *byte == wanted);
    if !has(0, 0xFF) || !has(9, 0x7F) {
        return Err(Violation::Signature);
    }
    match bytes.get(10) {
        Some(&version) if version < 3 => return Err(Violation::Version(version)),
        _ => {}
    }
    let ours = greeting();
    let come = bytes.len().min(MECHANISM.end);
    if come > MECHANISM.start && bytes[MECHANISM.start..come] != ours[MECHANISM.start..come] {
        return Err(Violation::Mechanism);
    }
    Ok(())
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) is_command: bool,
    /// Another part of the same message follows.
    pub(super) more: bool,
    /// Length of the body, as announced.
    pub(super) bytes: u64,
}

/// The head at the start of `bytes` and its own length; none if it has not all come.
pub(super) fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Violation> {
    let Some((&flags, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let is_command = flags & FLAG_COMMAND != 0;
    let more = flags & FLAG_MORE != 0;
    if flags & !(FLAG_MORE | FLAG_LONG | FLAG_COMMAND) != 0 || (is_command && more) {
        return Err(Violation::Flags(flags));
    }
    let (bytes, length) = if flags & FLAG_LONG == 0 {
        let Some(&short) = rest.first() else {
            return Ok(None);
        };
        (u64::from(short), 2)
    } else {
        let Some(long) = rest.first_chunk() else {
            return Ok(None);
        };
        (u64::from_be_bytes(*long), 9)
    };
    let head = Head {
        is_command,
        more,
        bytes,
    };
    Ok(Some((head, length)))
}

/// Writes the head of a part of a message.
pub(super) fn put_head(out: &mut BytesMut, more: bool, bytes: usize) {
    let flags = if more { FLAG_MORE } else { 0 };
    match u8::try_from(bytes) {
        Ok(short) => out.put_slice(&[flags, short]),
        Err(_) => {
            out.put_u8(flags | FLAG_LONG);
            out.put_u64(bytes as u64);
        }
    }
}

/// Writes a command whose body is shorter than 256 bytes.
fn put_command(out: &mut BytesMut, name: &str, body: &[u8]) {
    let length = 1 + name.len() + body.len();
    out.put_u8(FLAG_COMMAND);
    out.put_u8(u8::try_from(length).expect("commands sent are short"));
    out.put_u8(u8::try_from(name.len()).expect("names of commands are short"));
    out.put_slice(name.as_bytes());
    out.put_slice(body);
}

/// Writes READY, as a socket of this type.
pub(super) fn put_ready(out: &mut BytesMut, socket_type: &str) {
    let mut body = BytesMut::new();
    put_property(&mut body, "Socket-Type", socket_type);
    put_command(out, "READY", &body);
}

fn put_property(out: &mut BytesMut, name: &str, value: &str) {
    out.put_u8(u8::try_from(name.len()).expect("names of properties are short"));
    out.put_slice(name.as_bytes());
    out.put_u32(u32::try_from(value.len()).expect("values of properties are short"));
    out.put_slice(value.as_bytes());
}

/// Writes PONG, the answer to a PING with this context.
pub(super) fn put_pong(out: &mut BytesMut, context: &[u8]) {
    put_command(out, "PONG", context);
}

/// A command that a peer may send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// The value of `Socket-Type`; other properties are of no interest.
    Ready(String),
    /// The context, to be repeated.
    Ping(Bytes),
    Pong,
}

/// Reads the body of a command.
pub(super) fn command(body: &Bytes) -> Result<Command, Violation> {
    let (name, at) = short_text(body, 0)?;
    let rest = body.slice(at..);
    match name {
        b"READY" => socket_type(&rest).map(Command::Ready),
        b"PING" if (2..=2 + CONTEXT_BYTES_MAX).contains(&rest.len()) => {
            // Two bytes say how long its sender waits, which is its own affair.
            Ok(Command::Ping(rest.slice(2..)))
        }
        b"PONG" => Ok(Command::Pong),
        b"PING" => Err(Violation::Garbled),
        b"ERROR" => {
            let (reason, _) = short_text(&rest, 0)?;
            Err(Violation::Refused(printable(reason)))
        }
        other => Err(Violation::UnknownCommand(printable(other))),
    }
}

/// A text with its length in one byte before it, and where it ends.
fn short_text(bytes: &[u8], at: usize) -> Result<(&[u8], usize), Violation> {
    let length = *bytes.get(at).ok_or(Violation::Garbled)?;
    let end = at + 1 + usize::from(length);
    let text = bytes.get(at + 1..end).ok_or(Violation::Garbled)?;
    Ok((text, end))
}

/// The socket type among the properties of READY.
fn socket_type(bytes: &[u8]) -> Result<String, Violation> {
    let mut found = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let (name, end) = short_text(bytes, at)?;
        let length: [u8; 4] = *bytes[end..].first_chunk().ok_or(Violation::Garbled)?;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| Violation::Garbled)?;
        let start = end + 4;
        let until = start.checked_add(length).ok_or(Violation::Garbled)?;
        let value = bytes.get(start..until).ok_or(Violation::Garbled)?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            found = printable(value);
        }
        at = until;
    }
    Ok(found)
}

/// What a peer says, fit for a log.
fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn written(put: impl FnOnce(&mut BytesMut)) -> Bytes {
        let mut out = BytesMut::new();
        put(&mut out);
        out.freeze()
    }

    #[test]
    fn a_greeting_is_judged_byte_by_byte() {
        let ours = greeting();
        for come in 0..=GREETING_BYTES {
            assert_eq!(check_greeting(&ours[..come]), Ok(()), "{come} bytes");
        }
        // Anybody's length in the signature, minor version, role and filler will do.
        let mut other = ours;
        other[8] = 1;
        other[11] = 0;
        other[32] = 1;
        other[63] = 9;
        assert_eq!(check_greeting(&other), Ok(()));
        for (at, byte, violation) in [
            (0, b'G', Violation::Signature),
            (9, 0x7E, Violation::Signature),
            (10, 1, Violation::Version(1)),
            (12, b'C', Violation::Mechanism),
            (16, b'L', Violation::Mechanism),
        ] {
            let mut broken = ours;
            broken[at] = byte;
            assert_eq!(check_greeting(&broken[..at]), Ok(()), "{at}");
            assert_eq!(check_greeting(&broken[..=at]), Err(violation), "{at}");
        }
    }

    #[test]
    fn heads_are_read_as_they_are_written() {
        for (bytes, length) in [(0, 2), (255, 2), (256, 9), (1 << 46, 9)] {
            for more in [false, true] {
                let head_written = written(|out| put_head(out, more, bytes));
                let expected = Head {
                    is_command: false,
                    more,
                    bytes: bytes as u64,
                };
                for come in 0..length {
                    assert_eq!(head(&head_written[..come]), Ok(None));
                }
                assert_eq!(head(&head_written), Ok(Some((expected, length))));
            }
        }
        let command = head(&[0x06, 0, 0, 0x40, 0, 0, 0, 0, 0]).unwrap().unwrap().0;
        assert!(command.is_command);
        assert_eq!(command.bytes, 1 << 46);
        for flags in [0x05, 0x08, 0x10, 0xFF] {
            assert_eq!(head(&[flags]), Err(Violation::Flags(flags)));
        }
    }

    #[test]
    fn commands_are_read_as_they_are_written() {
        let ready = written(|out| put_ready(out, "DEALER"));
        assert_eq!(&ready[..3], b"\x04\x1c\x05");
        let ready = command(&ready.slice(2..)).unwrap();
        assert_eq!(ready, Command::Ready("DEALER".to_owned()));
        let pong = written(|out| put_pong(out, b"context"));
        assert_eq!(pong, b"\x04\x0c\x04PONGcontext".as_slice());
        assert_eq!(command(&pong.slice(2..)), Ok(Command::Pong));
        let ping = Bytes::from_static(b"\x04PING\x00\x10context");
        let context = Bytes::from_static(b"context");
        assert_eq!(command(&ping), Ok(Command::Ping(context)));
    }

    #[test]
    fn identities_and_other_properties_are_accepted_and_ignored() {
        let body = b"\x05READY\x08Identity\x00\x00\x00\x02me\x0bsocket-type\x00\x00\x00\x06ROUTER\
            \x07X-Other\x00\x00\x00\x00";
        let ready = command(&Bytes::from_static(body)).unwrap();
        assert_eq!(ready, Command::Ready("ROUTER".to_owned()));
    }

    #[test]
    fn broken_commands_are_refused() {
        for body in [
            b"".as_slice(),
            b"\x05REA",
            b"\x05READY\x0bSocket-Type",
            b"\x05READY\x0bSocket-Type\xff\xff\xff\xffDEALER",
            b"\x05READY\x01",
            b"\x04PING",
            b"\x04PING\0\0seventeen bytes!!",
            b"\x05ERROR\x09",
        ] {
            let read = command(&Bytes::copy_from_slice(body));
            assert_eq!(read, Err(Violation::Garbled), "{}", body.escape_ascii());
        }
        let unknown = command(&Bytes::from_static(b"\x09SUBSCRIBE\n"));
        assert_eq!(unknown, Err(Violation::UnknownCommand("SUBSCRIBE".into())));
        let refused = command(&Bytes::from_static(b"\x05ERROR\x02no"));
        assert_eq!(refused, Err(Violation::Refused("no".into())));
    }
}
