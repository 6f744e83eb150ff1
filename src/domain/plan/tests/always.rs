//! What always holds, after every step of every play.

use super::*;

impl Play {
    pub(super) fn check(&self, now: Timestamp) {
        let (run, timeline) = (&self.run, &self.timeline);
        let mut entries: BTreeMap<ActionId, u32> = BTreeMap::new();
        let known = run
            .completed
            .iter()
            .copied()
            .chain(run.skipped.iter().map(|skipped| skipped.id));
        let known = known
            .chain(run.failed.iter().map(|failed| failed.id))
            .chain(run.deferred.iter().map(|deferred| deferred.id));
        known.for_each(|id| *entries.entry(id).or_default() += 1);
        assert!(
            entries.values().all(|times| *times == 1),
            "entered twice at {now}: {run:?}"
        );
        let refused = run.failed.iter().filter(|failed| failed.state == FailureState::Failed);
        let mut denied = refused
            .map(|failed| failed.id)
            .chain(run.skipped.iter().map(|skipped| skipped.id));
        assert!(
            denied.all(|id| !self.unknown.contains(&id)),
            "it may have arrived, and is denied at {now}: {run:?}"
        );
        let is_jumped = |day: i32| {
            run.jumped_days
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&day))
        };
        if self.moves.advanced {
            let lost = timeline.definition.actions.iter().find(|action| {
                let day = action.definition.day_number;
                let is_passed = self.first_day <= day && day < run.current_day && !is_jumped(day);
                let came_in_time = action.removed_at.is_none() && !action.definition.key.starts_with("later");
                is_passed && came_in_time && !entries.contains_key(&action.id)
            });
            assert_eq!(lost, None, "lost at {now}");
        }
        if run.status == Status::Completed {
            let waits = !run.deferred.is_empty()
                || !run.in_flight.is_empty()
                || run.failed.iter().any(|failed| failed.retry_at().is_some());
            assert!(!waits, "completed while something waits at {now}");
            assert_eq!((run.next_action_at, run.ended_at.is_some()), (None, true));
        }
        if run.status != Status::Active || !timeline.definition.is_active {
            return;
        }
        let pending = plan::pending_actions(timeline, run, now);
        let ends_as_removed = timeline.day(run.current_day).iter().any(|action| {
            let was_pending = action.removed_at.is_some_and(|at| at >= run.day_started_at);
            was_pending && !entries.contains_key(&action.id)
        });
        assert_eq!(
            run.next_action_at.is_some(),
            !pending.is_empty() || !run.in_flight.is_empty() || ends_as_removed,
            "forgotten at {now}: {run:?}"
        );
        let tomorrow = instant(plus_days(run.day_date, 1), 0, run.zone.tz);
        let of_today = timeline
            .day(run.current_day)
            .iter()
            .filter(|action| action.removed_at.is_none() && !is_jumped(run.current_day));
        let is_sent = |id| run.in_flight.iter().any(|sent| sent.id == id);
        let unfinished = of_today.filter(|action| !entries.contains_key(&action.id) && !is_sent(action.id));
        if unfinished.count() > 0 {
            assert!(
                run.next_action_at.is_some_and(|wake| wake <= tomorrow),
                "the bulk advance would lose it at {now}"
            );
        }
    }

    pub(super) fn check_claim(&self, now: Timestamp) {
        let actions: Vec<&Action> = self
            .run
            .in_flight
            .iter()
            .filter_map(|sent| self.timeline.action(sent.id))
            .collect();
        assert_eq!(actions.len(), self.run.in_flight.len());
        assert!(
            actions.is_sorted_by_key(|action| action.position()),
            "out of order at {now}"
        );
        let alone = actions
            .iter()
            .any(|action| action.definition.channel.delivery_policy() == DeliveryPolicy::AtMostOnce);
        assert!(
            !alone || actions.len() == 1,
            "not alone in its claim at {now}: {actions:?}"
        );
        for sent in &self.run.in_flight {
            assert!(
                !self.run.is_final(sent.id) && !self.delivered.contains(&sent.id),
                "sent again at {now}"
            );
            assert!(sent.due <= now, "sent too early at {now}");
        }
    }
}

/// What is explained is what is then done.
pub(super) fn check_told(told: &Explanation, planned: &Plan, now: Timestamp) {
    let last = |id| planned.decisions.iter().rfind(|decision| decision.action == id);
    for action in &told.actions {
        let id = action.id;
        let done = if planned.run.in_flight.iter().any(|sent| sent.id == id) {
            Some(Standing::Due(Expected::Send))
        } else {
            last(id).map(|decision| match decision.verdict.clone() {
                Verdict::Completed => Standing::Due(Expected::Complete),
                Verdict::Skipped(reason) => Standing::Due(Expected::Skip {
                    reason,
                    detail: decision.detail.clone(),
                }),
                Verdict::Deferred { until, reason } => Standing::Held {
                    by: Hold::Deferred(reason),
                    until: Some(until),
                },
                Verdict::Failed { state, reason, error } => Standing::Due(Expected::Fail { state, reason, error }),
            })
        };
        match (&action.standing, done) {
            (told, Some(done)) => assert_eq!(*told, done, "told otherwise at {now}"),
            (Standing::Due(Expected::InTurn), None) => {
                assert!(!planned.run.in_flight.is_empty(), "in turn after nothing at {now}");
            }
            (Standing::Due(told), None) => panic!("{told:?} was told, and nothing done at {now}"),
            (Standing::Held { until, .. }, None) => assert!(until.is_some_and(|until| until > now), "held at {now}"),
            (
                Standing::Completed
                | Standing::Skipped(_)
                | Standing::Failed(_)
                | Standing::InFlight { .. }
                | Standing::Never(_),
                None,
            ) => {}
        }
    }
    let decided = planned.decisions.iter().map(|decision| decision.action);
    let sent = planned.run.in_flight.iter().map(|sent| sent.id);
    for id in decided.chain(sent) {
        assert!(
            told.actions.iter().any(|action| action.id == id),
            "{id} was not told at {now}"
        );
    }
}
