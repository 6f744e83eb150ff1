//! What the mail server is told to do, and what it tells of what it took over.

/// A step of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The connection is accepted, the greeting not yet sent.
    Connect,
    /// MAIL came.
    Mail,
    /// RCPT came.
    Rcpt,
    /// DATA came.
    Data,
    /// The message and its final dot came. Dropped or stalled here, the message counts as delivered: it was taken over,
    /// and only the answer is missing.
    Dot,
}

/// What the server does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Takes everything.
    Accept,
    /// Closes the connection at a step, without an answer.
    Drop(Step),
    /// Answers nothing at a step until it is released, and then goes on.
    Stall(Step),
    /// Answers this at a step. After 421 it closes the connection.
    Reply(Step, &'static str),
}

/// A message that the server took over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// The sender's address.
    pub from: String,
    /// The recipients' addresses.
    pub to: Vec<String>,
    /// The message, without the dots that SMTP adds.
    pub data: String,
    /// Its Message-ID with angle brackets; empty if it has none.
    pub message_id: String,
    /// The number of the session it came in, from 1.
    pub session: usize,
}
