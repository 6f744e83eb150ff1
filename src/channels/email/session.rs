//! One SMTP connection, and what went wrong on it, with the step at which it did.
//!
//! The step decides what a lost connection means, so every answer is waited for by itself, under its own time limit.
//!
//! Where the server allows it (PIPELINING, RFC 2920), the commands before the message are written at once, which takes two turns
//! of the network in place of four. The message itself is written only when all of them are answered.

use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Ehlo, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use super::super::url::{SmtpServer, TlsMode};

/// How far a delivery got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Connecting, the greeting, EHLO, encryption.
    Connect,
    /// Logging in.
    Login,
    /// MAIL, which names the sender.
    Mail,
    /// RCPT, which names the recipient.
    Rcpt,
    /// DATA, which announces the message.
    Data,
    /// The message itself, and the answer to it.
    Body,
}

/// What went wrong, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The step that failed.
    pub(super) step: Step,
    /// How it failed.
    pub(super) cause: Cause,
}

/// How a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server answered with a code of 4yz or 5yz.
    Reply {
        /// The code.
        code: u16,
        /// What it said, without the code.
        text: String,
    },
    /// The connection could not be made, broke, or what came made no sense.
    Lost(String),
    /// No answer came in time.
    TimedOut,
    /// Encryption or the login cannot work as they are set up.
    SetUp(String),
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For one command.
    pub(super) command: Duration,
    /// For all of it.
    pub(super) until: Instant,
}

impl Patience {
    async fn step<T>(
        self,
        step: Step,
        work: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
    ) -> Result<T, Failure> {
        match timeout_at(self.until.min(Instant::now() + self.command), work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Failure {
                step,
                cause: cause(step, &error),
            }),
            Err(_) => Err(Failure {
                step,
                cause: Cause::TimedOut,
            }),
        }
    }
}

impl Failure {
    /// Whether the server still listens on the connection. It does not after 421 (RFC 5321, 3.8).
    pub(super) fn leaves_connection_usable(&self) -> bool {
        match (self.step, &self.cause) {
            (Step::Connect | Step::Login, _) | (_, Cause::Lost(_) | Cause::TimedOut | Cause::SetUp(_)) => false,
            (Step::Mail | Step::Rcpt | Step::Data | Step::Body, Cause::Reply { code, .. }) => *code != 421,
        }
    }
}

/// One connection, ready for a message.
pub(super) struct Session {
    smtp: AsyncSmtpConnection,
    /// The server takes several commands at once.
    pipelines: bool,
    /// A message was begun and not ended, so that RSET must come first.
    begun: bool,
    /// How many answers are to come to commands that were written already.
    unanswered: usize,
    /// Since when nothing was said.
    pub(super) idle_since: Instant,
}

impl Session {
    /// Connects, encrypts and logs in.
    pub(super) async fn open(
        server: &SmtpServer,
        tls: Option<&TlsParameters>,
        hello: &ClientId,
        patience: Patience,
    ) -> Result<Self, Failure> {
        let implicit = tls.filter(|_| server.tls == TlsMode::Implicit).cloned();
        let place = (server.host.as_str(), server.port);
        let connecting = AsyncSmtpConnection::connect_tokio1(place, None, hello, implicit, None);
        let mut smtp = patience.step(Step::Connect, connecting).await?;
        let encrypt = match server.tls {
            TlsMode::StartTls => true,
            TlsMode::Opportunistic => smtp.can_starttls(),
            TlsMode::Implicit | TlsMode::None => false,
        };
        if let (true, Some(tls)) = (encrypt, tls) {
            patience.step(Step::Connect, smtp.starttls(tls.clone(), hello)).await?;
        }
        // Asked once more, as lettre forgets what it has no use for.
        let offered = smtp.command(Ehlo::new(hello.clone()));
        let offered: Response = patience.step(Step::Connect, offered).await?;
        let pipelines = offered.message().any(|line| line.eq_ignore_ascii_case("PIPELINING"));
        if let Some(login) = &server.login {
            if server.tls != TlsMode::None && !smtp.is_encrypted() {
                let error = "the server offers no STARTTLS, and a password is not sent in the clear unless tls=none";
                return Err(Failure {
                    step: Step::Login,
                    cause: Cause::SetUp(error.to_owned()),
                });
            }
            let credentials = Credentials::new(login.user.clone(), login.password().to_owned());
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            patience.step(Step::Login, smtp.auth(&mechanisms, &credentials)).await?;
        }
        Ok(Self {
            smtp,
            pipelines,
            begun: false,
            unanswered: 0,
            idle_since: Instant::now(),
        })
    }

    /// Begins a message. Until this returns, the server has seen nothing of it but addresses.
    pub(super) async fn begin(&mut self, envelope: &Envelope, patience: Patience) -> Result<(), Failure> {
        if self.begun {
            self.command(Step::Mail, "RSET\r\n", '2', patience).await?;
        }
        self.begun = true;
        let mail = Mail::new(envelope.from().cloned(), Vec::new());
        if !self.pipelines {
            return self.command(Step::Mail, mail, '2', patience).await;
        }
        let recipients = envelope
            .to()
            .iter()
            .map(|to| Rcpt::new(to.clone(), Vec::new()).to_string());
        let commands: String = [mail.to_string()]
            .into_iter()
            .chain(recipients)
            .chain([Data.to_string()])
            .collect();
        self.unanswered = envelope.to().len() + 1;
        let result = self.command(Step::Mail, commands, '2', patience).await;
        self.hear_out(result, patience).await
    }

    /// Names the recipients and hands over `message`.
    pub(super) async fn finish(
        &mut self,
        envelope: &Envelope,
        message: &str,
        patience: Patience,
    ) -> Result<(), Failure> {
        let announced = self.announce(envelope, patience).await;
        self.hear_out(announced, patience).await?;
        let result = self.command(Step::Body, Body(message), '2', patience).await;
        self.begun = false;
        self.idle_since = Instant::now();
        result
    }

    /// Whether every command was answered, so that the next answer is to the next command.
    pub(super) fn is_in_step(&self) -> bool {
        self.unanswered == 0
    }

    /// Names the recipients and announces the message, or hears what was answered to that.
    async fn announce(&mut self, envelope: &Envelope, patience: Patience) -> Result<(), Failure> {
        for to in envelope.to() {
            if self.pipelines {
                self.answer(Step::Rcpt, '2', patience).await?;
            } else {
                self.command(Step::Rcpt, Rcpt::new(to.clone(), Vec::new()), '2', patience)
                    .await?;
            }
        }
        if self.pipelines {
            self.answer(Step::Data, '3', patience).await
        } else {
            self.command(Step::Data, Data, '3', patience).await
        }
    }

    /// Hears the other answers when one of several was a refusal, so that the connection can be used again. Where the server
    /// waits for a message all the same it can't: what is sent to it would be taken for one.
    async fn hear_out(&mut self, result: Result<(), Failure>, patience: Patience) -> Result<(), Failure> {
        let Err(failure) = &result else {
            return result;
        };
        let mut is_usable = failure.leaves_connection_usable();
        while is_usable && self.unanswered > 0 {
            is_usable = match self.answer(Step::Data, '2', patience).await {
                Ok(()) => true,
                Err(failure) => failure.leaves_connection_usable(),
            };
        }
        if !is_usable {
            self.unanswered = self.unanswered.max(1);
        }
        result
    }

    /// Waits for the answer to a command that was written already.
    async fn answer(&mut self, step: Step, expected: char, patience: Patience) -> Result<(), Failure> {
        self.unanswered = self.unanswered.saturating_sub(1);
        let response = patience.step(step, self.smtp.read_response()).await?;
        check(step, &response, expected)
    }

    /// Says `command`, and wants an answer that begins with `expected`.
    async fn command(
        &mut self,
        step: Step,
        command: impl fmt::Display,
        expected: char,
        patience: Patience,
    ) -> Result<(), Failure> {
        let response: Response = patience.step(step, self.smtp.command(command)).await?;
        check(step, &response, expected)
    }
}

fn check(step: Step, response: &Response, expected: char) -> Result<(), Failure> {
    if response.code().to_string().starts_with(expected) {
        return Ok(());
    }
    Err(Failure {
        step,
        cause: Cause::Lost(format!("the server answered {} out of turn", response.code())),
    })
}

/// A message as it is written after DATA: dots at the beginning of a line doubled, a line with a dot at the end.
///
/// It is written in one piece. Two pieces would wait for each other's acknowledgement, some 40 ms a mail.
struct Body<'a>(&'a str);

impl fmt::Display for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.split_inclusive("\r\n") {
            if line.starts_with('.') {
                f.write_str(".")?;
            }
            f.write_str(line)?;
        }
        f.write_str(if self.0.ends_with("\r\n") { ".\r\n" } else { "\r\n.\r\n" })
    }
}

fn cause(step: Step, error: &lettre::transport::smtp::Error) -> Cause {
    let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    if let Some(code) = error.status() {
        return Cause::Reply {
            code: u16::from(code),
            text: reason,
        };
    }
    let no_message_yet = matches!(step, Step::Connect | Step::Login);
    if no_message_yet && (error.is_tls() || error.is_client() || is_tls_failure(error)) {
        return Cause::SetUp(reason);
    }
    if error.is_response() {
        return Cause::Lost(format!(
            "the connection was closed, or the server does not speak SMTP: {reason}"
        ));
    }
    Cause::Lost(reason)
}

/// Whether the TLS library refused what the server sent: its certificate, or that it does not speak TLS. It reports that
/// as invalid data, and nothing else that can happen while connecting does.
fn is_tls_failure(error: &lettre::transport::smtp::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
        {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_and_the_message_is_ended() {
        for (message, written) in [
            ("a\r\nb\r\n", "a\r\nb\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("", "\r\n.\r\n"),
            (".\r\n..\r\nx.y\r\n", "..\r\n...\r\nx.y\r\n.\r\n"),
            ("a\n.b\r\n", "a\n.b\r\n.\r\n"),
        ] {
            assert_eq!(Body(message).to_string(), written, "{message:?}");
        }
    }
}
