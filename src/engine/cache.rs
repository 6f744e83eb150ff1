//! Definitions that ticks need again and again, kept between claims.
//!
//! A timeline is good as long as its revision is the one that the claim holds, so it can't be stale. Campaigns are read
//! anew after two seconds, which is how long an edit may take to be seen by other servers; this one forgets them at an edit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

use super::{Engine, EngineError};
use crate::domain::{Campaign, CampaignId, Timeline, TimelineId};
use crate::store::Txn;

const CAMPAIGNS_GOOD_FOR: Duration = Duration::from_secs(2);

/// Campaigns by id.
pub(super) type Campaigns = Arc<HashMap<CampaignId, Arc<Campaign>>>;

/// The campaigns of a timeline at a revision, and when they were read.
#[derive(Debug)]
struct KeptCampaigns {
    revision: i64,
    at: Instant,
    campaigns: Campaigns,
}

/// The kept definitions.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    timelines: Mutex<HashMap<TimelineId, Arc<Timeline>>>,
    campaigns: Mutex<HashMap<TimelineId, KeptCampaigns>>,
}

impl Definitions {
    /// A timeline at a revision, if it is kept.
    pub(super) fn timeline(&self, id: TimelineId, revision: i64) -> Option<Arc<Timeline>> {
        let kept = lock(&self.timelines).get(&id).map(Arc::clone);
        kept.filter(|timeline| timeline.revision == revision)
    }

    /// Keeps a timeline.
    pub(super) fn keep_timeline(&self, timeline: Timeline) -> Arc<Timeline> {
        let timeline = Arc::new(timeline);
        lock(&self.timelines).insert(timeline.id, Arc::clone(&timeline));
        timeline
    }

    /// The campaigns of a timeline's actions, if they are kept and good still.
    pub(super) fn campaigns(&self, timeline: &Timeline) -> Option<Campaigns> {
        let kept = lock(&self.campaigns);
        let kept = kept.get(&timeline.id)?;
        let is_good = kept.revision == timeline.revision && kept.at.elapsed() < CAMPAIGNS_GOOD_FOR;
        is_good.then(|| Arc::clone(&kept.campaigns))
    }

    /// Forgets all campaigns, as one of them was edited.
    pub(super) fn forget_campaigns(&self) {
        lock(&self.campaigns).clear();
    }

    /// Keeps the campaigns of a timeline's actions.
    pub(super) fn keep_campaigns(&self, timeline: &Timeline, found: Vec<Campaign>) -> Campaigns {
        let campaigns: Campaigns = Arc::new(
            found
                .into_iter()
                .map(|campaign| (campaign.id.clone(), Arc::new(campaign)))
                .collect(),
        );
        let kept = KeptCampaigns {
            revision: timeline.revision,
            at: Instant::now(),
            campaigns: Arc::clone(&campaigns),
        };
        lock(&self.campaigns).insert(timeline.id, kept);
        campaigns
    }
}

impl Engine {
    /// The campaigns of a timeline that a transaction holds.
    pub(super) async fn campaigns_held(&self, txn: &Txn, timeline: &Timeline) -> Result<Campaigns, EngineError> {
        if let Some(campaigns) = self.definitions.campaigns(timeline) {
            return Ok(campaigns);
        }
        let campaigns = txn.campaigns_by_id(&timeline.campaign_ids()).await?;
        Ok(self.definitions.keep_campaigns(timeline, campaigns))
    }

    /// A timeline at the revision that a transaction holds. The transaction reads it itself: one that waited for another
    /// connection could wait for ever when all are held by such as it.
    pub(super) async fn held_timeline(
        &self,
        txn: &Txn,
        id: TimelineId,
        revision: i64,
    ) -> Result<Option<Arc<Timeline>>, EngineError> {
        if let Some(timeline) = self.definitions.timeline(id, revision) {
            return Ok(Some(timeline));
        }
        Ok(txn
            .timeline(id)
            .await?
            .map(|timeline| self.definitions.keep_timeline(timeline)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
