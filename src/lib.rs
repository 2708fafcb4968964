//! osync: an online, continuous replicator of huge, rapidly changing directories.
//!
//! The map, in the order in which a change travels:
//!
//! 1. [`source::watch`] reads events of the file system.
//! 2. [`engine`] decides: which path to look at, what to send to which sink, what is done. It is pure:
//!    events in, actions out.
//! 3. [`source`] carries out the looks and sends what they found.
//! 4. [`wire`] turns messages into bytes, [`channel`] moves them.
//! 5. [`sink`] puts them into the target tree and makes them durable.
//! 6. [`report`] says where all this stands.
//!
//! [`cli`] is what people type and read, [`config`] every setting with its limits, [`error`] what can
//! end a command. [`tree`] has the nouns, [`fs`] everything that is done to a file system,
//! [`lanes`] the work of threads, [`owners`] the users and groups of the host, [`priority`] how threads give way to others there,
//! [`supervisor`] what a service manager is told.

pub mod allocation;
pub mod channel;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod error;
pub mod fs;
pub mod lanes;
pub mod owners;
pub mod priority;
pub mod report;
pub mod root;
pub mod sink;
pub mod source;
pub mod state;
pub mod supervisor;
pub mod tree;
pub mod wire;
