//! What went wrong elsewhere, rebuilt: each of these is a failure that users of other systems reported, and fails here as well when
//! the guard that is named is taken out.
//! The guards of what operators and clocks do are named where their tests are:
//!
//! | guard | test |
//! |---|---|
//! | a hold is looked at before the first byte (`Engine::is_held_now`), in a view that is a second old at most (`GOOD_FOR`) | `holds::a_hold_of_another_server_stops_what_was_claimed_before` |
//! | a claim and a hold exclude each other (`Txn::hold_timeline`, `Txn::lock_holds`) | `holds::races` |
//! | claims know the holds (`Engine::facts_of`, `SendingHolds::until`) | `holds::a_hold_stops_what_is_in_its_scope_and_nothing_else`, `model::random_schedules_keep_the_rules` |
//! | what was held has its turn (`share_of` a run) | `holds::release::a_crowd_goes_minute_by_minute` |
//! | clocks that differ claim nothing (`agrees` in `skew.rs`) | `clocks` |
//! | a fence plays runs up to its instant (`FencedTimeline::fence`), ends them as unknown by the policy of their channel (`Player::end`), and leaves those alone that were not served | `fence`, `domain::fence::tests` |
//! | a heartbeat prolongs what is under way (`Engine::prolong_leases`) | `kills::frozen::a_lease_that_is_prolonged_is_not_taken_over` |
//! | the oldest first (`order by p.next_action_at` in `Session::due`) | `store::claims::due_runs_come_oldest_first_and_pages_leave_no_gap` |
//! | room is given back (`Drop for Place`) | `failures::slow::what_cannot_begin_in_time_is_given_back_and_goes_later` |
//!
//! And those of failures in the field:
//!
//! | report | what happened there | our guard | test |
//! |---|---|---|---|
//! | glific#5758 | a message was sent, then a later step of the same job raised, and the retried job sent it again | what was sent is recorded by itself, whatever comes after it, and a record that fails is repeated without the send (`RECORD_TRIES` in `Recorder::record`; one `Served` for a run, errors as outcomes) | `a_later_step_that_fails_repeats_no_message`, `a_record_that_fails_repeats_no_message` |
//! | oban#532 | a late attempt 2 overwrote the final state of attempt 3 | `p.lease_token = u.token` in `Txn::complete` | `failures::overtaken`, `store::leases::an_outcome_counts_under_its_lease_and_once` |
//! | oban#424 | a job stuck as executing, and unique, was never enqueued again | a lease that is over is free to claim (`p.lease_expires_at <= $2` in `Session::due`), and a run can be stopped while it is held | `a_run_whose_server_died_holds_up_no_other` |
//! | hexpm#1825 | jobs were rescued after 6 minutes and took 47, so that each ran two or three times | a lease that is not longer than the send time-out by 10 s is refused (`Config::routes`), and a send ends with its time-out | `a_lease_shorter_than_a_send_is_refused`, `failures::attempts::silence_is_bounded_by_the_time_out_and_harms_nobody_else` |
//! | river#1258 | 5,133 jobs were running for months: the rescuer took the same batch, which it could not rescue, again and again | the cursor of a tick (`Engine::claim_due`), which walks on over what it could not claim | `what_can_never_be_claimed_holds_up_nobody`, `store::claims::what_comes_back_at_once_holds_up_nobody` |
//! | mautic#3669 | cron jobs that ran in the same second sent everything twice | a run that somebody holds is neither read (`p.lease_expires_at <= $2` in `Session::due`) nor claimed (`p.lease_expires_at <= $1` in `Txn::claim`): each alone is enough for ticks, whose claim commits before anything is sent | `jobs_in_the_same_second_send_once` (both out), `store::claims::a_claim_finds_the_run_as_it_was_read_or_does_nothing` (that of the claim), `store::claims::many_claimers_share_all_that_is_due` (that of the read) |
//! | mautic#7226 | one contact's 554 kept the others of its batch from being recorded, and they got the mail for ever | outcomes are those of a run, recorded whatever became of its batch (`Recorder::record`) | `one_rejected_address_repeats_nobody_elses_mail` |
//! | mautic#16188 | rows that were locked were selected again at once, so that the job never ended, and no other could begin | the cursor, and no pass without something recorded (`Flight::take_due_again`) | `what_can_never_be_claimed_holds_up_nobody` |
//! | listmonk#3022 | a restart went on where reading had been, not where sending had been: half got nothing, others several | what is done is kept per run, by `Txn::complete` alone; each tick reads anew, from the beginning | `restarts_in_the_middle_skip_and_repeat_nobody` |

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use sea_orm::{ConnectionTrait as _, Database};
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;

use crate::support::app::{daily, hourly};
use crate::support::given::{customer, definition, email, refused, sms};
use crate::support::mailing::{arrived, assert_each_got, crowd, keys, mailing_app, mailing_app_with};
use crate::support::process::{CAMPAIGND, check, program, run};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, Watched, on_each_database};

on_each_database!(
    a_later_step_that_fails_repeats_no_message,
    a_record_that_fails_repeats_no_message,
    a_run_whose_server_died_holds_up_no_other,
    what_can_never_be_claimed_holds_up_nobody,
    jobs_in_the_same_second_send_once,
    one_rejected_address_repeats_nobody_elses_mail,
    restarts_in_the_middle_skip_and_repeat_nobody,
);

/// Another server on the app's database, which mails to the same server.
async fn another(app: &App, smtp: &SmtpServer) -> (Watched, Channel) {
    use campaign_automation::channels::{ChannelUrl, Mailbox};
    let (email, from) = (
        ChannelUrl::parse(&smtp.url()),
        Mailbox::parse("Shop <shop@example.com>"),
    );
    app.server_on(&app.database.url, |config| {
        config.channels.email_url = Some(email.expect("a URL"));
        config.channels.email_from = Some(from.expect("a sender"));
    })
    .await
}

async fn tick(channel: &Channel) -> pb::TickSummary {
    let mut client = CampaignTickServiceClient::new(channel.clone());
    let request = pb::ProcessCampaignTimelinesRequest::default();
    hourly(&mut client, request).await.expect("a summary")
}

/// Stores customers, and starts them all on a timeline.
async fn started(app: &App, timeline: &pb::Timeline, prefix: &str, count: usize) {
    let ids: Vec<String> = (0..count).map(|n| format!("{prefix}{n}")).collect();
    for ids in ids.chunks(1000) {
        let request = pb::UpsertCustomersRequest {
            customers: ids.iter().map(|id| customer(id, "Etc/UTC")).collect(),
            ..Default::default()
        };
        app.upsert(request).await.expect("customers");
        let start = |id: &String| pb::TimelineStart {
            customer_id: id.clone(),
            timeline_id: timeline.timeline_id,
            ..Default::default()
        };
        let request = pb::StartTimelinesRequest {
            starts: ids.iter().map(start).collect(),
            ..Default::default()
        };
        app.orchestrator().start_timelines(request).await.expect("runs");
    }
}

/// Runs statements that a test changes the database with.
async fn alter(app: &App, statements: &[&str]) {
    let database = Database::connect(&app.database.url).await.expect("the database");
    for statement in statements {
        database.execute_unprepared(statement).await.expect(statement);
    }
    database.close().await.expect("closed");
}

/// glific#5758, where the later step is another message of the same run.
async fn a_later_step_that_fails_repeats_no_message(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let campaign = pb::CampaignDefinition {
        campaign_id: "BROKEN".to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: "Hello".to_owned(),
        text_body: "{{ customer.attributes.not_there.at_all }}".to_owned(),
        ..Default::default()
    };
    let request = pb::ApplyCampaignRequest {
        campaign: Some(campaign),
        ..Default::default()
    };
    app.content().apply_campaign(request).await.expect("a campaign");
    let actions = vec![
        email(1, 0, "A"),
        email(1, 1, "BROKEN"),
        email(1, 2, "C"),
        sms(1, 3, "D"),
    ];
    let timeline = app.timeline(definition("hook", 2, actions)).await;
    let ids = crowd(&app, &timeline, "c", 10).await;
    for _ in 0..3 {
        app.hourly().await;
        app.pass_hours(1);
    }
    assert_each_got(&smtp, &ids, 2);
    for id in &ids {
        let run = app.progress(id).await;
        let done = keys(run.completed_actions.iter().map(|done| &done.action));
        assert_eq!(done, ["d1h0A", "d1h2C", "d1h3D"], "{id}");
        assert_eq!(
            keys(run.failed_actions.iter().map(|failed| &failed.action)),
            ["d1h1BROKEN"],
            "{id}"
        );
        assert_eq!(app.sent_to(id).len(), 1, "{id}");
    }
    app.server.shutdown().await.expect("stopped");
}

/// glific#5758, where the later step is the record itself.
async fn a_record_that_fails_repeats_no_message(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app
        .timeline(definition("hook", 2, vec![email(1, 0, "A"), sms(1, 0, "B")]))
        .await;
    let ids = crowd(&app, &timeline, "c", 5).await;
    smtp.behave(Behaviour::Stall(Step::Dot));
    let mut client = app.ticks();
    let ticked = tokio::spawn(async move { hourly(&mut client, pb::ProcessCampaignTimelinesRequest::default()).await });
    smtp.until_stalled(1).await;
    let (raise, calm): (&[&str], &[&str]) = match backend {
        Backend::Sqlite => (
            &["create trigger raising before insert on action_executions begin select raise(abort, 'later'); end"],
            &["drop trigger raising"],
        ),
        Backend::Postgres => (
            &[
                "create function raising() returns trigger language plpgsql as $$ begin raise 'later'; end $$",
                "create trigger raising before insert on action_executions for each row execute function raising()",
            ],
            &["drop trigger raising on action_executions"],
        ),
    };
    alter(&app, raise).await;
    let statements = || app.server.engine().store().statements();
    let before = statements();
    smtp.accept_all();
    smtp.release();
    // Two statements, of which the second raises; the third is the next try.
    while statements() < before + 3 {
        tokio::task::yield_now().await;
    }
    for id in &ids {
        assert!(
            app.progress(id).await.completed_actions.is_empty(),
            "{id}: nothing of it is recorded"
        );
    }
    alter(&app, calm).await;
    let summary = ticked.await.expect("a tick").expect("a summary");
    assert!(!summary.has_more, "{summary:?}");
    for _ in 0..3 {
        app.pass_hours(1);
        app.hourly().await;
    }
    assert_each_got(&smtp, &ids, 1);
    for id in &ids {
        assert_eq!(app.progress(id).await.completed_actions.len(), 2, "{id}");
        assert_eq!(app.sent_to(id).len(), 1, "{id}");
    }
    app.server.shutdown().await.expect("stopped");
}

/// oban#424. The server does not come back; what it had claimed goes on elsewhere, and does not stand in the way of a start.
async fn a_run_whose_server_died_holds_up_no_other(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| {
        config.shutdown_grace = Duration::from_millis(1);
    })
    .await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 2).await;
    let (server, channel) = another(&app, &smtp).await;
    // Its tick is never heard of again, as it waits for a mail server that never answers it.
    smtp.behave(Behaviour::Stall(Step::Rcpt));
    let mut client = app.ticks();
    let lost = tokio::spawn(async move { hourly(&mut client, pb::ProcessCampaignTimelinesRequest::default()).await });
    smtp.until_stalled(2).await;
    let held = app.progress(&ids[0]).await.progress_id;
    app.server.shutdown().await.expect("stopped");
    lost.abort();
    smtp.accept_all();

    // Held, and so not served by anybody else, but it can be stopped and started anew.
    let mut runs = CampaignOrchestratorServiceClient::new(channel.clone());
    let start = |allow_restart| pb::StartTimelineRequest {
        customer_id: ids[0].clone(),
        timeline_id: timeline.timeline_id,
        allow_restart,
        ..Default::default()
    };
    assert_eq!(tick(&channel).await.counts.expect("counts").channels, []);
    refused(
        runs.start_timeline(start(false)).await,
        Code::AlreadyExists,
        "RUN_IS_LIVE",
        &[],
    );
    let request = pb::StopTimelineRequest {
        customer_id: ids[0].clone(),
        progress_id: held,
        ..Default::default()
    };
    runs.stop_timeline(request).await.expect("stopped");
    runs.start_timeline(start(true)).await.expect("a run");
    assert_eq!(tick(&channel).await.counts.expect("counts").channels[0].completed, 1);

    // The other is free when the lease is over; what may have been sent goes again as the same mail.
    for _ in 0..2 {
        app.clock.advance(chrono::Duration::minutes(10));
        tick(&channel).await;
    }
    let request = pb::GetProgressRequest {
        customer_id: ids[1].clone(),
        progress_id: 0,
    };
    let run = runs
        .get_progress(request)
        .await
        .expect("a run")
        .into_inner()
        .progress
        .expect("a run");
    assert_eq!(run.completed_actions.len(), 1, "{run:?}");
    assert_each_got(&smtp, &ids, 1);
    refused(
        runs.start_timeline(pb::StartTimelineRequest {
            customer_id: ids[1].clone(),
            ..start(false)
        })
        .await,
        Code::AlreadyExists,
        "RUN_IS_LIVE",
        &[],
    );
    server.shutdown().await.expect("stopped");
}

/// hexpm#1825.
#[test]
fn a_lease_shorter_than_a_send_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    for (lease, timeout) in [("6m", "47m"), ("60s", "60s"), ("69999ms", "60s")] {
        let arguments = ["--listen", "127.0.0.1:0", "--lease", lease, "--send-timeout", timeout];
        let output = run(program(CAMPAIGND, directory.path(), &arguments));
        check(&output, 1, &["CAMPAIGN_LEASE", "CAMPAIGN_SEND_TIMEOUT", "10 seconds"]);
    }
}

/// river#1258 and mautic#16188: more than a batch of runs whose rows nobody can change, as those that others hold for ever, and behind them
/// those that can be served. The tick serves these, and comes to an end.
async fn what_can_never_be_claimed_holds_up_nobody(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    started(&app, &timeline, "stuck", 600).await;
    app.clock.advance(chrono::Duration::seconds(1));
    started(&app, &timeline, "good", 20).await;
    let ignore: &[&str] = match backend {
        Backend::Sqlite => &["create trigger stuck before update on customer_timeline_progress \
             when old.customer_id like 'stuck%' begin select raise(ignore); end"],
        Backend::Postgres => &[
            "create function stuck() returns trigger language plpgsql as $$ begin return null; end $$",
            "create trigger stuck before update on customer_timeline_progress for each row \
             when (old.customer_id like 'stuck%') execute function stuck()",
        ],
    };
    alter(&app, ignore).await;
    for due in [20, 0, 0] {
        let ticked = tokio::time::timeout(Duration::from_secs(60), app.hourly());
        let summary = ticked.await.expect("the tick ends");
        let counts = summary.counts.expect("counts");
        let completed: i64 = counts.channels.iter().map(|channel| channel.completed).sum();
        assert_eq!(completed, due, "{counts:?}");
        assert_eq!(app.progress("stuck0").await.in_flight_actions, []);
    }
    assert_eq!(app.sent_count(), 20);

    // And they are as they were, once somebody frees them.
    let free = match backend {
        Backend::Sqlite => "drop trigger stuck",
        Backend::Postgres => "drop trigger stuck on customer_timeline_progress",
    };
    alter(&app, &[free]).await;
    app.hourly().await;
    assert_eq!(app.sent_count(), 620);
    app.server.shutdown().await.expect("stopped");
}

/// mautic#3669: all jobs at once, on two servers.
async fn jobs_in_the_same_second_send_once(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app
        .timeline(definition("hook", 3, vec![email(1, 23, "A"), email(2, 0, "B")]))
        .await;
    let ids = crowd(&app, &timeline, "c", 150).await;
    let (server, channel) = another(&app, &smtp).await;
    for (time, mails) in [
        ("2026-01-05T23:00:00Z", 1),
        ("2026-01-06T00:00:00Z", 2),
        ("2026-01-06T01:00:00Z", 2),
    ] {
        app.set(time);
        let channels = [app.channel(), channel.clone()];
        let jobs = (0..8).map(|number| {
            let (channel, id) = (channels[number % 2].clone(), ids[number].clone());
            tokio::spawn(async move {
                match number {
                    0..4 => drop(tick(&channel).await),
                    4 | 5 => {
                        let request = pb::AdvanceCampaignDaysRequest::default();
                        daily(&mut CampaignTickServiceClient::new(channel), request)
                            .await
                            .expect("a summary");
                    }
                    _ => {
                        let request = pb::ExecuteActionsRequest {
                            customer_id: id,
                            ..Default::default()
                        };
                        let mut client = CampaignOrchestratorServiceClient::new(channel);
                        client.execute_actions(request).await.expect("results");
                    }
                }
            })
        });
        for job in jobs.collect::<Vec<_>>() {
            job.await.expect("a job");
        }
        assert_each_got(&smtp, &ids, mails);
    }
    server.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

async fn one_rejected_address_repeats_nobody_elses_mail(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    let mut ids = crowd(&app, &timeline, "c", 30).await;
    let bad = ids.remove(15);
    smtp.reply_to_data(
        &format!("{bad}@example.com"),
        "554 message rejected: address is not verified",
    );
    for failed in [1, 0, 0] {
        let counts = app.hourly().await.counts.expect("counts");
        assert_eq!(
            counts.channels.iter().map(|channel| channel.failed).sum::<i64>(),
            failed
        );
        app.pass_hours(1);
    }
    assert_each_got(&smtp, &ids, 1);
    assert_eq!(smtp.mails(), 30, "the rejected one was tried once");
    let run = app.progress(&bad).await;
    assert_eq!(run.failed_actions[0].state(), pb::FailureState::Failed, "{run:?}");
    app.server.shutdown().await.expect("stopped");
}

/// listmonk#3022: three times the server is told to stop while it sends.
async fn restarts_in_the_middle_skip_and_repeat_nobody(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 200).await;
    for restart in 1..=3 {
        smtp.behave(Behaviour::Stall(Step::Dot));
        let (server, channel) = another(&app, &smtp).await;
        let mut client = CampaignTickServiceClient::new(channel);
        // Servers of a test draw the same random names.
        let request = pb::ProcessCampaignTimelinesRequest {
            tick_id: format!("before-restart-{restart}"),
            ..Default::default()
        };
        let ticked = tokio::spawn(async move { hourly(&mut client, request).await });
        let stalled = tokio::time::timeout(Duration::from_secs(60), smtp.until_stalled(16));
        stalled.await.expect("there is more to send");
        // It is told before what is under way can end.
        let (stopped, ()) = tokio::join!(server.shutdown(), async {
            smtp.accept_all();
            smtp.release();
        });
        stopped.expect("stopped");
        drop(ticked.await.expect("a tick"));
        let served = arrived(&smtp).len();
        assert!(
            served >= 16 * restart && served < ids.len(),
            "{served} after restart {restart}"
        );
    }
    app.hourly().await;
    assert_each_got(&smtp, &ids, 1);
    for id in &ids {
        assert_eq!(app.progress(id).await.completed_actions.len(), 1, "{id}");
    }
    app.server.shutdown().await.expect("stopped");
}
