//! Telling what happens: what a plan decided and how it moved the run, step by step, as many as there may be.

use super::Simulator;
use super::step::{self, ActionStep, Place, Step, What, decided_by_conditions, leaves_of};
use crate::domain::condition::{self, Finding};
use crate::domain::{ActionId, Decision, Facts, Run, Status, Timestamp, plan};

/// The most steps that are told.
const MAX_STEPS: usize = 10_000;

/// The most leaves of conditions that are told with them.
const MAX_LEAVES: usize = 20_000;

impl Simulator<'_> {
    /// Tells what a plan decided, and how it moved the run. What it decided about days that are over comes first.
    pub(super) fn note(&mut self, before: &Run, decisions: Vec<Decision>, facts: &Facts, at: Timestamp) {
        let was = Place::of(&plan::thawed(&self.timeline, before.clone()));
        let is = Place {
            status: was.status,
            ..Place::of(&self.run)
        };
        let came = is.day > was.day;
        let is_over = |decision: &Decision| {
            let action = self.timeline.action(decision.action);
            came && action.is_some_and(|action| action.definition.day_number < is.day)
        };
        let (earlier, later): (Vec<_>, Vec<_>) = decisions.into_iter().partition(is_over);
        for decision in earlier {
            self.note_decision(decision, was, facts, at);
        }
        let shifted = self.run.shifted_days - before.shifted_days;
        if shifted > 0 {
            self.push(at, is, What::Shifted(shifted));
        }
        for (first, last) in step::newly_jumped(before, &self.run) {
            self.push(at, is, What::Jumped(first, last));
        }
        if came || (is.date != was.date && shifted == 0) {
            self.push(at, is, What::CameToDay);
        }
        for decision in later {
            self.note_decision(decision, is, facts, at);
        }
        if self.run.status == Status::Completed {
            self.push(at, Place::of(&self.run), What::Completed);
        }
    }

    fn note_decision(&mut self, decision: Decision, place: Place, facts: &Facts, at: Timestamp) {
        let findings = if decided_by_conditions(&decision.verdict) {
            self.findings(decision.action, facts, at)
        } else {
            Vec::new()
        };
        let step = ActionStep {
            id: decision.action,
            attempt: decision.attempt,
            due: decision.due,
            verdict: decision.verdict,
            detail: decision.detail,
            findings,
        };
        self.push(at, place, What::Action(step));
    }

    fn findings(&self, id: ActionId, facts: &Facts, at: Timestamp) -> Vec<Finding> {
        let action = self.timeline.action(id);
        action.map_or_else(Vec::new, |action| {
            condition::findings(&action.definition.conditions, facts, at)
        })
    }

    /// Tells a step, unless there are too many.
    pub(super) fn push(&mut self, at: Timestamp, place: Place, what: What) {
        let leaves = leaves_of(&what);
        if self.truncated || self.steps.len() >= MAX_STEPS || self.leaves + leaves > MAX_LEAVES {
            self.truncated = true;
            return;
        }
        self.leaves += leaves;
        self.steps.push(Step {
            at,
            day: place.day,
            date: place.date,
            tz: place.tz,
            status: place.status,
            what,
        });
    }
}
