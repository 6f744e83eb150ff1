//! How much a tick does, of what, in which order, and when it stops.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::process_campaign_timelines_response::Update;
use std::collections::BTreeSet;
use std::time::Duration;
use tonic::Request;

use super::{advance, mail_counts, mails, process};
use crate::support::app::hourly;
use crate::support::given::{action, definition, email, shown, sms};
use crate::support::mailing::{assert_each_got, crowd, keys, mailing_app, mailing_app_with, until_run};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, on_each_database};

type Process = pb::ProcessCampaignTimelinesRequest;

on_each_database!(
    repeated_ticks_of_a_few_actions_do_exactly_all,
    a_rehearsal_counts_and_changes_nothing,
    only_the_named_timelines_are_served,
    parts_together_do_the_work_of_one,
    a_short_deadline_stops_a_tick_and_the_next_goes_on,
    a_large_timeline_does_not_starve_a_small_one,
    what_is_due_at_once_goes_in_one_tick_and_in_order,
    what_goes_at_most_once_is_claimed_alone,
    the_summary_says_what_is_next,
);

/// Each customer has two mails due, which are taken up together.
async fn repeated_ticks_of_a_few_actions_do_exactly_all(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let mut all = Vec::new();
    for (slug, max_actions, most) in [("seven", 7, 6), ("two", 2, 2), ("one", 1, 2), ("many", 1000, 20)] {
        let timeline = app
            .timeline(definition(slug, 1, vec![email(1, 0, "A"), email(1, 1, "B")]))
            .await;
        all.extend(crowd(&app, &timeline, slug, 10).await);
        let mut taken = Vec::new();
        loop {
            let request = Process {
                max_actions,
                ..Default::default()
            };
            let summary = process(&app, request).await.expect("a summary");
            taken.push(mails(&summary));
            let done: i64 = taken.iter().sum();
            assert_eq!(summary.oldest_due_time.is_some(), done < 20, "{slug}: {taken:?}");
            if !summary.has_more {
                break;
            }
        }
        assert!(taken.iter().all(|mails| *mails <= most), "{slug}: {taken:?}");
        assert_eq!(taken.iter().sum::<i64>(), 20, "{slug}: {taken:?}");
    }
    assert_each_got(&smtp, &all, 2);
}

async fn a_rehearsal_counts_and_changes_nothing(backend: Backend) {
    let app = App::start(backend).await;
    let mut skipped = email(1, 2, "C");
    let test = pb::condition::Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold: -1 });
    skipped.conditions = vec![crate::support::given::condition(test, pb::ConditionThen::Skip)];
    let actions = vec![email(1, 0, "A"), skipped, email(2, 0, "B"), email(2, 9, "D")];
    let timeline = app.timeline(definition("hook", 2, actions)).await;
    let ids = crowd(&app, &timeline, "c", 8).await;
    let all = async || {
        let request = pb::ListProgressRequest::default();
        app.orchestrator()
            .list_progress(request)
            .await
            .expect("runs")
            .into_inner()
    };
    let dry = || Process {
        dry_run: true,
        ..Default::default()
    };
    let before = all().await;
    let rehearsed = process(&app, dry()).await.expect("a summary");
    let expected = pb::ChannelCounts {
        channel: pb::Channel::Email.into(),
        skipped: 8,
        would_execute: 8,
        ..Default::default()
    };
    assert_eq!(mail_counts(&rehearsed), expected);
    assert!(rehearsed.dry_run);
    assert_eq!((app.sent_count(), all().await), (0, before));
    let done = app.hourly().await;
    assert_eq!((mails(&done), mail_counts(&done).skipped, done.dry_run), (8, 8, false));

    app.set("2026-01-06T00:00:00Z");
    let before = all().await;
    let request = pb::AdvanceCampaignDaysRequest {
        dry_run: true,
        ..Default::default()
    };
    let rehearsed = advance(&app, request).await.expect("a summary");
    assert_eq!(rehearsed.counts.expect("counts").advanced_runs, 8);
    process(&app, dry()).await.expect("a summary");
    assert_eq!((app.sent_count(), all().await), (8, before));
    let done = app.daily().await;
    assert_eq!(done.counts.expect("counts").advanced_runs, 8);
    app.hourly().await;
    for id in &ids {
        assert_eq!(app.sent_to(id).len(), 2, "{id}");
    }
    // Of all these, the rehearsals are not listed.
    let listed = super::list(&app, pb::TickKind::Unspecified, 0, "").await;
    assert_eq!(listed.tick_runs.len(), 3);
}

async fn only_the_named_timelines_are_served(backend: Backend) {
    let app = App::start(backend).await;
    let mut timelines = Vec::new();
    for slug in ["one", "two", "three"] {
        let timeline = app
            .timeline(definition(slug, 2, vec![email(1, 0, "A"), email(2, 0, "B")]))
            .await;
        crowd(&app, &timeline, slug, 4).await;
        timelines.push(timeline);
    }
    let only = |wanted: &[usize]| wanted.iter().map(|n| timelines[*n].timeline_id).collect::<Vec<i64>>();
    let sent = || -> BTreeSet<String> {
        let slug = |name: &str| {
            name.split('-')
                .nth(1)
                .map(|id| id.trim_end_matches(char::is_numeric).to_owned())
        };
        app.sent().iter().filter_map(|sent| slug(&sent.name)).collect()
    };
    let request = Process {
        timeline_ids: only(&[0, 2]),
        ..Default::default()
    };
    assert_eq!(mails(&process(&app, request.clone()).await.expect("a summary")), 8);
    assert_eq!(sent(), ["one", "three"].map(str::to_owned).into());
    assert_eq!(mails(&process(&app, request).await.expect("a summary")), 0);

    app.set("2026-01-06T00:00:00Z");
    let request = pb::AdvanceCampaignDaysRequest {
        timeline_ids: only(&[2]),
        ..Default::default()
    };
    let advanced = advance(&app, request).await.expect("a summary");
    assert_eq!(advanced.counts.expect("counts").advanced_runs, 4);
    let days: Vec<i32> = [app.progress("one0000").await, app.progress("three0000").await]
        .iter()
        .map(|run| run.current_day)
        .collect();
    assert_eq!(days, [1, 2]);
    app.hourly().await;
    assert_eq!(
        app.sent_count(),
        24,
        "the one of the second timeline that was left out goes late"
    );
}

async fn parts_together_do_the_work_of_one(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app
        .timeline(definition("hook", 2, vec![email(1, 0, "A"), email(2, 0, "B")]))
        .await;
    let ids = crowd(&app, &timeline, "c", 60).await;
    let part = |index| Some(pb::TickPartition { index, count: 3 });
    let serve = async |index| {
        let request = Process {
            partition: part(index),
            ..Default::default()
        };
        process(&app, request).await.expect("a summary")
    };
    let first = serve(0).await;
    assert!((1..60).contains(&mails(&first)), "{first:?}");
    assert_eq!(
        smtp.deliveries().len(),
        usize::try_from(mails(&first)).expect("a number")
    );
    assert_eq!(mails(&serve(0).await), 0);
    let (second, third) = tokio::join!(serve(1), serve(2));
    assert_eq!(mails(&first) + mails(&second) + mails(&third), 60);
    assert!(mails(&second) > 0 && mails(&third) > 0);
    assert_each_got(&smtp, &ids, 1);

    app.set("2026-01-06T00:00:00Z");
    let move_on = async |index| {
        let request = pb::AdvanceCampaignDaysRequest {
            partition: part(index),
            ..Default::default()
        };
        let summary = advance(&app, request).await.expect("a summary");
        summary.counts.expect("counts").advanced_runs
    };
    let (a, b, c) = tokio::join!(move_on(2), move_on(0), move_on(1));
    assert_eq!((a, b, c), (mails(&third), mails(&first), mails(&second)));
    app.hourly().await;
    assert_each_got(&smtp, &ids, 2);
}

/// One mail at a time, and each takes half a second until it is given up: forty of them don't fit into eight seconds.
async fn a_short_deadline_stops_a_tick_and_the_next_goes_on(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| {
        config.email_concurrency = 1;
        config.send_timeout = Duration::from_millis(500);
    })
    .await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 40).await;
    smtp.behave(Behaviour::Stall(Step::Rcpt));
    let mut request = Request::new(Process::default());
    request.set_timeout(Duration::from_secs(8));
    let response = app.ticks().process_campaign_timelines(request).await;
    let mut stream = response.expect("a stream").into_inner();
    let summary = loop {
        let news = stream.message().await.expect("in time").expect("news");
        if let Some(Update::Summary(summary)) = news.update {
            break summary;
        }
    };
    let tried = mail_counts(&summary).retrying;
    assert!(summary.has_more && (1..40).contains(&tried), "{summary:?}");
    let mut retrying = 0;
    for id in &ids {
        let run = app.progress(id).await;
        assert!(
            run.in_flight_actions.is_empty() && run.completed_actions.is_empty(),
            "{run:?}"
        );
        retrying += i64::try_from(run.failed_actions.len()).expect("a number");
    }
    assert_eq!(retrying, tried);

    smtp.accept_all();
    app.pass_hours(1);
    assert!(!app.hourly().await.has_more);
    assert_each_got(&smtp, &ids, 1);
}

/// Waits, which need no room on any channel, so that what is done is what was taken up.
async fn a_large_timeline_does_not_starve_a_small_one(backend: Backend) {
    let app = App::start(backend).await;
    let wait = || action(1, 0, pb::Channel::Wait, pb::ActionType::Wait, "");
    let large = app.timeline(definition("large", 1, vec![wait()])).await;
    let small = app.timeline(definition("small", 1, vec![wait()])).await;
    crowd(&app, &large, "large", 1020).await;
    let few = crowd(&app, &small, "small", 10).await;
    let request = Process {
        max_actions: 1015,
        ..Default::default()
    };
    let waited = |summary: &pb::TickSummary| summary.counts.as_ref().expect("counts").channels[0].completed;
    let summary = process(&app, request).await.expect("a summary");
    assert_eq!((waited(&summary), summary.has_more), (1015, true));
    for id in &few {
        assert_eq!(app.progress(id).await.completed_actions.len(), 1, "{id}");
    }
    let rest = app.hourly().await;
    assert_eq!((waited(&rest), rest.has_more), (15, false));
}

async fn what_is_due_at_once_goes_in_one_tick_and_in_order(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let call = |key| pb::ActionDefinition {
        key,
        ..action(1, 13, pb::Channel::Phone, pb::ActionType::MakeCall, "A")
    };
    let task = |key| pb::ActionDefinition {
        key,
        ..action(1, 13, pb::Channel::Interaction, pb::ActionType::CreateTask, "A")
    };
    let wait = |key| pb::ActionDefinition {
        key,
        ..action(1, 13, pb::Channel::Wait, pb::ActionType::Wait, "")
    };
    let mail = |key| pb::ActionDefinition {
        key,
        ..email(1, 13, "A")
    };
    let text = |key| pb::ActionDefinition { key, ..sms(1, 13, "A") };
    // In an order that is not that of keys, channels or ids; then a dozen mails, which is more than one claim takes.
    let mut actions = vec![
        mail("m9".to_owned()),
        text("t3".to_owned()),
        mail("m1".to_owned()),
        task("k".to_owned()),
        wait("w".to_owned()),
        call("p".to_owned()),
        text("t1".to_owned()),
    ];
    actions.extend((0..12).map(|n| mail(format!("x{:02}", 11 - n))));
    for (priority, action) in (-3..).zip(&mut actions) {
        action.priority = priority;
    }
    let expected: Vec<String> = actions.iter().map(|action| action.key.clone()).collect();
    actions.reverse();
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    let ids = crowd(&app, &timeline, "c", 3).await;
    app.hourly().await;
    assert_eq!(app.sent_count(), 0);
    app.pass_hours(1);
    let summary = app.hourly().await;
    assert_eq!((mails(&summary), summary.has_more), (14 * 3, false));
    for id in &ids {
        let run = app.progress(id).await;
        // A wait needs nobody, so it is over as soon as it is planned.
        let done = keys(run.completed_actions.iter().map(|done| &done.action));
        let sent: Vec<&String> = done.iter().filter(|key| *key != "w").collect();
        let expected: Vec<&String> = expected.iter().filter(|key| *key != "w").collect();
        assert_eq!(sent, expected, "{id}");
        assert_eq!(done.len(), 19, "{id}");
        let mails: Vec<String> = run
            .completed_actions
            .iter()
            .filter(|done| {
                done.action
                    .as_ref()
                    .is_some_and(|action| action.channel() == pb::Channel::Email)
            })
            .map(|done| done.provider_id.clone())
            .collect();
        let arrived = crate::support::mailing::arrived(&smtp);
        assert_eq!(arrived[&format!("{id}@example.com")], mails, "{id}");
    }
    assert_eq!(app.hourly().await.counts.expect("counts"), pb::TickCounts::default());
}

async fn what_goes_at_most_once_is_claimed_alone(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let actions = vec![
        email(1, 1, "A"),
        email(1, 2, "B"),
        sms(1, 3, "C"),
        email(1, 4, "D"),
        email(1, 5, "E"),
    ];
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    let in_flight = async || {
        let run = app.progress("anna").await;
        keys(run.in_flight_actions.iter().map(|action| &action.action))
    };
    smtp.behave(Behaviour::Stall(Step::Mail));
    tokio::join!(app.hourly(), async {
        smtp.until_stalled(1).await;
        assert_eq!(in_flight().await, ["d1h1A", "d1h2B"], "up to the text message");
        assert_eq!(app.sent_count(), 0);
        smtp.release();
        // The second mail of the claim; then the text message by itself; then the others together.
        until_run(&app, "anna", |run| {
            if run.completed_actions.len() < 3 {
                smtp.release();
            }
            run.completed_actions.len() == 3 && !run.in_flight_actions.is_empty()
        })
        .await;
        assert_eq!(in_flight().await, ["d1h4D", "d1h5E"]);
        assert_eq!(app.sent_count(), 1);
        smtp.accept_all();
        smtp.release();
    });
    assert_each_got(&smtp, &["anna".to_owned()], 4);
}

async fn the_summary_says_what_is_next(backend: Backend) {
    let app = App::start(backend).await;
    let idle = app.hourly().await;
    assert_eq!((idle.next_due_time, idle.oldest_due_time), (None, None));
    let actions = vec![email(1, 0, "A"), email(1, 18, "B")];
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    crowd(&app, &timeline, "c", 3).await;
    let request = Process {
        max_actions: 1,
        ..Default::default()
    };
    let some = hourly(&mut app.ticks(), request).await.expect("a summary");
    assert!(some.has_more);
    assert_eq!(shown(some.next_due_time), "2026-01-05T12:00:00Z");
    assert_eq!(shown(some.oldest_due_time), "2026-01-05T12:00:00Z");
    let rest = app.hourly().await;
    assert_eq!(
        (shown(rest.next_due_time).as_str(), rest.oldest_due_time),
        ("2026-01-05T18:00:00Z", None)
    );
    assert_eq!(shown(rest.start_time), "2026-01-05T12:00:00Z");
}
