//! Defining timelines and campaigns, and switching timelines.

use std::collections::HashMap;

use super::once::Begin;
use super::{Answer, Engine, EngineError, Once};
use crate::domain::{
    ActionDefinition, Campaign, CampaignId, CampaignKind, Changes, MailHeaders, Slug, Stage, Timeline,
    TimelineDefinition, TimelineId, Timestamp, Tracking,
};
use crate::store::{Page, StoreError, TimelineFilter, Txn};

/// What to apply.
#[derive(Debug, Clone)]
pub struct ApplyTimeline {
    /// The whole definition, its actions in order of the plan.
    pub definition: TimelineDefinition<ActionDefinition>,
    /// For each action, where it stood in the request.
    pub positions: Vec<usize>,
    /// The etag that was read last, as it was given; empty for a new timeline.
    pub etag: String,
    /// Whether nothing is stored.
    pub validate_only: bool,
}

/// What was applied.
#[derive(Debug)]
pub struct AppliedTimeline {
    /// The timeline as it is, or would be.
    pub timeline: Timeline,
    /// Whether it is new.
    pub created: bool,
    /// What is different.
    pub changes: Changes,
    /// How many runs the next tick plans anew: the active ones on changed days, or none while the timeline is switched off.
    pub runs_to_replan: i64,
}

/// What a campaign consists of; empty text: there is none.
#[derive(Debug, Clone)]
pub struct CampaignContent {
    /// Its id.
    pub id: CampaignId,
    /// The name for people.
    pub name: String,
    /// The subject or title.
    pub subject: String,
    /// The plain text.
    pub text_body: String,
    /// The HTML.
    pub html_body: String,
    /// The SMS.
    pub sms_text: String,
    /// The script of the call.
    pub call_script: String,
    /// What kind it is.
    pub kind: CampaignKind,
    /// What mail programs show beside the subject.
    pub preheader: String,
    /// Who its mails are from, a mailbox.
    pub sender: String,
    /// Where answers go, a mailbox.
    pub reply_to: String,
    /// More headers of its mails.
    pub headers: MailHeaders,
    /// What is watched of its mails.
    pub tracking: Tracking,
    /// Into how many parts its text message may be split.
    pub sms_max_segments: u8,
}

impl CampaignContent {
    /// The campaign that has this content from now on, in place of the stored one.
    pub(super) fn into_campaign(self, stored: Option<&Campaign>, now: Timestamp) -> Campaign {
        Campaign {
            id: self.id,
            name: self.name,
            subject: self.subject,
            text_body: self.text_body,
            html_body: self.html_body,
            sms_text: self.sms_text,
            call_script: self.call_script,
            kind: self.kind,
            preheader: self.preheader,
            sender: self.sender,
            reply_to: self.reply_to,
            headers: self.headers,
            tracking: self.tracking,
            sms_max_segments: self.sms_max_segments,
            revision: stored.map_or(1, |stored| stored.revision + 1),
            created_at: stored.map_or(now, |stored| stored.created_at),
            updated_at: now,
        }
    }
}

/// What was applied.
#[derive(Debug)]
pub struct AppliedCampaign {
    /// The campaign as it is, or would be.
    pub campaign: Campaign,
    /// Whether it is new.
    pub created: bool,
}

/// What became the default of a stage.
#[derive(Debug)]
pub struct DefaultChange {
    /// The default now.
    pub timeline: Option<Timeline>,
    /// The default before.
    pub previous: Option<TimelineId>,
}

/// An action whose content is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentProblem {
    /// Where the action stood in the request.
    pub position: usize,
    /// The campaign that it names.
    pub campaign: CampaignId,
    /// What the campaign lacks; none: there is no such campaign.
    pub lacks: Option<&'static str>,
}

impl Engine {
    /// Creates a timeline, or makes the stored one equal to a definition.
    pub async fn apply_timeline(
        &self,
        command: ApplyTimeline,
        once: Once<'_, AppliedTimeline>,
    ) -> Result<Answer<AppliedTimeline>, EngineError> {
        self.clock_agrees()?;
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let definition = &command.definition;
        let stored = txn.timeline_by_slug_for_update(&definition.slug).await?;
        if let Some(stored) = &stored {
            refuse_archived(stored)?;
        }
        check_etag(&command.etag, stored.as_ref().map(|timeline| timeline.revision))?;
        if let Some(stored) = stored
            .as_ref()
            .filter(|stored| stored.definition.pipeline_stage != definition.pipeline_stage)
        {
            let (slug, stored) = (definition.slug.clone(), stored.definition.pipeline_stage.clone());
            return Err(EngineError::StageFixed { slug, stored });
        }
        check_content(txn, &command).await?;
        let changes = Changes::between(stored.as_ref(), definition);
        let (id, runs_to_replan) = match &stored {
            None => {
                if definition.is_default {
                    refuse_second_default(txn, &definition.pipeline_stage).await?;
                }
                (txn.insert_timeline(definition, now).await.map_err(concurrent)?, 0)
            }
            Some(stored) if changes.is_empty() => (stored.id, 0),
            Some(stored) => {
                let runs = if stored.definition.is_active {
                    txn.active_runs_by_days(stored.id, &changes.days).await?
                } else {
                    0
                };
                txn.update_timeline(stored, definition, &changes.days, now).await?;
                (stored.id, runs)
            }
        };
        let timeline = txn.timeline(id).await?.ok_or(EngineError::TimelineNotFound(id))?;
        let applied = AppliedTimeline {
            timeline,
            created: stored.is_none(),
            changes,
            runs_to_replan,
        };
        if command.validate_only {
            return Ok(Answer::Fresh(applied));
        }
        operation.finish(applied).await
    }

    /// A timeline.
    pub async fn timeline(&self, id: TimelineId) -> Result<Timeline, EngineError> {
        self.store
            .reader()
            .timeline(id)
            .await?
            .ok_or(EngineError::TimelineNotFound(id))
    }

    /// A timeline by its slug.
    pub async fn timeline_by_slug(&self, slug: &Slug) -> Result<Timeline, EngineError> {
        self.store
            .reader()
            .timeline_by_slug(slug)
            .await?
            .ok_or_else(|| EngineError::SlugNotFound(slug.clone()))
    }

    /// A page of timelines, by slug.
    pub async fn timelines(&self, filter: &TimelineFilter, page: &Page<String>) -> Result<Vec<Timeline>, EngineError> {
        Ok(self.store.reader().timelines(filter, page).await?)
    }

    /// Switches a timeline on or off.
    pub async fn set_timeline_active(
        &self,
        id: TimelineId,
        is_active: bool,
        reason: &str,
        once: Once<'_, Timeline>,
    ) -> Result<Answer<Timeline>, EngineError> {
        if is_active {
            self.clock_agrees()?;
        }
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let mut timeline = txn
            .timeline_for_update(id)
            .await?
            .ok_or(EngineError::TimelineNotFound(id))?;
        if timeline.definition.is_active != is_active {
            refuse_archived(&timeline)?;
            // What was too late may be in time again, so what waits for its hour tomorrow is looked at.
            let actions = timeline.definition.actions.iter().filter(|_| is_active);
            let days = actions.map(|action| action.definition.day_number).collect();
            txn.set_timeline_active(id, is_active, reason, &days, now).await?;
            timeline = txn.timeline(id).await?.ok_or(EngineError::TimelineNotFound(id))?;
        }
        operation.finish(timeline).await
    }

    /// Makes a timeline the default of a stage; none: the stage has no default.
    pub async fn set_default_timeline(
        &self,
        stage: &Stage,
        id: Option<TimelineId>,
        once: Once<'_, DefaultChange>,
    ) -> Result<Answer<DefaultChange>, EngineError> {
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let new = match id {
            Some(id) => Some(
                txn.timeline_for_update(id)
                    .await?
                    .ok_or(EngineError::TimelineNotFound(id))?,
            ),
            None => None,
        };
        if let Some(new) = &new {
            refuse_archived(new)?;
        }
        if let Some(new) = new.as_ref().filter(|new| new.definition.pipeline_stage != *stage) {
            return Err(EngineError::StageMismatch {
                timeline: new.id,
                stored: new.definition.pipeline_stage.clone(),
            });
        }
        let previous = txn.default_timeline(stage).await?.map(|timeline| timeline.id);
        if previous != id {
            if let Some(previous) = previous {
                txn.set_timeline_default(previous, false, now).await?;
            }
            if let Some(id) = id {
                txn.set_timeline_default(id, true, now).await.map_err(concurrent)?;
            }
        }
        let timeline = match id {
            Some(id) => txn.timeline(id).await?,
            None => None,
        };
        operation.finish(DefaultChange { timeline, previous }).await
    }

    /// Creates a campaign, or replaces its content.
    pub async fn apply_campaign(
        &self,
        content: CampaignContent,
        etag: &str,
        validate_only: bool,
        once: Once<'_, AppliedCampaign>,
    ) -> Result<Answer<AppliedCampaign>, EngineError> {
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let stored = txn.campaign_for_update(&content.id).await?;
        check_etag(etag, stored.as_ref().map(|campaign| campaign.revision))?;
        let campaign = content.into_campaign(stored.as_ref(), now);
        let problems: Vec<String> = txn
            .uses_of_campaign(&campaign.id)
            .await?
            .into_iter()
            .filter_map(|(slug, key, action_type)| {
                campaign
                    .lacks_for(action_type)
                    .map(|lacks| format!("action {key} of timeline {slug} needs {lacks}"))
            })
            .collect();
        if !problems.is_empty() {
            return Err(EngineError::ContentInUse(problems));
        }
        let created = stored.is_none();
        let same = |stored: &Campaign| {
            let Campaign {
                revision, updated_at, ..
            } = stored.clone();
            Campaign {
                revision,
                updated_at,
                ..campaign.clone()
            } == *stored
        };
        let (campaign, changes) = match stored.filter(same) {
            Some(stored) => (stored, false),
            None => (campaign, true),
        };
        if validate_only {
            return Ok(Answer::Fresh(AppliedCampaign { campaign, created }));
        }
        if changes {
            txn.put_campaign(&campaign).await.map_err(concurrent)?;
        }
        let answer = operation.finish(AppliedCampaign { campaign, created }).await;
        self.definitions.forget_campaigns();
        answer
    }

    /// A campaign.
    pub async fn campaign(&self, id: &CampaignId) -> Result<Campaign, EngineError> {
        self.store
            .reader()
            .campaign(id)
            .await?
            .ok_or_else(|| EngineError::CampaignNotFound(id.clone()))
    }

    /// A page of campaigns, by id.
    pub async fn campaigns(&self, page: &Page<String>) -> Result<Vec<Campaign>, EngineError> {
        Ok(self.store.reader().campaigns(page).await?)
    }
}

/// The etag of a revision: a quoted string, as RFC 7232 has it.
pub(crate) fn etag(revision: i64) -> String {
    format!("\"{revision}\"")
}

fn check_etag(given: &str, current: Option<i64>) -> Result<(), EngineError> {
    if given == current.map(etag).unwrap_or_default() {
        return Ok(());
    }
    Err(EngineError::EtagMismatch {
        given: given.to_owned(),
        current,
    })
}

async fn check_content(txn: &Txn, command: &ApplyTimeline) -> Result<(), EngineError> {
    let found = txn.campaigns_by_id(&campaigns_of(&command.definition)).await?;
    content_is_there(&command.definition, &command.positions, &found)
}

/// The campaigns that the actions of a definition send.
pub(super) fn campaigns_of(definition: &TimelineDefinition<ActionDefinition>) -> Vec<CampaignId> {
    let actions = &definition.actions;
    let mut ids: Vec<CampaignId> = actions.iter().filter_map(|action| action.campaign_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Checks that what actions send is among the campaigns that were found. `positions`: where each action stood in the request.
pub(super) fn content_is_there(
    definition: &TimelineDefinition<ActionDefinition>,
    positions: &[usize],
    found: &[Campaign],
) -> Result<(), EngineError> {
    let campaigns: HashMap<&CampaignId, &Campaign> = found.iter().map(|campaign| (&campaign.id, campaign)).collect();
    let mut problems: Vec<ContentProblem> = definition
        .actions
        .iter()
        .zip(positions)
        .filter_map(|(action, position)| {
            let id = action.campaign_id.as_ref()?;
            let lacks = match campaigns.get(id) {
                None => None,
                Some(campaign) => Some(campaign.lacks_for(action.action_type)?),
            };
            Some(ContentProblem {
                position: *position,
                campaign: id.clone(),
                lacks,
            })
        })
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    problems.sort_by_key(|problem| problem.position);
    Err(EngineError::ContentMissing(problems))
}

/// What is archived is never used again.
pub(super) fn refuse_archived(timeline: &Timeline) -> Result<(), EngineError> {
    match timeline.archived_at {
        None => Ok(()),
        Some(_) => Err(EngineError::TimelineArchived {
            timeline: timeline.id,
            slug: timeline.definition.slug.clone(),
        }),
    }
}

async fn refuse_second_default(txn: &Txn, stage: &Stage) -> Result<(), EngineError> {
    match txn.default_timeline(stage).await? {
        None => Ok(()),
        Some(current) => Err(EngineError::SecondDefault {
            stage: stage.clone(),
            current: current.definition.slug,
        }),
    }
}

/// A refusal by a unique index: somebody else did the same at this moment.
pub(super) fn concurrent(error: StoreError) -> EngineError {
    if matches!(error, StoreError::Duplicate) {
        EngineError::Concurrent
    } else {
        EngineError::Store(error)
    }
}
