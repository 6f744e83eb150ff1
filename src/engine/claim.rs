//! Claiming: from a due run to messages that may be sent.
//!
//! A claim reads due runs and what their conditions ask for, lets the core plan, and commits what was planned, all in one
//! short transaction. What needs no send is done with that; what does is launched after the commit, for the runs that
//! were still as they had been read.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::time::Instant;

use super::cache::Campaigns;
use super::decided::{count_decision, entry};
use super::facts::BatchFacts;
use super::flight::Flight;
use super::lanes::{START_WITHIN, Seat};
use super::rates::{Tokens, rate_limited};
use super::sending::Claimed;
use super::tick::Limits;
use super::{Engine, EngineError};
use crate::domain::{
    Attempted, Channel, Decision, Facts, Lease, Moves, Plan, ProgressId, Run, Timeline, TimelineId, Timestamp, plan,
};
use crate::failpoint::{Failpoint, reach};
use crate::store::{Before, BrokenRun, Buckets, Claim, Cursor, Due, Execution, Txn};

/// The most runs in one claim.
pub(super) const BATCH: usize = 1000;

/// What came of a claim.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Whether the timeline may have more that is due.
    pub(super) more: bool,
    /// Whether something was left because there was no room for it.
    pub(super) blocked: bool,
    /// Whether something was left because the tick may not take up so much more.
    pub(super) spent: bool,
    /// How many actions were taken up. What was planned and could not be claimed is none of them.
    pub(super) actions: u64,
}

/// When a claim was made, and by when what it launches begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    /// When the claim was made.
    pub(super) since: Instant,
    /// What has not begun by then is handed back.
    pub(super) start_by: Instant,
}

impl Term {
    /// From now on, and not beyond a deadline.
    pub(super) fn until(deadline: Option<Instant>) -> Self {
        let since = Instant::now();
        let start_by = since + START_WITHIN;
        Self {
            since,
            start_by: deadline.map_or(start_by, |deadline| start_by.min(deadline)),
        }
    }

    /// Whether there was as much time as a claim has.
    pub(super) fn is_whole(self) -> bool {
        self.start_by >= self.since + START_WITHIN
    }
}

/// A run that was planned, with room for what it sends.
pub(super) struct Prepared {
    claim: Claim,
    pub(super) decisions: Vec<Decision>,
    moves: Moves,
    rooms: Vec<Seat>,
    /// Whether it is of a test customer, which is not counted.
    is_test: bool,
    /// Whether somebody held it who did not come back to it.
    is_rescued: bool,
}

/// What came of planning a run.
pub(super) enum Preparation {
    /// It may be committed.
    Ready(Box<Prepared>),
    /// There is no room for what it sends now.
    NoRoom,
    /// What is known of it can't be read, or planning it panicked. It stays as it is, and holds up nobody else.
    Broken(BrokenRun),
}

impl Engine {
    /// Claims due runs of a timeline after the cursor, within the limits, and launches what is to be sent. The cursor moves
    /// on to the last run that was dealt with.
    pub(super) async fn claim_due(
        self: &Arc<Self>,
        flight: &Flight,
        id: TimelineId,
        cursor: &mut Cursor,
        buckets: Buckets,
        limits: &Limits,
    ) -> Result<Claims, EngineError> {
        self.see_circuits().await?;
        let (txn, now) = (self.store.begin().await?, self.clock.now());
        let Some(revision) = txn.hold_timeline(id).await? else {
            return Ok(Claims::default());
        };
        // From now on, as others may have been waited for that long.
        let term = Term::until(Some(limits.deadline()));
        let due = txn
            .due_runs_for_update(&next_due(id, cursor, buckets, limits, now))
            .await?;
        due.broken.iter().for_each(|broken| flight.note_broken(broken));
        let (runs, more, last) = (due.runs, due.more, due.last.unwrap_or_else(|| cursor.clone()));
        if runs.is_empty() {
            // Not dropped, which is not waited for: the row after these is locked, and the next claim would pass over it.
            txn.commit().await?;
            let more = more && last != *cursor;
            *cursor = last;
            return Ok(Claims {
                more,
                ..Claims::default()
            });
        }
        let Some(timeline) = self.held_timeline(&txn, id, revision).await? else {
            return Ok(Claims::default());
        };
        let known = self.facts_of(&txn, &timeline, &runs, now).await?;
        let mut tokens = self.tokens(&txn, &timeline, &runs, &known, now).await?;
        let mut prepared = Vec::with_capacity(runs.len());
        let mut planned: Vec<(&Run, u64)> = Vec::with_capacity(runs.len());
        let (mut actions, mut blocked, mut spent) = (0, false, false);
        let mut dealt_with = cursor.clone();
        for run in &runs {
            if flight.is_broken(run) {
                dealt_with = Cursor::after(run);
                continue;
            }
            let one = match self.prepare(&timeline, run, &known, &mut tokens, now) {
                Preparation::Ready(one) => *one,
                Preparation::NoRoom => {
                    blocked = true;
                    break;
                }
                Preparation::Broken(broken) => {
                    dealt_with = Cursor::after(run);
                    flight.note_broken(&broken);
                    continue;
                }
            };
            let of_run = (one.decisions.len() + one.rooms.len()) as u64;
            if !limits.allow(actions, of_run) {
                spent = true;
                break;
            }
            actions += of_run;
            dealt_with = Cursor::after(run);
            planned.push((run, of_run));
            prepared.push(one);
        }
        tokens.store(&txn).await?;
        let claimed = self
            .commit_claims(flight, txn, &timeline, prepared, &known, term, now)
            .await?;
        let refused = planned.iter().filter(|(run, _)| !claimed.contains(&run.id));
        let refused: u64 = refused.map(|(_, actions)| actions).sum();
        *cursor = if blocked || spent { dealt_with } else { last };
        Ok(Claims {
            more: more || blocked || spent,
            blocked,
            // What was refused leaves room for others.
            spent: spent && refused == 0,
            actions: actions - refused,
        })
    }

    /// Counts what a claim would do, and changes nothing. The cursor moves on.
    pub(super) async fn rehearse_due(
        &self,
        flight: &Flight,
        id: TimelineId,
        cursor: &mut Cursor,
        buckets: Buckets,
        limits: &Limits,
    ) -> Result<Claims, EngineError> {
        let (reader, now) = (self.store.reader(), self.clock.now());
        let due = reader.due_runs(&next_due(id, cursor, buckets, limits, now)).await?;
        due.broken.iter().for_each(|broken| flight.note_broken(broken));
        let (runs, last) = (due.runs, due.last.unwrap_or_else(|| cursor.clone()));
        let more = due.more && last != *cursor;
        if runs.is_empty() {
            *cursor = last;
            return Ok(Claims {
                more,
                ..Claims::default()
            });
        }
        let Some(timeline) = reader.timeline(id).await? else {
            return Ok(Claims::default());
        };
        let known = self.facts_read(&reader, &timeline, &runs, now).await?;
        let (mut actions, mut spent) = (0, false);
        for run in &runs {
            if flight.is_broken(run) {
                continue;
            }
            let planned = known.of(run).and_then(|facts| {
                let planned = self.planned(&timeline, run, &facts, now)?;
                Ok((planned, facts.destination.is_test()))
            });
            let (planned, is_test) = match planned {
                Ok(planned) => planned,
                Err(broken) => {
                    flight.note_broken(&broken);
                    continue;
                }
            };
            let of_run = (planned.decisions.len() + planned.run.in_flight.len()) as u64;
            if !limits.allow(actions, of_run) {
                spent = true;
                break;
            }
            actions += of_run;
            *cursor = Cursor::after(run);
            flight.count(|counts| {
                counts.add_moves(&planned.moves);
                if is_test {
                    return;
                }
                for decision in &planned.decisions {
                    count_decision(counts, &timeline, decision);
                }
                for in_flight in &planned.run.in_flight {
                    if let Some(action) = timeline.action(in_flight.id) {
                        counts.channel(action.definition.channel).would_execute += 1;
                    }
                }
            });
        }
        if !spent {
            *cursor = last;
        }
        Ok(Claims {
            more: spent || more,
            blocked: false,
            spent,
            actions,
        })
    }

    /// Plans a run, and takes room for what it sends.
    pub(super) fn prepare(
        &self,
        timeline: &Timeline,
        run: &Run,
        known: &BatchFacts,
        tokens: &mut Tokens<'_>,
        now: Timestamp,
    ) -> Preparation {
        let email = known.customer(run).and_then(|customer| customer.email.as_ref());
        let planned = known.of(run).and_then(|mut facts| {
            if !facts.destination.is_test() {
                facts.rate_limited = tokens.missing(run.id, email);
            }
            let planned = self.planned(timeline, run, &facts, now)?;
            Ok((planned, facts.destination.is_test()))
        });
        let (planned, is_test) = match planned {
            Ok(planned) => planned,
            Err(broken) => return Preparation::Broken(broken),
        };
        let mut claimed = planned.run;
        let wanted = claimed.in_flight.clone();
        let rooms: Vec<Seat> = wanted
            .iter()
            .map_while(|in_flight| {
                let channel = timeline.action(in_flight.id)?.definition.channel;
                let seat = self.seat(is_test, channel, now)?;
                (is_test || tokens.take(channel, email)).then_some(seat)
            })
            .collect();
        if rooms.is_empty() && !wanted.is_empty() {
            return Preparation::NoRoom;
        }
        for decision in &planned.decisions {
            if let Some(channel) = rate_limited(timeline, decision) {
                tokens.queue(channel, email);
            }
        }
        // What there is no room for goes with a later claim: a run with much to send must not wait for more room than
        // a slow channel ever has.
        for later in &wanted[rooms.len()..] {
            claimed.record(timeline, later, Attempted::HandedBack, &self.settings.retry, 0.5, now);
        }
        if !rooms.is_empty() {
            claimed.lease = Some(Lease {
                token: self.random.token(),
                expires_at: now + self.settings.lease,
            });
        }
        Preparation::Ready(Box::new(Prepared {
            claim: Claim::new(run, claimed, timeline.revision),
            decisions: planned.decisions,
            moves: planned.moves,
            rooms,
            is_test,
            is_rescued: run.lease.is_some(),
        }))
    }

    /// Plans a run, unless that panics.
    fn planned(&self, timeline: &Timeline, run: &Run, facts: &Facts, now: Timestamp) -> Result<Plan, BrokenRun> {
        let plan = || {
            reach(Failpoint::Plan);
            plan::plan(timeline, run, facts, &self.settings.retry, now)
        };
        let planned = std::panic::catch_unwind(AssertUnwindSafe(plan));
        planned.map_err(|_| BrokenRun::of(run, "planning it panicked, which is a fault of this service"))
    }

    /// Commits what was prepared, counts what was decided, and launches what is to be sent. Says what was committed.
    #[expect(
        clippy::too_many_arguments,
        reason = "the end of a claim needs all that the claim gathered"
    )]
    pub(super) async fn commit_claims(
        self: &Arc<Self>,
        flight: &Flight,
        txn: Txn,
        timeline: &Arc<Timeline>,
        prepared: Vec<Prepared>,
        known: &BatchFacts,
        term: Term,
        now: Timestamp,
    ) -> Result<HashSet<ProgressId>, EngineError> {
        let probes = probes(timeline, &prepared);
        let written = self.write_claims(txn, timeline, &prepared, &probes, now).await;
        if !matches!(written, Ok(Some(_))) {
            self.probes_dropped(&probes);
        }
        let Some((claimed, campaigns)) = written? else {
            flight.note_due_again();
            return Ok(HashSet::new());
        };
        let mut sending = Vec::with_capacity(claimed.len());
        for Prepared {
            claim,
            decisions,
            moves,
            rooms,
            is_test,
            is_rescued,
        } in prepared
        {
            if !claimed.contains(&claim.run.id) {
                // The row was locked, so nobody else has changed it.
                let what = "a value of its row is not written as this service writes it, so it can't be claimed";
                flight.note_broken(&BrokenRun::of(&claim.run, what));
                continue;
            }
            flight.count(|counts| {
                counts.add_moves(&moves);
                for decision in decisions.iter().filter(|_| !is_test) {
                    count_decision(counts, timeline, decision);
                }
            });
            self.note_claim(timeline, &claim.run, &decisions, is_test, is_rescued);
            if let Some(lease) = claim.run.lease {
                sending.push(Claimed {
                    before: Before::of(&claim.run, timeline.revision),
                    token: lease.token,
                    hold: self.hold(&claim.run, lease),
                    customer: known.customer(&claim.run).cloned(),
                    run: claim.run,
                    timeline: Arc::clone(timeline),
                    campaigns: Arc::clone(&campaigns),
                    rooms,
                    term,
                });
            } else if claim.run.next_action_at.is_some_and(|at| at <= now) && !decisions.is_empty() {
                flight.note_due_again();
            }
        }
        flight.launch(sending);
        Ok(claimed)
    }

    /// Writes and commits what was prepared. None: somebody else sends the probe of a channel, and nothing is committed.
    async fn write_claims(
        &self,
        txn: Txn,
        timeline: &Timeline,
        prepared: &[Prepared],
        probes: &[Channel],
        now: Timestamp,
    ) -> Result<Option<(HashSet<ProgressId>, Campaigns)>, EngineError> {
        let campaigns = self.campaigns_held(&txn, timeline).await?;
        let mut claims: Vec<&Claim> = prepared.iter().map(|one| &one.claim).collect();
        claims.sort_unstable_by(|a, b| (&a.run.customer_id, a.run.id).cmp(&(&b.run.customer_id, b.run.id)));
        let claimed = txn.claim(&claims, now).await?;
        let ledger: Vec<Execution> = prepared
            .iter()
            .filter(|one| claimed.contains(&one.claim.run.id))
            .flat_map(|one| {
                one.decisions
                    .iter()
                    .filter_map(|decision| entry(&one.claim.run, timeline, decision, now))
            })
            .collect();
        txn.insert_missing_executions(&ledger).await?;
        let Some(begun) = self.begin_probes(&txn, probes, now).await? else {
            return Ok(None);
        };
        reach(Failpoint::BeforeClaimCommit);
        txn.commit().await?;
        reach(Failpoint::AfterClaimCommit);
        self.probes_begun(begun);
        Ok(Some((claimed, campaigns)))
    }
}

/// What one claim asks for.
fn next_due<'a>(timeline: TimelineId, after: &'a Cursor, buckets: Buckets, limits: &Limits, now: Timestamp) -> Due<'a> {
    Due {
        timeline,
        after,
        now,
        buckets,
        limit: limits.most_runs(BATCH),
    }
}

/// The channels whose probes are among what was prepared.
fn probes(timeline: &Timeline, prepared: &[Prepared]) -> Vec<Channel> {
    let mut probes = Vec::new();
    for one in prepared {
        for (in_flight, seat) in one.claim.run.in_flight.iter().zip(&one.rooms) {
            let action = timeline.action(in_flight.id).filter(|_| seat.is_probe);
            probes.extend(action.map(|action| action.definition.channel));
        }
    }
    probes
}
