//! Starting many runs at once: a result for each, in order, and as many statements as for one.

use campaign_automation::proto::campaign::v1 as pb;
use pb::start_timelines_result::Result as Item;
use prost::Message as _;
use tonic::{Code, Status};

use crate::support::calls::{about, of_item, skipped};
use crate::support::given::{action, customer, definition, email, refused, shown};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    each_start_has_its_own_result,
    a_batch_of_one_is_a_start,
    what_is_there_twice_is_live_the_second_time,
    a_batch_is_started_once,
    a_batch_takes_as_many_statements_as_one,
    bad_batches_are_refused,
);

fn item(customer: &str, timeline: i64) -> pb::TimelineStart {
    pb::TimelineStart {
        customer_id: customer.to_owned(),
        timeline_id: timeline,
        ..Default::default()
    }
}

async fn start(app: &App, starts: Vec<pb::TimelineStart>, id: &str) -> Result<Vec<Item>, Status> {
    let request = pb::StartTimelinesRequest {
        starts,
        request_id: id.to_owned(),
    };
    let response = app.orchestrator().start_timelines(request).await?.into_inner();
    let results = response.results.into_iter();
    Ok(results.map(|result| result.result.expect("a result")).collect())
}

fn run(item: &Item) -> &pb::StartedRun {
    match item {
        Item::Run(run) => run,
        Item::Error(error) => panic!("not started: {error:?}"),
    }
}

#[track_caller]
fn error(item: &Item, code: Code, reason: &str, fields: &[&str]) -> Status {
    match item {
        Item::Run(run) => panic!("started: {run:?}"),
        Item::Error(error) => refused(of_item::<()>(error), code, reason, fields),
    }
}

async fn customers(app: &App, prefix: &str, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|n| format!("{prefix}{n:04}")).collect();
    let request = pb::UpsertCustomersRequest {
        customers: ids.iter().map(|id| customer(id, "Europe/Berlin")).collect(),
        ..Default::default()
    };
    app.upsert(request).await.expect("results");
    ids
}

async fn each_start_has_its_own_result(backend: Backend) {
    let app = App::start(backend).await;
    let hook = app
        .timeline(definition(
            "hook",
            5,
            vec![email(1, 0, "A"), email(1, 20, "B"), email(3, 9, "C")],
        ))
        .await
        .timeline_id;
    let mut off = definition("off", 5, vec![email(1, 0, "A")]);
    off.is_active = false;
    let off = app.timeline(off).await.timeline_id;
    for (id, zone) in [
        ("anna", "Asia/Tokyo"),
        ("bob", ""),
        ("carl", "Etc/UTC"),
        ("dora", "Etc/UTC"),
        ("emil", "Etc/UTC"),
    ] {
        app.customer(id, zone).await;
    }
    let live = app
        .try_start(single(item("carl", hook)))
        .await
        .expect("a run")
        .progress_id;
    let ended = app
        .try_start(single(item("dora", hook)))
        .await
        .expect("a run")
        .progress_id;
    app.stop("dora", ended, "").await.expect("stopped");

    let results = start(
        &app,
        vec![
            item("anna", hook),
            item("nobody", hook),
            pb::TimelineStart {
                first_day: pb::FirstDay::SkipPassed.into(),
                ..item("bob", hook)
            },
            item("bob", 99),
            item("bob", off),
            item("carl", hook),
            item("dora", hook),
            pb::TimelineStart {
                allow_restart: true,
                start_day: 3,
                first_day: pb::FirstDay::NextDay.into(),
                ..item("dora", hook)
            },
            pb::TimelineStart {
                start_day: 6,
                ..item("emil", hook)
            },
            pb::TimelineStart {
                first_day: 9,
                start_day: -1,
                ..item("a b", 0)
            },
            item("emil", hook),
        ],
        "",
    )
    .await
    .expect("results");
    assert_eq!(results.len(), 11);

    let anna = run(&results[0]);
    // 21:00 in Tokyo.
    assert_eq!(
        (anna.current_day, anna.time_zone.as_str(), anna.skipped_actions),
        (1, "Asia/Tokyo", 0)
    );
    assert_eq!(anna.time_zone_source(), pb::TimeZoneSource::Customer);
    assert_eq!(shown(anna.next_due_time), "2026-01-05T12:00:00Z");
    let bob = run(&results[2]);
    assert_eq!(
        (bob.time_zone_source(), bob.skipped_actions),
        (pb::TimeZoneSource::Default, 1)
    );
    assert_eq!(shown(bob.next_due_time), "2026-01-05T20:00:00Z");
    let dora = run(&results[7]);
    assert_eq!((dora.current_day, dora.day_date.expect("a date").day), (3, 6));
    assert_eq!(shown(dora.next_due_time), "2026-01-06T09:00:00Z");
    run(&results[10]);

    error(&results[1], Code::NotFound, "CUSTOMER_NOT_FOUND", &[]);
    error(&results[3], Code::NotFound, "TIMELINE_NOT_FOUND", &[]);
    error(&results[4], Code::FailedPrecondition, "TIMELINE_INACTIVE", &[]);
    let status = error(&results[5], Code::AlreadyExists, "RUN_IS_LIVE", &[]);
    assert_eq!(about(&status, "progress_id"), live.to_string());
    let status = error(&results[6], Code::FailedPrecondition, "RUN_ENDED", &[]);
    assert_eq!(about(&status, "progress_id"), ended.to_string());
    error(
        &results[8],
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["starts[8].start_day"],
    );
    let fields = ["customer_id", "timeline_id", "first_day", "start_day"].map(|field| format!("starts[9].{field}"));
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    error(&results[9], Code::InvalidArgument, "INVALID_FIELDS", &fields);

    // What was started is as by a call of its own.
    let view = app.get("anna", anna.progress_id).await.expect("a run");
    assert_eq!(
        (view.status(), view.origin()),
        (pb::ProgressStatus::Active, pb::ProgressOrigin::Started)
    );
    let view = app.get("bob", bob.progress_id).await.expect("a run");
    assert_eq!(
        skipped(&view),
        [("d1h0A".to_owned(), pb::SkipReason::HourPassedAtStart)]
    );
    assert_eq!(shown(view.skipped_actions[0].skip_time), "2026-01-05T12:00:00Z");
    app.hourly().await;
    assert_eq!(app.sent_to("anna").len(), 2, "both hours have passed in Tokyo");
    assert_eq!(
        (
            app.sent_to("bob").len(),
            app.sent_to("dora").len(),
            app.sent_to("emil").len()
        ),
        (0, 0, 1)
    );
    app.server.shutdown().await.expect("stopped");
}

fn single(item: pb::TimelineStart) -> pb::StartTimelineRequest {
    pb::StartTimelineRequest {
        customer_id: item.customer_id,
        timeline_id: item.timeline_id,
        first_day: item.first_day,
        start_day: item.start_day,
        allow_restart: item.allow_restart,
        ..Default::default()
    }
}

async fn a_batch_of_one_is_a_start(backend: Backend) {
    let app = App::start(backend).await;
    let hook = app
        .timeline(definition("hook", 5, vec![email(1, 0, "A"), email(1, 20, "B")]))
        .await
        .timeline_id;
    app.customer("anna", "Europe/Berlin").await;
    app.customer("bob", "Europe/Berlin").await;
    let skip = |customer: &str| pb::TimelineStart {
        first_day: pb::FirstDay::SkipPassed.into(),
        ..item(customer, hook)
    };
    let alone = app.try_start(single(skip("anna"))).await.expect("a run");
    let results = start(&app, vec![skip("bob")], "").await.expect("results");
    let mut other = app.get("bob", run(&results[0]).progress_id).await.expect("a run");
    (other.progress_id, other.customer_id) = (alone.progress_id, alone.customer_id.clone());
    assert_eq!(other, alone);
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_there_twice_is_live_the_second_time(backend: Backend) {
    let app = App::start(backend).await;
    let hook = app
        .timeline(definition("hook", 5, vec![email(1, 0, "A")]))
        .await
        .timeline_id;
    let other = app
        .timeline(definition("other", 5, vec![email(1, 0, "A")]))
        .await
        .timeline_id;
    app.customer("anna", "Etc/UTC").await;
    let again = |item: pb::TimelineStart| pb::TimelineStart {
        allow_restart: true,
        ..item
    };
    let starts = vec![
        pb::TimelineStart {
            start_day: 6,
            ..item("anna", hook)
        },
        item("anna", hook),
        item("anna", other),
        again(item("anna", hook)),
        pb::TimelineStart {
            start_day: 6,
            ..item("anna", hook)
        },
    ];
    let results = start(&app, starts, "").await.expect("results");
    error(
        &results[0],
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["starts[0].start_day"],
    );
    let first = run(&results[1]).progress_id;
    assert_ne!(run(&results[2]).progress_id, first);
    let status = error(&results[3], Code::AlreadyExists, "RUN_IS_LIVE", &[]);
    assert_eq!(about(&status, "progress_id"), first.to_string());
    error(
        &results[4],
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["starts[4].start_day"],
    );
    let runs = app
        .list_progress(pb::ListProgressRequest::default())
        .await
        .expect("a page");
    assert_eq!(runs.progress.len(), 2);

    // Of several runs the last one counts.
    app.stop("anna", first, "").await.expect("stopped");
    let results = start(&app, vec![again(item("anna", hook))], "").await.expect("results");
    let second = run(&results[0]).progress_id;
    let results = start(&app, vec![again(item("anna", hook))], "").await.expect("results");
    let status = error(&results[0], Code::AlreadyExists, "RUN_IS_LIVE", &[]);
    assert_eq!(about(&status, "progress_id"), second.to_string());
    app.stop("anna", second, "").await.expect("stopped");
    let results = start(&app, vec![item("anna", hook)], "").await.expect("results");
    let status = error(&results[0], Code::FailedPrecondition, "RUN_ENDED", &[]);
    assert_eq!(about(&status, "progress_id"), second.to_string());
    app.server.shutdown().await.expect("stopped");
}

async fn a_batch_is_started_once(backend: Backend) {
    let app = App::start(backend).await;
    let hook = app
        .timeline(definition("hook", 5, vec![email(1, 0, "A")]))
        .await
        .timeline_id;
    let ids = customers(&app, "c", 20).await;
    let starts: Vec<_> = ids.iter().map(|id| item(id, hook)).collect();
    let (one, other) = tokio::join!(start(&app, starts.clone(), "once"), start(&app, starts.clone(), "once"));
    let one = one.expect("results");
    assert_eq!(one, other.expect("results"), "twins have one answer");
    for item in &one {
        assert!(run(item).progress_id > 0);
    }
    let reused = start(&app, vec![item(&ids[0], hook)], "once").await;
    refused(reused, Code::InvalidArgument, "REQUEST_ID_REUSED", &["request_id"]);
    // Batches of the same customers in other orders don't lock each other out.
    let other = app
        .timeline(definition("other", 5, vec![email(1, 0, "A")]))
        .await
        .timeline_id;
    let forth: Vec<_> = ids.iter().map(|id| item(id, other)).collect();
    let back: Vec<_> = forth.iter().rev().cloned().collect();
    let (forth, back) = tokio::join!(start(&app, forth, ""), start(&app, back, ""));
    let started = |results: &[Item]| results.iter().filter(|item| matches!(item, Item::Run(_))).count();
    let counts = (started(&forth.expect("results")), started(&back.expect("results")));
    assert!(matches!(counts, (20, 0) | (0, 20)), "{counts:?}");
    app.server.shutdown().await.expect("stopped");
}

async fn a_batch_takes_as_many_statements_as_one(backend: Backend) {
    let app = App::start(backend).await;
    // So much is skipped at once that the runs as a whole would not fit into the answer.
    let waits = (0..50).map(|n| pb::ActionDefinition {
        key: format!("wait{n}"),
        priority: n,
        ..action(1, 0, pb::Channel::Wait, pb::ActionType::Wait, "")
    });
    let hook = app.timeline(definition("hook", 5, waits.collect())).await.timeline_id;
    let statements = || app.server.engine().store().statements();
    let mut used = Vec::new();
    for count in [1, 10, 1000] {
        let ids = customers(&app, &format!("n{count}c"), count).await;
        let starts = ids.iter().map(|id| pb::TimelineStart {
            first_day: pb::FirstDay::SkipPassed.into(),
            ..item(id, hook)
        });
        let request = pb::StartTimelinesRequest {
            starts: starts.collect(),
            request_id: format!("batch-{count}"),
        };
        let before = statements();
        let response = app.orchestrator().start_timelines(request).await.expect("results");
        used.push(statements() - before);
        let response = response.into_inner();
        let bytes = response.encoded_len();
        assert!(bytes < 200 * count + 1000, "{bytes} bytes for {count}");
        for result in response.results {
            let item = result.result.expect("a result");
            assert_eq!(run(&item).skipped_actions, 50);
        }
    }
    let each = used[1];
    assert_eq!(
        used,
        [each + 2, each, each],
        "as many for each batch, and the timeline is read once"
    );
    assert!(each <= 8, "{used:?}");
    let request = pb::ListExecutionsRequest {
        filter: Some(pb::ExecutionFilter {
            customer_id: "n1000c0999".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let page = app.orchestrator().list_executions(request).await.expect("a page");
    assert_eq!(page.into_inner().executions.len(), 50);
    app.server.shutdown().await.expect("stopped");
}

async fn bad_batches_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    for starts in [Vec::new(), vec![item("anna", 1); 1001]] {
        let answer = start(&app, starts, "a b").await;
        refused(
            answer,
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["starts", "request_id"],
        );
    }
    // A batch in which nothing is good is answered, too.
    let results = start(&app, vec![item("", -1)], "").await.expect("results");
    let fields = ["starts[0].customer_id", "starts[0].timeline_id"];
    error(&results[0], Code::InvalidArgument, "INVALID_FIELDS", &fields);
    app.server.shutdown().await.expect("stopped");
}
