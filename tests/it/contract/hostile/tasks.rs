//! Hostile tasks and waits: as they are defined, asked about, reported and simulated.

use campaign_automation::proto::campaign::v1 as pb;
use pb::condition::Test;
use pb::script_entry::What as Happens;
use pb::simulate_timeline_request::{Which, Whom};
use tonic::Code;

use super::plans::bad_timeline;
use super::{Case, Told, World, case, fields};
use crate::support::given::{action, condition, email, stamp};

fn complete(
    world: &World,
    what: impl Into<String>,
    told: Told,
    change: impl FnOnce(&mut pb::CompleteInteractionRequest),
) -> Case {
    let mut request = pb::CompleteInteractionRequest {
        customer_id: "carl".to_owned(),
        progress_id: world.carls,
        action_key: "task".to_owned(),
        outcome: pb::TaskOutcome::Done.into(),
        ..Default::default()
    };
    change(&mut request);
    case(what, "CompleteInteraction", &request, told)
}

pub(super) fn reports(world: &World) -> Vec<Case> {
    let not_found = |reason| Told::Error(Code::NotFound, reason);
    let not_waiting = || Told::Error(Code::FailedPrecondition, "TASK_NOT_WAITING");
    let report =
        |what: &str, told, change: &dyn Fn(&mut pb::CompleteInteractionRequest)| complete(world, what, told, change);
    let mut cases = vec![
        report(
            "nothing at all",
            fields(&["customer_id", "progress_id", "action_key", "outcome"]),
            &|it| *it = pb::CompleteInteractionRequest::default(),
        ),
        report(
            "all of it wrong",
            fields(&[
                "customer_id",
                "progress_id",
                "action_key",
                "action_id",
                "outcome",
                "note",
                "request_id",
            ]),
            &|it| {
                it.customer_id = "a b".to_owned();
                it.progress_id = -1;
                it.action_key = "a b".to_owned();
                it.action_id = -1;
                it.outcome = 99;
                it.note = "a\nb".to_owned();
                it.request_id = "a b".to_owned();
            },
        ),
        report("an action by both its names", fields(&["action_id"]), &|it| {
            it.action_id = 1;
        }),
        report("an action by no name", fields(&["action_key"]), &|it| {
            it.action_key.clear();
        }),
        report("another customer's run", not_found("RUN_NOT_FOUND"), &|it| {
            it.progress_id = world.berts;
        }),
        report("another customer with this run", not_found("RUN_NOT_FOUND"), &|it| {
            it.customer_id = "bert".to_owned();
        }),
        report("a run that never was", not_found("RUN_NOT_FOUND"), &|it| {
            it.progress_id = i64::MAX;
        }),
        report("nobody", not_found("CUSTOMER_NOT_FOUND"), &|it| {
            it.customer_id = "nobody".to_owned();
        }),
        report("a key that never was", not_found("ACTION_NOT_FOUND"), &|it| {
            it.action_key = "none".to_owned();
        }),
        report("an action that never was", not_found("ACTION_NOT_FOUND"), &|it| {
            it.action_key.clear();
            it.action_id = i64::MAX;
        }),
        report("a mail", not_waiting(), &|it| it.action_key = "d1h0A".to_owned()),
        report("a task that has not come", not_waiting(), &|it| {
            it.action_key = "later".to_owned();
        }),
        report(
            "a task that was reported otherwise",
            Told::Error(Code::AlreadyExists, "TASK_ALREADY_REPORTED"),
            &|it| {
                (it.customer_id, it.progress_id) = ("anna".to_owned(), world.annas);
                it.outcome = pb::TaskOutcome::Declined.into();
            },
        ),
    ];
    for id in ["", ".", "..", "a b", "a\0", "a\u{202e}", &"x".repeat(65)] {
        cases.push(report(id, fields(&["customer_id"]), &|it| {
            it.customer_id = id.to_owned();
        }));
    }
    for id in [0, -1, i64::MIN] {
        cases.push(report("no run", fields(&["progress_id"]), &|it| it.progress_id = id));
    }
    for key in ["a b", "../task", "a\0", "é", &"x".repeat(65)] {
        cases.push(report(key, fields(&["action_key"]), &|it| {
            it.action_key = key.to_owned();
        }));
    }
    for id in [-1, i64::MIN] {
        cases.push(report("no action", fields(&["action_id"]), &|it| {
            it.action_key.clear();
            it.action_id = id;
        }));
    }
    for outcome in [0, 5, -1, i32::MIN, i32::MAX] {
        cases.push(report("no outcome", fields(&["outcome"]), &|it| it.outcome = outcome));
    }
    let forbidden = ["a\nb", "a\0b", "a\u{7f}", "a\u{2028}b", "a\u{202e}b"].map(str::to_owned);
    for note in forbidden
        .into_iter()
        .chain([501, 100_000].map(|count| "x".repeat(count)))
    {
        cases.push(report(&note, fields(&["note"]), &|it| it.note.clone_from(&note)));
    }
    for id in ["a b", "\0", "é", &"x".repeat(65)] {
        cases.push(report(id, fields(&["request_id"]), &|it| it.request_id = id.to_owned()));
    }
    cases
}

/// A task with nothing wrong.
fn task() -> pb::ActionDefinition {
    pb::ActionDefinition {
        completion: pb::TaskCompletion::Reported.into(),
        ..action(2, 9, pb::Channel::Interaction, pb::ActionType::CreateTask, "A")
    }
}

/// A wait for an answer to the mail before it.
fn wait() -> pb::ActionDefinition {
    pb::ActionDefinition {
        key: "wait".to_owned(),
        until_event: Some(pb::AwaitedEvent {
            kind: pb::EngagementKind::Replied.into(),
            of_action: "d1h0A".to_owned(),
            timeout_hours: 15,
            ..Default::default()
        }),
        ..action(2, 9, pb::Channel::Wait, pb::ActionType::Wait, "")
    }
}

/// A timeline of a mail on day 1, and this action after it with something wrong in it.
fn bad_action(
    what: &str,
    paths: &[&str],
    mut action: pb::ActionDefinition,
    change: &dyn Fn(&mut pb::ActionDefinition),
) -> Case {
    change(&mut action);
    let paths = paths.iter().map(|path| format!("timeline.actions[1].{path}")).collect();
    bad_timeline(what, Told::Fields(paths), |it| {
        it.actions = vec![email(1, 0, "A"), action];
    })
}

pub(super) fn definitions() -> Vec<Case> {
    let lasting = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let mail = || email(2, 9, "A");
    let bad_task = |what: &str, paths: &[&str], change: &dyn Fn(&mut pb::ActionDefinition)| {
        bad_action(what, paths, task(), change)
    };
    let mut cases = vec![
        bad_task("handed over and waited for", &["completion_within"], &|it| {
            it.completion = pb::TaskCompletion::HandedOver.into();
            it.completion_within = lasting(3600, 0);
        }),
        bad_task("handed over, and waited for no time", &["completion_within"], &|it| {
            it.completion = pb::TaskCompletion::HandedOver.into();
            it.completion_within = lasting(0, 0);
        }),
        bad_task(
            "a task that waits for an event, and never ends",
            &["completion", "completion_within", "until_event"],
            &|it| {
                it.completion = 3;
                it.completion_within = lasting(-1, 0);
                it.until_event = wait().until_event;
            },
        ),
        bad_action(
            "a mail as a task",
            &["completion", "completion_within"],
            mail(),
            &|it| {
                it.completion = pb::TaskCompletion::Reported.into();
                it.completion_within = lasting(3600, 0);
            },
        ),
        bad_action("a mail that is waited for", &["completion_within"], mail(), &|it| {
            it.completion_within = lasting(3600, 0);
        }),
        bad_action("a wait that is handed over", &["completion"], wait(), &|it| {
            it.completion = pb::TaskCompletion::HandedOver.into();
        }),
        bad_action("a mail until an event", &["until_event"], mail(), &|it| {
            it.until_event = wait().until_event;
        }),
        bad_action(
            "an action of no type with all of it",
            &[
                "action_type",
                "completion",
                "completion_within",
                "until_event.after_timeout",
            ],
            wait(),
            &|it| {
                it.action_type = 99;
                it.completion = 99;
                it.completion_within = lasting(0, 0);
                it.until_event.as_mut().expect("an event").after_timeout = 99;
            },
        ),
    ];
    for completion in [-1, 3, i32::MIN, i32::MAX] {
        cases.push(bad_task("an unknown completion", &["completion"], &|it| {
            it.completion = completion;
        }));
    }
    for (seconds, nanos) in [
        (0, 0),
        (59, 0),
        (90 * 86_400 + 1, 0),
        (60, 1),
        (-3600, 0),
        (i64::MAX, i32::MAX),
        (i64::MIN, i32::MIN),
    ] {
        cases.push(bad_task("no time to wait", &["completion_within"], &|it| {
            it.completion_within = lasting(seconds, nanos);
        }));
    }
    cases
}

pub(super) fn waits() -> Vec<Case> {
    let bad_wait = |what: &str, paths: &[&str], change: &dyn Fn(&mut pb::AwaitedEvent)| {
        let paths: Vec<String> = paths.iter().map(|path| format!("until_event.{path}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        bad_action(what, &paths, wait(), &|it| {
            change(it.until_event.as_mut().expect("an event"));
        })
    };
    let mut cases = vec![
        bad_wait("nothing at all", &["kind"], &|it| *it = pb::AwaitedEvent::default()),
        bad_wait(
            "all of it wrong",
            &["kind", "of_action", "timeout_hours", "after_timeout"],
            &|it| {
                it.kind = 99;
                it.of_action = "none".to_owned();
                it.timeout_hours = -1;
                it.after_timeout = 99;
            },
        ),
        bad_wait(
            "an event of one's own, about a mail",
            &["name", "of_action", "timeout_hours", "after_timeout"],
            &|it| {
                it.kind = pb::EngagementKind::Custom.into();
                it.name = "a b".to_owned();
                it.timeout_hours = 16;
                it.after_timeout = -1;
            },
        ),
        bad_wait("a name for an answer", &["name"], &|it| {
            it.name = "demo.booked".to_owned();
        }),
        bad_wait("an event of the wait itself", &["of_action"], &|it| {
            it.of_action = "wait".to_owned();
        }),
        bad_action("before its mail", &["until_event.of_action"], wait(), &|it| {
            (it.day_number, it.delay_hours) = (1, 0);
        }),
    ];
    for kind in [0, 5, -1, i32::MIN, i32::MAX] {
        cases.push(bad_wait("an unknown kind", &["kind"], &|it| it.kind = kind));
    }
    for name in ["", "a b", "a\0", "é", &"x".repeat(65)] {
        cases.push(bad_wait(name, &["name"], &|it| {
            it.kind = pb::EngagementKind::Custom.into();
            it.of_action.clear();
            it.name = name.to_owned();
        }));
    }
    for key in ["none", "a b", "a\0", &"x".repeat(100_000)] {
        cases.push(bad_wait(key, &["of_action"], &|it| it.of_action = key.to_owned()));
    }
    // The wait begins at 9, so 15 hours are left of its day.
    for hours in [-1, 16, 25, i32::MIN, i32::MAX] {
        cases.push(bad_wait("hours that are none", &["timeout_hours"], &|it| {
            it.timeout_hours = hours;
        }));
    }
    for after in [-1, 3, i32::MIN, i32::MAX] {
        cases.push(bad_wait("an unknown end", &["after_timeout"], &|it| {
            it.after_timeout = after;
        }));
    }
    cases
}

/// Conditions about tasks.
pub(super) fn conditions() -> Vec<Case> {
    let asks = |what: &str, paths: &[&str], of_action: &str, outcome: i32| {
        let paths: Vec<String> = paths
            .iter()
            .map(|path| format!("conditions[0].task_outcome.{path}"))
            .collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let test = Test::TaskOutcome(pb::TaskOutcomeIs {
            of_action: of_action.to_owned(),
            outcome,
        });
        bad_action(what, &paths, email(2, 9, "A"), &|it| {
            it.conditions = vec![condition(test.clone(), pb::ConditionThen::Skip)];
        })
    };
    let mut cases = vec![
        asks("no task and no outcome", &["of_action", "outcome"], "", 0),
        asks("a mail", &["of_action"], "d1h0A", 1),
        asks("itself", &["of_action"], "d2h9A", 1),
        asks("no key", &["of_action"], "a\0", 1),
        asks("a long key", &["of_action"], &"x".repeat(100_000), 1),
    ];
    for outcome in [0, 5, -1, i32::MIN, i32::MAX] {
        cases.push(asks("an unknown outcome", &["of_action", "outcome"], "none", outcome));
    }
    cases
}

/// Reports in the script of a simulation.
pub(super) fn simulations(world: &World) -> Vec<Case> {
    let simulate = |what: &str, paths: &[&str], action_key: &str, outcome: i32| {
        let report = pb::ScriptTaskReport {
            action_key: action_key.to_owned(),
            outcome,
        };
        let entry = pb::ScriptEntry {
            time: Some(stamp("2026-01-05T13:00:00Z")),
            what: Some(Happens::TaskReport(report)),
        };
        let request = pb::SimulateTimelineRequest {
            which: Some(Which::TimelineId(world.plan.timeline_id)),
            whom: Some(Whom::CustomerId("anna".to_owned())),
            script: vec![entry],
            ..Default::default()
        };
        let paths = paths.iter().map(|path| format!("script[0].task_report.{path}"));
        case(what, "SimulateTimeline", &request, Told::Fields(paths.collect()))
    };
    let mut cases = vec![simulate("nothing at all", &["action_key", "outcome"], "", 0)];
    for key in ["none", "a\0", &"x".repeat(100_000)] {
        cases.push(simulate(key, &["action_key"], key, 1));
    }
    for outcome in [0, 5, -1, i32::MIN, i32::MAX] {
        cases.push(simulate("an unknown outcome", &["outcome"], "task", outcome));
    }
    cases
}
