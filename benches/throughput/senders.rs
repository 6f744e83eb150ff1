//! Ways out that reach nobody, so that nothing but the service is measured.

use campaign_automation::channels::{Mailbox, Message, Outcome, Sender, Senders, mail_text};
use chrono::DateTime;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Takes everything over after a fixed time, and notes when that was.
#[derive(Debug)]
pub(crate) struct Taker {
    takes: Duration,
    /// Whether a mail is made of each message, as for a mail server.
    makes_mails: Option<Mailbox>,
    /// The timeline whose messages are noted; none: those of all.
    noted: Option<&'static str>,
    taken: Mutex<Vec<Instant>>,
}

impl Taker {
    pub(crate) fn new(takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            takes,
            makes_mails: None,
            noted: None,
            taken: Mutex::default(),
        })
    }

    /// One that answers at once, and notes the messages of one timeline alone.
    pub(crate) fn of_timeline(slug: &'static str) -> Arc<Self> {
        Arc::new(Self {
            takes: Duration::ZERO,
            makes_mails: None,
            noted: Some(slug),
            taken: Mutex::default(),
        })
    }

    /// One that makes a mail of each message, and takes that over at once.
    pub(crate) fn of_mails() -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            takes: Duration::ZERO,
            makes_mails: Some(Mailbox::parse("Shop <shop@example.com>")?),
            noted: None,
            taken: Mutex::default(),
        }))
    }

    /// This for all channels.
    pub(crate) fn senders(self: &Arc<Self>) -> Senders {
        let sender = || -> Arc<dyn Sender> { Arc::clone(self) as _ };
        Senders {
            email: sender(),
            sms: sender(),
            phone: sender(),
            interaction: sender(),
            test: None,
        }
    }

    /// How long after `begun` each message since the last call was taken over.
    pub(crate) fn lateness(&self, begun: Instant) -> Vec<Duration> {
        let taken = std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner));
        taken.into_iter().map(|taken| taken - begun).collect()
    }
}

impl Sender for Taker {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        async move {
            if !self.takes.is_zero() {
                tokio::time::sleep(self.takes).await;
            }
            if let Some(from) = &self.makes_mails {
                match mail_text(message, from, DateTime::UNIX_EPOCH) {
                    Ok(text) => drop(black_box(text)),
                    Err(outcome) => return outcome,
                }
            }
            if self.noted.is_none_or(|slug| message.timeline.as_str() == slug) {
                let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
                taken.push(Instant::now());
            }
            Outcome::Delivered {
                provider_id: message.idempotency_key.clone(),
            }
        }
        .boxed()
    }

    fn system(&self) -> &'static str {
        "bench"
    }
}
