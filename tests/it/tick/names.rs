//! Named ticks, several at once, callers that go away, and the list of what ran.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::process_campaign_timelines_response::Update;
use std::time::Duration;
use tonic::Code;

use super::{advance, list, mails, named, process};
use crate::support::given::{definition, email, refused, shown};
use crate::support::mailing::{assert_each_got, crowd, mailing_app, until_run};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_finished_tick_is_answered_as_it_was,
    a_tick_that_runs_is_not_entered_twice,
    overlapping_ticks_count_each_run_once,
    a_long_tick_streams_counts,
    when_the_client_goes_away_what_is_in_flight_is_recorded,
    ticks_are_listed_newest_first,
    bad_requests_are_refused_with_all_violations,
);

async fn a_finished_tick_is_answered_as_it_was(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![email(1, 0, "A"), email(1, 13, "B")];
    let timeline = app.timeline(definition("hook", 2, actions)).await;
    let ids = crowd(&app, &timeline, "c", 5).await;
    let limited = pb::ProcessCampaignTimelinesRequest {
        max_actions: 2,
        ..named("noon")
    };
    let first = process(&app, limited.clone()).await.expect("a summary");
    assert_eq!(
        (mails(&first), first.has_more, first.tick_id.as_str()),
        (2, true, "noon")
    );
    app.pass_hours(1);
    for repeated in [limited, named("noon")] {
        assert_eq!(process(&app, repeated).await.expect("a summary"), first);
    }
    assert_eq!(app.sent_count(), 2);

    // A dry run takes no notice of the name, and does not use it up.
    for name in ["noon", "one"] {
        let dry = pb::ProcessCampaignTimelinesRequest {
            dry_run: true,
            ..named(name)
        };
        let dry = process(&app, dry).await.expect("a summary");
        assert!(dry.dry_run && super::mail_counts(&dry).would_execute > 0, "{dry:?}");
    }
    let rest = process(&app, named("one")).await.expect("a summary");
    assert_eq!((mails(&rest), rest.has_more), (8, false));

    // The daily tick has names of its own.
    app.set("2026-01-06T00:00:00Z");
    let request = pb::AdvanceCampaignDaysRequest {
        tick_id: "noon".to_owned(),
        ..Default::default()
    };
    let advanced = advance(&app, request.clone()).await.expect("a summary");
    assert_eq!(advanced.counts.as_ref().expect("counts").advanced_runs, 5);
    assert_eq!(advance(&app, request).await.expect("a summary"), advanced);
    for id in &ids {
        assert_eq!(app.progress(id).await.current_day, 2);
    }
}

async fn a_tick_that_runs_is_not_entered_twice(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 3).await;
    smtp.behave(Behaviour::Stall(Step::Data));
    let (summary, ()) = tokio::join!(process(&app, named("noon")), async {
        smtp.until_stalled(3).await;
        refused(process(&app, named("noon")).await, Code::Aborted, "TICK_RUNNING", &[]);
        let running = list(&app, pb::TickKind::Process, 1, "").await;
        assert_eq!(running.tick_runs[0].state(), pb::TickState::Running);

        // Another one finds nothing that it may touch, and ends.
        let other = process(&app, named("other")).await.expect("a summary");
        assert_eq!((mails(&other), other.has_more), (0, false));
        smtp.accept_all();
        smtp.release();
    });
    let summary = summary.expect("a summary");
    assert_eq!((mails(&summary), summary.has_more), (3, false));
    assert_eq!(process(&app, named("noon")).await.expect("a summary"), summary);
    assert_each_got(&smtp, &ids, 1);
}

async fn overlapping_ticks_count_each_run_once(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 20, vec![])).await;
    let ids = crowd(&app, &timeline, "c", 20).await;
    let runs = i64::try_from(ids.len()).expect("a number");
    for day in 1..=20 {
        app.pass_hours(24);
        let ticks = futures::future::join_all((0..4).map(|_| app.daily())).await;
        let counts: Vec<pb::TickCounts> = ticks.into_iter().filter_map(|tick| tick.counts).collect();
        let advanced: i64 = counts.iter().map(|counts| counts.advanced_runs).sum();
        let completed: i64 = counts.iter().map(|counts| counts.completed_runs).sum();
        let expected = if day < 20 { (runs, 0) } else { (0, runs) };
        assert_eq!((advanced, completed), expected, "day {day}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn a_long_tick_streams_counts(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 3).await;
    // Silence for the first alone.
    smtp.behave(Behaviour::Stall(Step::Rcpt));
    for id in &ids[1..] {
        smtp.reply_to_rcpt(&format!("{id}@example.com"), "250 2.1.5 OK");
    }
    let request = pb::ProcessCampaignTimelinesRequest::default();
    let mut stream = app
        .ticks()
        .process_campaign_timelines(request)
        .await
        .expect("a stream")
        .into_inner();
    let first = tokio::time::timeout(Duration::from_secs(10), stream.message()).await;
    let first = first.expect("within 10 seconds").expect("news").expect("news");
    assert!(matches!(first.update, Some(Update::Counts(_))), "{first:?}");
    smtp.accept_all();
    smtp.release();
    let mut last = first;
    while let Some(news) = stream.message().await.expect("news") {
        last = news;
    }
    let Some(Update::Summary(summary)) = last.update else {
        panic!("the last news is the summary: {last:?}")
    };
    assert_eq!(mails(&summary), 3);
    assert_each_got(&smtp, &ids, 1);
}

async fn when_the_client_goes_away_what_is_in_flight_is_recorded(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 10).await;
    smtp.behave(Behaviour::Stall(Step::Dot));
    let mut client = app.ticks();
    let stream = client
        .process_campaign_timelines(named("noon"))
        .await
        .expect("a stream");
    smtp.until_stalled(10).await;
    drop(stream);
    smtp.accept_all();
    smtp.release();
    for id in &ids {
        let run = until_run(&app, id, |run| run.in_flight_actions.is_empty()).await;
        assert_eq!(
            (run.completed_actions.len(), run.failed_actions.len()),
            (1, 0),
            "{run:?}"
        );
    }
    let again = loop {
        match process(&app, named("noon")).await {
            Ok(summary) => break summary,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
    };
    assert_eq!(mails(&again), 10, "the summary of the tick that nobody waited for");
    assert_each_got(&smtp, &ids, 1);
}

async fn ticks_are_listed_newest_first(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 3, vec![email(1, 0, "A")])).await;
    crowd(&app, &timeline, "c", 2).await;
    let mut ran = vec![process(&app, named("p1")).await.expect("a summary")];
    app.set("2026-01-06T00:30:00Z");
    ran.push(app.daily().await);
    ran.push(process(&app, named("p2")).await.expect("a summary"));
    app.pass_hours(1);
    ran.push(app.daily().await);
    ran.push(app.hourly().await);
    ran.reverse();

    let all = list(&app, pb::TickKind::Unspecified, 0, "").await;
    let listed: Vec<pb::TickSummary> = all.tick_runs.iter().filter_map(|run| run.summary.clone()).collect();
    assert_eq!(listed, ran);
    for run in &all.tick_runs {
        assert_eq!((run.state(), run.error.as_str()), (pb::TickState::Finished, ""));
        assert!(run.tick_run_id > 0);
    }
    assert_eq!(shown(listed[0].end_time), "2026-01-06T01:30:00Z");
    assert!(!listed[0].tick_id.is_empty(), "the server names those without a name");
    for kind in [pb::TickKind::Process, pb::TickKind::Advance] {
        let (mut paged, mut token) = (Vec::new(), String::new());
        loop {
            let page = list(&app, kind, 1, &token).await;
            assert!(page.tick_runs.len() <= 1);
            paged.extend(page.tick_runs.into_iter().filter_map(|run| run.summary));
            if page.next_page_token.is_empty() {
                break;
            }
            token = page.next_page_token;
        }
        let expected: Vec<pb::TickSummary> = ran.iter().filter(|tick| tick.kind() == kind).cloned().collect();
        assert_eq!(paged, expected, "{kind:?}");
    }
}

async fn bad_requests_are_refused_with_all_violations(backend: Backend) {
    let app = App::start(backend).await;
    let request = pb::ProcessCampaignTimelinesRequest {
        tick_id: "two words".to_owned(),
        max_actions: -1,
        partition: Some(pb::TickPartition { index: 3, count: 3 }),
        timeline_ids: vec![1, 0],
        dry_run: false,
    };
    let fields = ["tick_id", "max_actions", "partition.index", "timeline_ids[1]"];
    refused(
        process(&app, request).await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &fields,
    );
    let request = pb::AdvanceCampaignDaysRequest {
        partition: Some(pb::TickPartition { index: 0, count: 1025 }),
        ..Default::default()
    };
    let fields = ["partition.count"];
    refused(
        advance(&app, request).await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &fields,
    );
    let page = pb::ListTickRunsRequest {
        kind: 9,
        page_size: -1,
        page_token: String::new(),
    };
    let listed = app.ticks().list_tick_runs(page).await;
    refused(listed, Code::InvalidArgument, "INVALID_FIELDS", &["kind", "page_size"]);
    assert_eq!(list(&app, pb::TickKind::Unspecified, 0, "").await.tick_runs, []);
}
