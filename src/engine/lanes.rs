//! The ways out, each with its own breadth: how many messages of a channel are under way, and how many more may be claimed. So
//! one slow provider holds up nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::claim::BATCH;
use crate::channels::{Sender, Senders};
use crate::domain::{Channel, DeliveryPolicy, Destination, Timeline};

/// A claimed message starts within this time, or is given back.
pub(super) const START_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Whoever waits for room looks again after this time, whether or not it was told of any.
pub(super) const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(100);

/// The most messages of a channel that are claimed ahead: while one batch is sent, the next is claimed. As long as it is not
/// known how long a send takes it is one batch.
const MOST_AHEAD: usize = 2 * BATCH;

/// How many messages are under way at a time, by channel; each from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneSettings {
    /// Mails.
    pub email: usize,
    /// Text messages.
    pub sms: usize,
    /// Calls.
    pub phone: usize,
    /// Tasks.
    pub interaction: usize,
}

/// All lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    email: Lane,
    sms: Lane,
    phone: Lane,
    interaction: Lane,
    /// For messages of all channels to test customers, so that these are in no way of others; none: they go nowhere.
    test: Option<Lane>,
    /// Told whenever there is room again.
    pub(super) freed: Arc<Notify>,
}

/// One channel's way out.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) sender: Arc<dyn Sender>,
    permits: Arc<Semaphore>,
    breadth: usize,
    policy: DeliveryPolicy,
    /// How many are claimed and have not begun.
    waiting: Arc<AtomicUsize>,
    /// How long a send takes, smoothed, in microseconds; 0: not known yet.
    pace: AtomicU64,
}

/// Room for one message, given back when it is dropped. Of a channel that promises at most once it is a permit to send, held
/// from the claim to the record.
#[derive(Debug)]
pub(super) enum Room {
    /// It may wait for a permit.
    Waiting(Place),
    /// It has its permit.
    Permit(OwnedSemaphorePermit),
}

/// Room for one message of a run.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) room: Room,
    /// Whether it is the probe of a channel whose circuit is open.
    pub(super) is_probe: bool,
}

/// A place among those that wait.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lanes {
    pub(super) fn new(senders: Senders, settings: &LaneSettings) -> Self {
        let Senders {
            email,
            sms,
            phone,
            interaction,
            test,
        } = senders;
        Self {
            email: Lane::new(email, settings.email, Channel::Email),
            sms: Lane::new(sms, settings.sms, Channel::Sms),
            phone: Lane::new(phone, settings.phone, Channel::Phone),
            interaction: Lane::new(interaction, settings.interaction, Channel::Interaction),
            test: test.map(|sender| Lane::new(sender, settings.interaction, Channel::Interaction)),
            freed: Arc::new(Notify::new()),
        }
    }

    /// The lane of what goes to a customer by a channel; none for what is never sent.
    pub(super) fn to(&self, is_test: bool, channel: Channel) -> Option<&Lane> {
        let of_channel = self.of(channel)?;
        if is_test { self.test.as_ref() } else { Some(of_channel) }
    }

    /// Where messages to a customer go.
    pub(super) fn destination(&self, is_test: bool) -> Destination {
        match (is_test, &self.test) {
            (false, _) => Destination::Provider,
            (true, Some(_)) => Destination::TestOutbox,
            (true, None) => Destination::NoTestOutbox,
        }
    }

    /// The lane of a channel to its provider; none for what is never sent.
    fn of(&self, channel: Channel) -> Option<&Lane> {
        match channel {
            Channel::Email => Some(&self.email),
            Channel::Sms => Some(&self.sms),
            Channel::Phone => Some(&self.phone),
            Channel::Interaction => Some(&self.interaction),
            Channel::Wait => None,
        }
    }

    /// Whether a claim for a timeline is worth its statements now.
    pub(super) fn are_ready_for(&self, timeline: &Timeline) -> bool {
        let mut lanes = timeline
            .definition
            .actions
            .iter()
            .filter_map(|action| self.of(action.definition.channel));
        lanes.all(Lane::is_ready)
    }
}

impl Lane {
    fn new(sender: Arc<dyn Sender>, breadth: usize, channel: Channel) -> Self {
        Self {
            sender,
            permits: Arc::new(Semaphore::new(breadth)),
            breadth,
            policy: channel.delivery_policy(),
            waiting: Arc::default(),
            pace: AtomicU64::new(0),
        }
    }

    /// Takes room for one message, if there is any: a free permit for what promises at most once, and else a place among
    /// those that will begin in time at the present pace.
    pub(super) fn reserve(&self) -> Option<Room> {
        match self.policy {
            DeliveryPolicy::AtMostOnce => Arc::clone(&self.permits).try_acquire_owned().ok().map(Room::Permit),
            DeliveryPolicy::AtLeastOnce => {
                let limit = self.ahead();
                let reserved = self
                    .waiting
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                        (waiting < limit).then_some(waiting + 1)
                    });
                reserved
                    .is_ok()
                    .then(|| Room::Waiting(Place(Arc::clone(&self.waiting))))
            }
        }
    }

    /// Turns room into a permit to send, as soon as there is one. None: not before `deadline`.
    pub(super) async fn enter(&self, room: Room, deadline: tokio::time::Instant) -> Option<OwnedSemaphorePermit> {
        match room {
            Room::Permit(permit) => Some(permit),
            Room::Waiting(place) => {
                let permit = tokio::time::timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await;
                drop(place);
                permit.ok()?.ok()
            }
        }
    }

    /// Notes how long a send took.
    pub(super) fn note_pace(&self, took: std::time::Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let smoothed = |pace: u64| Some(if pace == 0 { took } else { pace - pace / 8 + took / 8 });
        let _ = self.pace.fetch_update(Ordering::Relaxed, Ordering::Relaxed, smoothed);
    }

    /// How many may wait so that each begins in three quarters of the time that it has.
    fn ahead(&self) -> usize {
        let pace = self.pace.load(Ordering::Relaxed);
        if pace == 0 {
            return BATCH;
        }
        self.beginning_in_time(self.permits.available_permits(), pace)
    }

    /// How many begin in three quarters of the time that they have, when `free` can begin at once.
    fn beginning_in_time(&self, free: usize, pace: u64) -> usize {
        let budget = u64::try_from(START_WITHIN.as_micros()).unwrap_or(u64::MAX) * 3 / 4;
        let turns = usize::try_from(budget / pace).unwrap_or(usize::MAX);
        free.saturating_add(self.breadth.saturating_mul(turns)).min(MOST_AHEAD)
    }

    /// Whether a claim is worth its statements: there is room for a whole batch, or for half of what a slow lane takes.
    fn is_ready(&self) -> bool {
        match self.policy {
            DeliveryPolicy::AtMostOnce => self.permits.available_permits() * 2 >= self.breadth,
            DeliveryPolicy::AtLeastOnce => {
                let pace = self.pace.load(Ordering::Relaxed);
                let most = if pace == 0 {
                    BATCH
                } else {
                    self.beginning_in_time(self.breadth, pace)
                };
                let worth = if most >= BATCH { BATCH } else { most.div_ceil(2) };
                let waiting = self.waiting.load(Ordering::Relaxed);
                self.ahead().saturating_sub(waiting) >= worth
            }
        }
    }

    /// Whether a permit is held until the outcome is recorded, so that a server that dies leaves no more messages with an
    /// unknown outcome than it had under way.
    pub(super) fn holds_until_recorded(&self) -> bool {
        self.policy == DeliveryPolicy::AtMostOnce
    }
}
