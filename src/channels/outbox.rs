//! Messages as files in a directory, for development, demos and tests: every channel's sender when no provider is set.
//!
//! A mail becomes an `.eml` file with the very bytes that a mail server would get; anything else becomes a `.json` file.
//! File names sort by time, then by customer: `20260101T090000Z-<customer>-<channel>-<idempotency key>-<attempt>.eml`.
//! Nobody reads half a file, because a file is written under a hidden name and then given its own. A file is never
//! overwritten: when the very same attempt is delivered again, there are two files, the second with `-again2` in its
//! name. So counting files counts deliveries. What a crash leaves behind has a hidden name that ends in `.part`.
//!
//! Files are not flushed to the disk (`fsync`): after a power cut the last ones may be missing or empty. A mailbox that
//! no machine could lose would be a hundred times slower, and this is not one.
//!
//! To play a server that refuses a recipient, mail to a name under `.invalid` (RFC 2606) is rejected.

use chrono::{DateTime, SecondsFormat, Utc};
use futures::future::BoxFuture;
use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::email::build_mail;
use super::{Content, DkimSigner, Mailbox, Message, Outcome, Sender};
use crate::clock::Clock;

/// Writes messages of all channels into a directory.
#[derive(Debug)]
pub struct OutboxSender {
    directory: Arc<Path>,
    from: Mailbox,
    signer: Option<Arc<DkimSigner>>,
    clock: Arc<dyn Clock>,
    written: AtomicU64,
}

impl OutboxSender {
    /// An outbox in `directory`, which is made if it is missing. Its mails are from `from`.
    pub fn new(directory: impl Into<PathBuf>, from: Mailbox, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let outbox = Self::when_needed(directory, from, clock);
        fs::create_dir_all(&outbox.directory)?;
        Ok(outbox)
    }

    /// An outbox whose directory is made when there is something to write.
    pub fn when_needed(directory: impl Into<PathBuf>, from: Mailbox, clock: Arc<dyn Clock>) -> Self {
        Self {
            directory: directory.into().into(),
            from,
            signer: None,
            clock,
            written: AtomicU64::new(0),
        }
    }

    /// The same outbox with its mails signed, if there is a signer.
    #[must_use]
    pub fn signed_by(mut self, signer: Option<Arc<DkimSigner>>) -> Self {
        self.signer = signer;
        self
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let file = match self.file(message) {
            Ok(file) => file,
            Err(outcome) => return outcome,
        };
        let directory = Arc::clone(&self.directory);
        // Unique also when several servers share the directory, and each is process 1 of its container.
        let part = format!(
            ".{}-{}-{}.part",
            file.stem,
            std::process::id(),
            self.written.fetch_add(1, Ordering::Relaxed)
        );
        let File {
            stem,
            extension,
            bytes,
            mail_id,
        } = file;
        match tokio::task::spawn_blocking(move || write(&directory, &part, &stem, extension, &bytes)).await {
            Ok(Ok(name)) => Outcome::Delivered {
                provider_id: mail_id.unwrap_or(name),
            },
            Ok(Err(error)) => Outcome::Retry {
                error: format!("the outbox cannot be written: {error}"),
                after: None,
            },
            Err(error) => Outcome::Unknown {
                error: format!("the outbox was interrupted: {error}"),
            },
        }
    }

    fn file(&self, message: &Message) -> Result<File, Outcome> {
        let now = self.clock.now();
        let (channel, mail) = match &message.content {
            Content::Email { to, .. } if is_invalid(to.as_str()) => {
                let error = "550 5.1.2 no mail server: names under .invalid do not exist (RFC 2606)";
                return Err(Outcome::Rejected {
                    error: error.to_owned(),
                });
            }
            Content::Email { .. } => {
                let signer = self.signer.as_deref();
                ("email", Some(build_mail(message, &self.from, signer, now)?))
            }
            Content::Sms { .. } => ("sms", None),
            Content::Call { .. } => ("phone", None),
            Content::Task { .. } => ("interaction", None),
        };
        let Message {
            idempotency_key,
            attempt,
            customer_id,
            ..
        } = message;
        let time = now.format("%Y%m%dT%H%M%SZ");
        let stem = format!("{time}-{customer_id}-{channel}-{idempotency_key}-{attempt}").replace(is_unsafe, "_");
        Ok(match mail {
            Some(mail) => {
                let mail_id = Some(mail.message_id);
                File {
                    stem,
                    extension: "eml",
                    bytes: mail.text.into_bytes(),
                    mail_id,
                }
            }
            None => File {
                stem,
                extension: "json",
                bytes: json(message, channel, now)?,
                mail_id: None,
            },
        })
    }
}

impl Sender for OutboxSender {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(self.deliver(message))
    }

    fn system(&self) -> &'static str {
        "outbox"
    }
}

/// A file to be written.
struct File {
    stem: String,
    extension: &'static str,
    bytes: Vec<u8>,
    /// The Message-ID of a mail.
    mail_id: Option<String>,
}

/// What a file that is not a mail says.
#[derive(Serialize)]
struct Entry<'a> {
    channel: &'static str,
    customer_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    idempotency_key: &'a str,
    attempt: u32,
    time: String,
}

fn json(message: &Message, channel: &'static str, now: DateTime<Utc>) -> Result<Vec<u8>, Outcome> {
    let (to, title, script, text) = match &message.content {
        Content::Email { to, subject, text, .. } => (Some(to.as_str()), Some(subject), None, text.as_ref()),
        Content::Sms { to, text } => (Some(to.as_str()), None, None, Some(text)),
        Content::Call { to, script } => (Some(to.as_str()), None, Some(script), None),
        Content::Task { title, text } => (None, Some(title), None, Some(text)),
    };
    let entry = Entry {
        channel,
        customer_id: message.customer_id.as_str(),
        to,
        title: title.map(String::as_str),
        script: script.map(String::as_str),
        text: text.map(String::as_str),
        idempotency_key: &message.idempotency_key,
        attempt: message.attempt,
        time: now.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    };
    let mut bytes = serde_json::to_vec_pretty(&entry).map_err(|error| Outcome::Rejected {
        error: format!("the message is no JSON: {error}"),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes the bytes under the name `part`, then gives them the first name that is free. Returns that name.
fn write(directory: &Path, part: &str, stem: &str, extension: &str, bytes: &[u8]) -> io::Result<String> {
    let hidden = directory.join(part);
    match fs::write(&hidden, bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory)?;
            fs::write(&hidden, bytes)?;
        }
        written => written?,
    }
    let named = name(directory, &hidden, stem, extension);
    fs::remove_file(&hidden)?;
    named
}

/// A hard link fails where the name is taken, which renaming does not.
fn name(directory: &Path, hidden: &Path, stem: &str, extension: &str) -> io::Result<String> {
    let mut name = format!("{stem}.{extension}");
    let mut copies: u32 = 1;
    loop {
        match fs::hard_link(hidden, directory.join(&name)) {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                copies += 1;
                name = format!("{stem}-again{copies}.{extension}");
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether a character is kept out of file names, for the sake of shells and other systems.
fn is_unsafe(c: char) -> bool {
    !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@'))
}

/// Whether an address is under the name that never exists.
fn is_invalid(address: &str) -> bool {
    address
        .trim_end_matches('.')
        .rsplit(['.', '@'])
        .next()
        .is_some_and(|last| last.eq_ignore_ascii_case("invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_under_invalid_do_not_exist() {
        for address in ["a@nobody.invalid", "a@x.y.INVALID", "a@invalid", "a@x.invalid."] {
            assert!(is_invalid(address), "{address}");
        }
        for address in [
            "a@invalid.example.com",
            "invalid@example.com",
            "a@xinvalid",
            "a@x.invalid.com",
        ] {
            assert!(!is_invalid(address), "{address}");
        }
    }

    #[test]
    fn a_file_is_never_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |bytes: &[u8]| write(directory.path(), ".1.part", "stem", "eml", bytes).expect("written");
        assert_eq!(
            [write(b"one"), write(b"two"), write(b"three")],
            ["stem.eml", "stem-again2.eml", "stem-again3.eml"]
        );
        assert_eq!(fs::read(directory.path().join("stem.eml")).expect("read"), b"one");
        assert_eq!(fs::read_dir(directory.path()).expect("read").count(), 3);
    }
}
