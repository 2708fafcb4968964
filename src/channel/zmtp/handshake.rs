//! The start of a connection: greetings and READY, which each side sends without waiting for the other.

use std::io::IoSlice;

use bytes::{Buf, BytesMut};

use super::frame::{self, Violation};
use super::reader::{End, Reader, Said};
use super::stream::Stream;

/// The types of the sockets at both ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roles {
    pub(super) ours: &'static str,
    pub(super) theirs: &'static str,
}

/// Of one who listens.
pub(super) const LISTENING: Roles = Roles {
    ours: "ROUTER",
    theirs: "DEALER",
};

/// Of one who connects.
pub(super) const CONNECTING: Roles = Roles {
    ours: "DEALER",
    theirs: "ROUTER",
};

/// Does the handshake; what has come behind it waits in the reader.
pub(super) async fn shake_hands(
    stream: &Stream,
    reader: &mut Reader,
    roles: Roles,
) -> Result<(), End> {
    let mut opening = BytesMut::from(frame::greeting().as_slice());
    frame::put_ready(&mut opening, roles.ours);
    while !opening.is_empty() {
        let written = stream.write(&[IoSlice::new(&opening)]).await?;
        opening.advance(written);
    }
    while !reader.take_greeting()? {
        reader.fill(stream).await?;
    }
    loop {
        match reader.take()? {
            Some(Said::Ready(theirs)) if theirs == roles.theirs => return Ok(()),
            Some(Said::Ready(theirs)) => {
                return Err(Violation::SocketType(theirs, roles.theirs).into());
            }
            Some(Said::Packet(_) | Said::Ping(_)) => unreachable!("READY comes first"),
            None => reader.fill(stream).await?,
        }
    }
}
