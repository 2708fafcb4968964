//! ZeroMQ.
