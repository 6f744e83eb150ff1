//! Ways out that reach nobody, so that nothing but the service is measured.

use campaign_automation::channels::{Message, Outcome, Sender, Senders};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Takes everything over after a fixed time, and notes when that was.
#[derive(Debug)]
pub(crate) struct Taker {
    takes: Duration,
    taken: Mutex<Vec<Instant>>,
}

impl Taker {
    pub(crate) fn new(takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            takes,
            taken: Mutex::default(),
        })
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
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.push(Instant::now());
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
