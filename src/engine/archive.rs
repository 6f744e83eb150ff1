//! Ending a timeline for good.
//!
//! The timeline is archived at once. Its runs are frozen with that, and are stopped range after range of customers, so that no
//! lock is held for long; what the call does not come to is done by the next tick.

use super::advance::CHUNK;
use super::once::Begin;
use super::tick::{Limits, TickRequest};
use super::{Answer, Engine, EngineError, Once};
use crate::domain::{Timeline, TimelineId};

/// A timeline that was archived.
#[derive(Debug)]
pub struct ArchivedTimeline {
    /// The timeline as it is now.
    pub timeline: Timeline,
    /// How many live runs it had, which are stopped.
    pub runs_to_stop: i64,
}

impl Engine {
    /// Archives a timeline. One that is archived already stays as it is. `stop_runs`: it may have live runs, which are
    /// stopped for this reason.
    pub async fn archive_timeline(
        &self,
        id: TimelineId,
        stop_runs: bool,
        reason: &str,
        once: Once<'_, ArchivedTimeline>,
    ) -> Result<Answer<ArchivedTimeline>, EngineError> {
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let not_found = EngineError::TimelineNotFound(id);
        let timeline = txn.timeline_for_update(id).await?.ok_or(not_found)?;
        if timeline.archived_at.is_some() {
            let archived = ArchivedTimeline {
                timeline,
                runs_to_stop: 0,
            };
            return operation.finish(archived).await;
        }
        let runs_to_stop = txn.live_runs_of(id).await?;
        if runs_to_stop > 0 && !stop_runs {
            return Err(EngineError::TimelineHasRuns {
                timeline: id,
                runs: runs_to_stop,
            });
        }
        txn.archive_timeline(id, runs_to_stop > 0, reason, now).await?;
        let timeline = txn.timeline(id).await?.ok_or(EngineError::TimelineNotFound(id))?;
        let archived = ArchivedTimeline { timeline, runs_to_stop };
        let answer = operation.finish(archived).await?;
        if runs_to_stop > 0
            && let Err(error) = self.stop_runs_of(id, reason, None).await
        {
            tracing::warn!(%error, timeline_id = id.0, "timeline {id} is archived, and its runs are stopped by the next tick");
        }
        Ok(answer)
    }

    /// Stops what is left of the runs of archived timelines. True: it stopped at a limit.
    pub(super) async fn stop_archived(&self, request: &TickRequest, limits: &Limits) -> Result<bool, EngineError> {
        for (id, reason) in self.store.reader().timelines_to_stop().await? {
            let is_meant = request.timelines.is_empty() || request.timelines.contains(&id);
            if is_meant && self.stop_runs_of(id, &reason, Some(limits)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Stops the runs of an archived timeline. True: it stopped at a limit.
    async fn stop_runs_of(&self, id: TimelineId, reason: &str, limits: Option<&Limits>) -> Result<bool, EngineError> {
        let reason = if reason.is_empty() {
            "the timeline was archived"
        } else {
            reason
        };
        let mut after = String::new();
        while let Some(range) = self.store.reader().next_range(&after, CHUNK).await? {
            if limits.is_some_and(Limits::reached) {
                return Ok(true);
            }
            let txn = self.store.begin().await?;
            txn.stop_runs(id, reason, &range, self.clock.now()).await?;
            txn.commit().await?;
            after = range.until;
        }
        let txn = self.store.begin().await?;
        txn.note_stopped(id).await?;
        txn.commit().await?;
        Ok(false)
    }
}
