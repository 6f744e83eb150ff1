//! Sending holds: an operator's word that nothing is sent, or nothing of a channel, a timeline or a campaign.
//!
//! A hold stops what sends and nothing else: days go on, and waits, gates and conditions are decided. What it puts off does
//! not age and costs no attempt. It goes again over as long a time as the hold lasted, [`RELEASE_WINDOW`] at most, so that no
//! provider gets all of it at once.

use chrono::Duration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{
    ActionDefinition, ActionId, CampaignId, Channel, ChannelStop, DeferReason, Deferred, Invalid, ProgressId, Run,
    Timeline, TimelineId, Timestamp, plan,
};

/// The most holds that are in force at a time. Each claim reads them all.
pub const MOST_HOLDS: usize = 200;

/// How long a hold lasts at most, unless it is one that is to be released.
pub const LONGEST_HOLD: Duration = Duration::days(366);

/// The longest time over which what was held goes.
pub const RELEASE_WINDOW: Duration = Duration::minutes(15);

/// What is held is looked at again after this time, if nobody released it before.
pub const HOLD_PROBE: Duration = Duration::hours(1);

/// What is held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HoldScope {
    /// Everything.
    All,
    /// What goes by a channel.
    Channel(Channel),
    /// What runs of a timeline send.
    Timeline(TimelineId),
    /// What actions of any timeline send of a campaign.
    Campaign(CampaignId),
}

impl HoldScope {
    /// The scope of a text as it is displayed: `all`, `channel:sms`, `timeline:7` or `campaign:HOOK-001`.
    pub fn parse(given: &str) -> Result<Self, Invalid> {
        let parsed = match given.split_once(':') {
            None => (given == "all").then_some(Self::All),
            Some(("channel", word)) => {
                let mut all = Channel::ALL.into_iter();
                all.find(|channel| channel.as_str() == word).map(Self::Channel)
            }
            Some(("timeline", id)) => id.parse().ok().map(|id| Self::Timeline(TimelineId(id))),
            Some(("campaign", id)) => CampaignId::parse(id).ok().map(Self::Campaign),
            Some(_) => None,
        };
        parsed.ok_or_else(|| Invalid::new(given, "all, channel:WORD, timeline:ID or campaign:ID"))
    }

    /// Whether an action of a timeline is in it.
    fn covers(&self, timeline: TimelineId, action: &ActionDefinition) -> bool {
        match self {
            Self::All => true,
            Self::Channel(channel) => action.channel == *channel,
            Self::Timeline(id) => timeline == *id,
            Self::Campaign(id) => action.campaign_id.as_ref() == Some(id),
        }
    }
}

impl fmt::Display for HoldScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => write!(f, "all"),
            Self::Channel(channel) => write!(f, "channel:{}", channel.as_str()),
            Self::Timeline(id) => write!(f, "timeline:{id}"),
            Self::Campaign(id) => write!(f, "campaign:{id}"),
        }
    }
}

impl From<HoldScope> for String {
    fn from(scope: HoldScope) -> Self {
        scope.to_string()
    }
}

impl TryFrom<String> for HoldScope {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendingHold {
    /// What is held.
    pub scope: HoldScope,
    /// Why, for people.
    pub reason: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ends, or ended; none: when it is released.
    pub end_at: Option<Timestamp>,
    /// When it was set last.
    pub updated_at: Timestamp,
}

impl SendingHold {
    /// Whether it holds at an instant.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.end_at.is_none_or(|end| end > now)
    }

    /// When what it put off in a run goes, if its end is known.
    fn release_of(&self, run: ProgressId) -> Option<Timestamp> {
        let end = self.end_at?;
        let window = (end - self.started_at).clamp(Duration::zero(), RELEASE_WINDOW);
        Some(end + share_of(run, window))
    }
}

/// Where in a window a run has its place. Runs that were started one after the other are far from one another.
pub(super) fn share_of(run: ProgressId, window: Duration) -> Duration {
    const PLACES: i64 = 1 << 20;
    // By multiples of the golden ratio.
    let place = run.0.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    let place = i64::try_from(place).unwrap_or_default();
    Duration::milliseconds(window.num_milliseconds() * place / PLACES)
}

/// The holds that are known: those in force, and those whose time is over while runs wait for it still.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendingHolds(Arc<[SendingHold]>);

impl SendingHolds {
    /// These.
    pub fn new(holds: Vec<SendingHold>) -> Self {
        Self(holds.into())
    }

    /// Those in force, by scope.
    pub fn in_force(&self, now: Timestamp) -> impl Iterator<Item = &SendingHold> {
        self.0.iter().filter(move |hold| hold.is_in_force(now))
    }

    /// Those whose time is over.
    pub fn ended(&self, now: Timestamp) -> impl Iterator<Item = &SendingHold> {
        self.0.iter().filter(move |hold| !hold.is_in_force(now))
    }

    /// The hold that stops an action, if one does; of several the one that ends last.
    pub fn on(&self, timeline: TimelineId, action: &ActionDefinition, now: Timestamp) -> Option<&SendingHold> {
        let sends = action.action_type.sends();
        let covering = self
            .in_force(now)
            .filter(|hold| sends && hold.scope.covers(timeline, action));
        // No end is after every end.
        covering.max_by_key(|hold| (hold.end_at.is_none(), hold.end_at))
    }

    /// Until when an action of a run is put off: a hold stops it, or did so before and it has not had its turn since.
    pub(super) fn until(
        &self,
        timeline: TimelineId,
        action: &ActionDefinition,
        run: &Run,
        id: ActionId,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let Some(hold) = self.on(timeline, action, now) else {
            let mut deferred = run.deferred.iter();
            let was_held = deferred.any(|it| it.id == id && it.reason == DeferReason::SendingHeld);
            let release = self.release(timeline, action, run.id, now);
            return release.filter(|release| was_held && *release > now);
        };
        let (probe, release) = (now + HOLD_PROBE, hold.release_of(run.id));
        Some(release.map_or(probe, |release| release.min(probe)))
    }

    /// When an action that was put off goes, as all holds that stopped it are over. None: one holds it, or none is known.
    fn release(
        &self,
        timeline: TimelineId,
        action: &ActionDefinition,
        run: ProgressId,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.on(timeline, action, now).is_some() {
            return None;
        }
        let ended = self.ended(now).filter(|hold| hold.scope.covers(timeline, action));
        ended.filter_map(|hold| hold.release_of(run)).max()
    }
}

/// What is over that has put actions off.
#[derive(Debug)]
pub struct Releases<'a> {
    /// Those that are over among the holds.
    pub holds: &'a SendingHolds,
    /// The channels whose circuits somebody closed by hand.
    pub channels: BTreeMap<Channel, ChannelStop>,
}

/// A run whose actions are given their turn, as what put them off is over; none: it stays as it is.
pub fn released(timeline: &Timeline, run: &Run, releases: &Releases<'_>, now: Timestamp) -> Option<Run> {
    let mut after = run.clone();
    let mut soonest: Option<Timestamp> = None;
    for deferred in &mut after.deferred {
        let Some(action) = timeline.action(deferred.id) else {
            continue;
        };
        let (definition, until) = (&action.definition, deferred.until);
        let release = match deferred.reason {
            DeferReason::SendingHeld => releases.holds.release(timeline.id, definition, run.id, now),
            // Its next probe may come first.
            DeferReason::ChannelUnavailable => {
                let stop = releases.channels.get(&definition.channel);
                stop.map(|stop| stop.until_for(run.id).min(until))
            }
            DeferReason::WaitingForAction
            | DeferReason::Spacing
            | DeferReason::QuietHours
            | DeferReason::RateLimited
            | DeferReason::WaitingForCompletion
            | DeferReason::WaitingForEvent => None,
        };
        if let Some(release) = release.filter(|release| *release != until) {
            deferred.until = release;
            soonest = Some(soonest.map_or(release, |soonest| soonest.min(release)));
        }
    }
    let soonest = soonest?;
    // What waits for them is looked at with them.
    let waiting = after.deferred.iter_mut();
    for deferred in waiting.filter(|it| it.reason == DeferReason::WaitingForAction) {
        deferred.until = deferred.until.min(soonest);
    }
    // An event that it waits for, or a report, may have woken it already.
    let listens = |it: &Deferred| {
        matches!(
            it.reason,
            DeferReason::WaitingForEvent | DeferReason::WaitingForCompletion
        )
    };
    let woken = run.next_action_at.filter(|at| *at <= now);
    let woken = woken.filter(|_| run.deferred.iter().any(listens));
    after.next_action_at = woken.into_iter().chain(plan::wake(timeline, &after, now)).min();
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        let campaign = CampaignId::parse("a:b").expect("a campaign");
        for scope in [
            HoldScope::All,
            HoldScope::Channel(Channel::Sms),
            HoldScope::Timeline(TimelineId(7)),
            HoldScope::Campaign(campaign),
        ] {
            assert_eq!(HoldScope::parse(&scope.to_string()), Ok(scope));
        }
        for bad in [
            "",
            "All",
            "all:",
            "channel:fax",
            "timeline:",
            "timeline:x",
            "campaign:",
            "run:1",
        ] {
            assert!(HoldScope::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_crowd_is_spread_over_the_window() {
        let window = Duration::minutes(15);
        let minutes = (1..=1000).map(|id| share_of(ProgressId(id), window).num_minutes());
        let mut counts = [0_u32; 15];
        for minute in minutes {
            counts[usize::try_from(minute).expect("within the window")] += 1;
        }
        assert!(counts.iter().all(|count| (60..=74).contains(count)), "{counts:?}");
        let places: BTreeSet<_> = (1..=1000).map(|id| share_of(ProgressId(id), window)).collect();
        assert_eq!(places.len(), 1000);
        assert_eq!(share_of(ProgressId(i64::MAX), Duration::zero()), Duration::zero());
    }
}
