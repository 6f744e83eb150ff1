//! Matches what happened to what had to happen, in the manner of the checker of Jepsen's Chronos test: a target is an interval in
//! which its job has to begin exactly once. What is left over of the targets is missing, what is left over of the history is
//! extra, and a leftover that comes after a target nobody met is that target, late.
//!
//! Pure: it knows no database and no clock. A match is made by time alone; the day that an event says of itself is compared
//! afterwards, so that two messages that changed places are found out as well.

use campaign_automation::domain::Timestamp;

/// Something that must begin exactly once between two instants, both included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Whose it is: targets of one job are met by events of that job alone.
    pub job: String,
    /// Which day of the job it is.
    pub day: i32,
    pub from: Timestamp,
    pub until: Timestamp,
}

/// Something that began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub job: String,
    /// Which day it says it is, if it says so.
    pub day: Option<i32>,
    pub at: Timestamp,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// How many targets were met in time.
    pub met: usize,
    /// Targets that nothing met.
    pub missing: Vec<Target>,
    /// Targets that were met after their time.
    pub late: Vec<(Target, Event)>,
    /// Events that no target asked for: repeated, too early, or of nobody.
    pub extra: Vec<Event>,
    /// Events that met the target of another day than they say.
    pub mistaken: Vec<(Target, Event)>,
}

impl Findings {
    /// Whether each target was met once, in time, and nothing else happened.
    pub(super) fn is_sound(&self) -> bool {
        self.missing.is_empty() && self.late.is_empty() && self.extra.is_empty() && self.mistaken.is_empty()
    }
}

/// Matches a history to its targets, with as many targets met in time as can be.
pub(super) fn check(targets: &[Target], history: &[Event]) -> Findings {
    let mut open: Vec<&Target> = targets.iter().collect();
    let mut events: Vec<&Event> = history.iter().collect();
    events.sort_by_key(|event| event.at);
    let mut findings = Findings::default();
    // Of the targets that an event may meet, the one that ends first: no other choice meets more of them.
    let mut left = Vec::new();
    for event in events {
        let may_meet = |target: &Target| target.job == event.job && (target.from..=target.until).contains(&event.at);
        let Some(target) = take_first(&mut open, may_meet) else {
            left.push(event);
            continue;
        };
        findings.met += 1;
        if event.day.is_some_and(|day| day != target.day) {
            findings.mistaken.push((target.clone(), event.clone()));
        }
    }
    for event in left {
        let is_past = |target: &Target| target.job == event.job && target.until < event.at;
        match take_first(&mut open, is_past) {
            Some(target) => findings.late.push((target.clone(), event.clone())),
            None => findings.extra.push(event.clone()),
        }
    }
    findings.missing = open.into_iter().cloned().collect();
    findings
}

/// Takes the target out that ends first of those that are fit.
fn take_first<'a>(open: &mut Vec<&'a Target>, is_fit: impl Fn(&Target) -> bool) -> Option<&'a Target> {
    let fit = open.iter().enumerate().filter(|(_, target)| is_fit(target));
    let (index, _) = fit.min_by_key(|(_, target)| target.until)?;
    Some(open.remove(index))
}

#[cfg(test)]
mod tests {
    use super::{Event, Findings, Target, check};
    use crate::support::given::at;
    use chrono::TimeDelta;

    /// A target from nine to ten of a day in January, which is also the job's day.
    fn nine(job: &str, day: i32) -> Target {
        between(job, day, &format!("{day:02}T09:00"), &format!("{day:02}T10:00"))
    }

    fn between(job: &str, day: i32, from: &str, until: &str) -> Target {
        let [from, until] = [from, until].map(|time| at(&format!("2026-01-{time}:00Z")));
        let job = job.to_owned();
        Target { job, day, from, until }
    }

    fn event(job: &str, day: Option<i32>, time: &str) -> Event {
        Event {
            job: job.to_owned(),
            day,
            at: at(&format!("2026-01-{time}:00Z")),
        }
    }

    /// Two days of two jobs, and the history that meets them.
    fn two_days() -> (Vec<Target>, Vec<Event>) {
        let targets = vec![nine("a", 1), nine("a", 2), nine("b", 1), nine("b", 2)];
        let met = |target: &Target| Event {
            job: target.job.clone(),
            day: Some(target.day),
            at: target.from + TimeDelta::minutes(5),
        };
        let history = targets.iter().map(met).collect();
        (targets, history)
    }

    #[track_caller]
    fn finds(targets: &[Target], history: &[Event], expected: &Findings) {
        assert_eq!(check(targets, history), *expected);
        let is_sound = expected.met == targets.len() && history.len() == targets.len() && expected.mistaken.is_empty();
        assert_eq!(expected.is_sound(), is_sound);
        // The order of a history is that of its instants.
        let reversed: Vec<Event> = history.iter().rev().cloned().collect();
        assert_eq!(check(targets, &reversed).met, expected.met);
    }

    #[test]
    fn each_target_once_is_sound() {
        let (targets, history) = two_days();
        let met = targets.len();
        let sound = Findings {
            met,
            ..Findings::default()
        };
        finds(&targets, &history, &sound);
        finds(&[], &[], &Findings::default());
        // At both ends of its interval, and of no day that it names.
        for time in ["01T09:00", "01T10:00"] {
            let met = Findings {
                met: 1,
                ..Findings::default()
            };
            finds(&[nine("a", 1)], &[event("a", None, time)], &met);
        }
    }

    #[test]
    fn a_target_that_nothing_meets_is_missing() {
        let (targets, mut history) = two_days();
        history.remove(2);
        let found = Findings {
            met: 3,
            missing: vec![nine("b", 1)],
            ..Findings::default()
        };
        // What the same job does a day later does not stand in for it, nor what another one does.
        finds(&targets, &history, &found);
    }

    #[test]
    fn what_happens_twice_in_one_interval_is_extra() {
        let (targets, mut history) = two_days();
        history.push(event("a", Some(1), "01T09:30"));
        let found = Findings {
            met: 4,
            extra: vec![event("a", Some(1), "01T09:30")],
            ..Findings::default()
        };
        finds(&targets, &history, &found);
    }

    #[test]
    fn what_nobody_asked_for_is_extra() {
        let (targets, mut history) = two_days();
        let strays = [event("c", Some(1), "01T09:30"), event("b", Some(3), "03T09:00")];
        history.extend(strays.clone());
        let found = Findings {
            met: 4,
            extra: strays.to_vec(),
            ..Findings::default()
        };
        finds(&targets, &history, &found);
    }

    #[test]
    fn what_comes_too_late_is_late() {
        let targets = [nine("a", 1), nine("a", 2)];
        let (late, in_time) = (event("a", Some(1), "01T10:01"), event("a", Some(2), "02T09:00"));
        let found = Findings {
            met: 1,
            late: vec![(nine("a", 1), late.clone())],
            ..Findings::default()
        };
        finds(&targets, &[late, in_time], &found);
        // A day late, together with the next one: which of them is late can't be seen, but that one is.
        let both = [event("a", None, "02T09:00"), event("a", None, "02T09:01")];
        let found = Findings {
            met: 1,
            late: vec![(nine("a", 1), both[1].clone())],
            ..Findings::default()
        };
        assert_eq!(check(&targets, &both), found);
    }

    #[test]
    fn what_comes_too_early_is_extra_and_its_target_missing() {
        let early = event("a", Some(1), "01T08:59");
        let found = Findings {
            met: 0,
            missing: vec![nine("a", 1)],
            extra: vec![early.clone()],
            ..Findings::default()
        };
        finds(&[nine("a", 1)], &[early], &found);
    }

    #[test]
    fn two_that_changed_places_are_mistaken() {
        let targets = [nine("a", 1), nine("a", 2)];
        let history = [event("a", Some(2), "01T09:00"), event("a", Some(1), "02T09:00")];
        let mistaken = vec![
            (targets[0].clone(), history[0].clone()),
            (targets[1].clone(), history[1].clone()),
        ];
        let found = Findings {
            met: 2,
            mistaken,
            ..Findings::default()
        };
        finds(&targets, &history, &found);
    }

    #[test]
    fn intervals_that_overlap_are_met_by_as_many_as_can_be() {
        // Whoever takes the first interval that is open for the first event leaves the short one unmet.
        let targets = [
            between("a", 1, "01T09:00", "01T12:00"),
            between("a", 2, "01T09:30", "01T10:00"),
        ];
        let history = [event("a", Some(2), "01T09:45"), event("a", Some(1), "01T11:00")];
        let found = Findings {
            met: 2,
            ..Findings::default()
        };
        finds(&targets, &history, &found);
    }
}
