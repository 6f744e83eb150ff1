//! One attempt after the other: which are repeated, when, and as what.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::{FailureReason, FailureState};
use chrono::TimeDelta;
use std::time::Duration;

use super::{counts, failure, kind};
use crate::support::given::{definition, email, sms};
use crate::support::mailing::{arrived, crowd, mailing_app, mailing_app_with};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{Backend, on_each_database};

on_each_database!(
    what_is_refused_for_now_is_repeated_with_backoff_up_to_a_limit,
    replies_decide_between_again_and_for_good,
    a_connection_that_breaks_costs_an_attempt_and_keeps_the_message_id,
    silence_is_bounded_by_the_time_out_and_harms_nobody_else,
    a_repeated_mail_holds_up_nothing_else_of_its_run,
);

fn instant(time: Option<prost_types::Timestamp>) -> Timestamp {
    let time = time.expect("an instant");
    Timestamp::from_timestamp(time.seconds, u32::try_from(time.nanos).expect("nanos")).expect("an instant")
}

async fn what_is_refused_for_now_is_repeated_with_backoff_up_to_a_limit(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| config.retry_attempts = 4).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    smtp.behave(Behaviour::Reply(Step::Rcpt, "451 4.3.0 come again"));

    for (attempt, minutes) in [(1, 5), (2, 10), (3, 20)] {
        let summary = app.hourly().await;
        assert_eq!(counts(&summary, pb::Channel::Email).retrying, 1);
        let failed = failure(&app, "anna").await;
        let expected = (FailureState::Retrying, FailureReason::Temporary, attempt);
        assert_eq!(kind(&failed), expected);
        assert_eq!(failed.error, "451 4.3.0 come again");
        let (failed_at, next) = (instant(failed.fail_time), instant(failed.next_retry_time));
        let tenths = (next - failed_at).num_milliseconds() * 10 / TimeDelta::minutes(minutes).num_milliseconds();
        assert!(
            (8..=12).contains(&tenths),
            "{minutes} minutes, give or take a fifth: {failed:?}"
        );
        let run = app.progress("anna").await;
        assert_eq!(instant(run.next_action.expect("next").due_time), next);

        // Not a moment earlier.
        app.clock.set(next - TimeDelta::microseconds(1));
        let summary = app.hourly().await;
        assert_eq!(counts(&summary, pb::Channel::Email), pb::ChannelCounts::default());
        assert_eq!(smtp.mails(), usize::try_from(attempt).expect("a number"));
        app.clock.set(next);
    }
    let summary = app.hourly().await;
    assert_eq!(counts(&summary, pb::Channel::Email).failed, 1);
    let failed = failure(&app, "anna").await;
    assert_eq!(kind(&failed), (FailureState::Failed, FailureReason::Temporary, 4));
    assert_eq!(
        (failed.error.as_str(), failed.next_retry_time),
        ("451 4.3.0 come again", None)
    );

    smtp.accept_all();
    app.tick_hours(48).await;
    assert_eq!((smtp.mails(), smtp.deliveries().len()), (4, 0), "final is final");
    assert_eq!(app.progress("anna").await.status(), pb::ProgressStatus::Completed);
}

async fn replies_decide_between_again_and_for_good(backend: Backend) {
    use FailureReason::{Rejected, Suppressed, Temporary};
    use FailureState::{Failed, Retrying};
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let cases = [
        (Step::Rcpt, "450 4.2.1 mailbox busy", Retrying, Temporary),
        (Step::Dot, "452 4.3.1 disk full", Retrying, Temporary),
        (Step::Rcpt, "421 4.3.2 shutting down", Retrying, Temporary),
        (Step::Rcpt, "550 5.7.1 blocked by policy", Failed, Rejected),
        (Step::Dot, "552 5.3.4 too big", Failed, Rejected),
        (Step::Dot, "554 spam", Failed, Rejected),
        (Step::Rcpt, "550 5.1.1 no such user", Failed, Suppressed),
        (Step::Dot, "550 5.1.1 no such user", Failed, Suppressed),
    ];
    let bad = crowd(&app, &timeline, "bad", cases.len()).await;
    let good = crowd(&app, &timeline, "good", 30).await;
    for (id, (step, reply, _, _)) in bad.iter().zip(cases) {
        let address = format!("{id}@example.com");
        match step {
            Step::Dot => smtp.reply_to_data(&address, reply),
            Step::Connect | Step::Mail | Step::Rcpt | Step::Data => smtp.reply_to_rcpt(&address, reply),
        }
    }
    let summary = app.hourly().await;
    let expected = pb::ChannelCounts {
        channel: pb::Channel::Email.into(),
        completed: 30,
        failed: 5,
        retrying: 3,
        ..Default::default()
    };
    assert_eq!(counts(&summary, pb::Channel::Email), expected);
    for (id, (_, reply, state, reason)) in bad.iter().zip(cases) {
        let failed = failure(&app, id).await;
        assert_eq!(
            (kind(&failed), failed.error.as_str()),
            ((state, reason, 1), reply),
            "{id}"
        );
        assert_eq!(failed.next_retry_time.is_some(), state == Retrying, "{id}");
    }
    for id in &good {
        assert_eq!(app.progress(id).await.completed_actions.len(), 1, "{id}");
    }

    // What is to go again goes, and what failed for good does not, also when the server has changed its mind.
    smtp.accept_all();
    app.pass_hours(1);
    app.hourly().await;
    let arrived = arrived(&smtp);
    for (id, (_, _, state, _)) in bad.iter().zip(cases) {
        let came = arrived.get(&format!("{id}@example.com")).map_or(0, Vec::len);
        assert_eq!(came, usize::from(state == Retrying), "{id}");
        let run = app.progress(id).await;
        let attempts: Vec<i32> = run.completed_actions.iter().map(|done| done.attempts).collect();
        assert_eq!(attempts, vec![2; came], "{id}");
        assert_eq!(run.failed_actions.len(), 1 - came, "{id}");
    }
    assert_eq!(arrived.len(), 33);
}

async fn a_connection_that_breaks_costs_an_attempt_and_keeps_the_message_id(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    // Where it breaks, what that means, and whether the server has the mail by then.
    for (name, step, reason, has_mail) in [
        ("connect", Step::Connect, FailureReason::Temporary, false),
        ("recipient", Step::Rcpt, FailureReason::Temporary, false),
        ("data", Step::Data, FailureReason::Temporary, false),
        ("dot", Step::Dot, FailureReason::OutcomeUnknown, true),
    ] {
        let timeline = app.timeline(definition(name, 1, vec![email(1, 0, "A")])).await;
        app.customer(name, "Etc/UTC").await;
        app.start_run(name, &timeline).await;
        smtp.hang_up().await;
        smtp.behave(Behaviour::Drop(step));
        app.hourly().await;
        let failed = failure(&app, name).await;
        assert_eq!(kind(&failed), (FailureState::Retrying, reason, 1), "{name}");
        assert!(!failed.error.is_empty(), "{name}");
        smtp.accept_all();
        app.clock.set(instant(failed.next_retry_time));
        app.hourly().await;

        let run = app.progress(name).await;
        let [done] = run.completed_actions.as_slice() else {
            panic!("{name}: {run:?}")
        };
        assert_eq!((done.attempts, run.failed_actions.len()), (2, 0), "{name}");
        let ids = arrived(&smtp).remove(&format!("{name}@example.com")).expect("a mail");
        assert_eq!(ids, vec![done.provider_id.clone(); 1 + usize::from(has_mail)], "{name}");
    }
    let mut ids: Vec<String> = arrived(&smtp).into_values().map(|mut ids| ids.remove(0)).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "no two customers share a Message-ID");
}

async fn silence_is_bounded_by_the_time_out_and_harms_nobody_else(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| {
        config.send_timeout = Duration::from_secs(2);
        config.lease = Duration::from_secs(12);
    })
    .await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 20).await;
    // Silence at RCPT for the first alone.
    smtp.behave(Behaviour::Stall(Step::Rcpt));
    for id in &ids[1..] {
        smtp.reply_to_rcpt(&format!("{id}@example.com"), "250 2.1.5 OK");
    }
    let summary = app.hourly().await;
    let seen = counts(&summary, pb::Channel::Email);
    assert_eq!((seen.completed, seen.retrying), (19, 1), "{summary:?}");
    let failed = failure(&app, &ids[0]).await;
    let expected = (FailureState::Retrying, FailureReason::Temporary, 1);
    assert_eq!(kind(&failed), expected, "{failed:?}");
    assert!(failed.error.contains("no answer"), "{failed:?}");

    // Silence after the final dot: perhaps delivered, so it goes again as the same mail.
    smtp.accept_all();
    smtp.behave(Behaviour::Stall(Step::Dot));
    app.clock.set(instant(failed.next_retry_time));
    app.hourly().await;
    let failed = failure(&app, &ids[0]).await;
    let expected = (FailureState::Retrying, FailureReason::OutcomeUnknown, 2);
    assert_eq!(kind(&failed), expected, "{failed:?}");
    smtp.accept_all();
    app.clock.set(instant(failed.next_retry_time));
    app.hourly().await;
    let run = app.progress(&ids[0]).await;
    assert_eq!(run.completed_actions[0].attempts, 3);
    let got = arrived(&smtp);
    assert_eq!(
        got[&format!("{}@example.com", ids[0])],
        vec![run.completed_actions[0].provider_id.clone(); 2]
    );
    assert_eq!(got.values().map(Vec::len).sum::<usize>(), 21);
}

async fn a_repeated_mail_holds_up_nothing_else_of_its_run(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let actions = vec![email(1, 0, "A"), sms(1, 1, "B"), email(2, 9, "C")];
    let timeline = app.timeline(definition("hook", 3, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    smtp.behave(Behaviour::Reply(Step::Mail, "451 4.3.0 come again"));
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!((run.failed_actions.len(), run.completed_actions.len()), (1, 1));
    assert_eq!(app.sent_to("anna"), ["20260105T120000Z sms"]);

    // The day advances although the mail of day 1 is still on its way, and day 2 is served in its hour.
    app.tick_hours(12).await;
    assert_eq!(app.progress("anna").await.current_day, 2);
    app.tick_hours(8).await;
    smtp.accept_all();
    app.tick_hours(1).await;
    let run = app.progress("anna").await;
    assert_eq!(smtp.deliveries().len(), run.completed_actions.len() - 1);
    let ended: Vec<_> = run.failed_actions.iter().map(kind).collect();
    assert_eq!(
        run.completed_actions
            .last()
            .expect("done")
            .action
            .as_ref()
            .expect("an action")
            .key,
        "d2h9C"
    );
    assert!(
        ended.iter().all(|(state, ..)| *state == FailureState::Failed),
        "{ended:?}"
    );
}
