//! Connecting to a source as an operator.

use super::operator::{ANSWER_TIMEOUT, Operator};
use crate::channel::zmtp::Connection;
use crate::config::Address;
use crate::error::Error;

/// Connects to the command channel of a source.
///
/// # Errors
/// [`Error::Channel`] if nobody listens there.
pub(super) async fn connect(address: &Address) -> Result<Operator<Connection>, Error> {
    let address = address.to_string();
    let (connection, source) = Connection::connect(&address, ANSWER_TIMEOUT).await?;
    Ok(Operator::new(connection, source, address))
}
