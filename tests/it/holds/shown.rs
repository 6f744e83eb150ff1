//! Where a hold is shown: in explanations, progress, summaries, lists, and by each server.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::sending_service_client::SendingServiceClient;
use tonic::Code;

use super::counts;
use crate::support::app::hourly;
use crate::support::given::{definition, email, refused, shown, sms};
use crate::support::holds::scope;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_held_action_says_so_everywhere,
    each_server_shows_the_holds,
    there_are_not_too_many,
);

async fn explained(app: &App, customer: &str) -> Vec<pb::ActionExplanation> {
    let request = pb::ExplainActionsRequest {
        customer_id: customer.to_owned(),
        progress_id: 0,
    };
    let response = app.orchestrator().explain_actions(request).await;
    response.expect("explanations").into_inner().runs.remove(0).actions
}

async fn a_held_action_says_so_everywhere(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app
        .timeline(definition(
            "hook",
            2,
            vec![email(1, 0, "A"), sms(1, 0, "B"), email(2, 9, "A")],
        ))
        .await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    let hold = app
        .hold(scope::channel(pb::Channel::Email), "bounces at the provider")
        .await;

    // What is told before a tick is what the tick does, and what is told after it.
    for is_before in [true, false] {
        let [mail, text, later] = explained(&app, "anna").await.try_into().expect("three actions");
        assert_eq!(
            (mail.standing(), mail.hold()),
            (pb::ActionStanding::Held, pb::ActionHold::SendingHeld)
        );
        assert_eq!(shown(mail.until_time), "2026-01-05T13:00:00Z");
        assert_eq!(mail.sending_hold.as_ref(), Some(&hold));
        assert_eq!(
            mail.summary,
            "Sending is held (channel:email): bounces at the provider; ReleaseSendingHold ends that, and else it is looked at \
             at 2026-01-05 13:00 Etc/UTC."
        );
        assert_eq!(text.sending_hold, None);
        assert_eq!(later.hold(), pb::ActionHold::DayNotReached);
        assert_eq!(later.sending_hold.as_ref(), Some(&hold));
        if is_before {
            let rehearsal = pb::ProcessCampaignTimelinesRequest {
                dry_run: true,
                ..Default::default()
            };
            let rehearsed = hourly(&mut app.ticks(), rehearsal).await.expect("a summary");
            assert_eq!((counts(&rehearsed).held, rehearsed.sending_holds.len()), (1, 1));
            let summary = app.hourly().await;
            let of_mails = counts(&summary).channels[0];
            assert_eq!(
                (of_mails.deferred, of_mails.completed, counts(&summary).held),
                (1, 0, 1)
            );
            assert_eq!(summary.sending_holds, std::slice::from_ref(&hold));
        }
    }
    let listed = app.ticks().list_tick_runs(pb::ListTickRunsRequest::default()).await;
    let listed = listed.expect("ticks").into_inner().tick_runs;
    let summary = listed[0].summary.clone().expect("a summary");
    assert_eq!(summary.sending_holds, std::slice::from_ref(&hold));
    assert_eq!(app.daily().await.sending_holds, std::slice::from_ref(&hold));
    let run = app.progress("anna").await;
    assert_eq!(run.deferred_actions[0].reason(), pb::DeferReason::SendingHeld);
    let executed = &app.execute("anna").await[0].actions;
    let mail = executed
        .iter()
        .find(|it| it.defer_reason() == pb::DeferReason::SendingHeld);
    assert_eq!(shown(mail.expect("the mail").until_time), "2026-01-05T13:00:00Z");

    app.set("2026-01-05T12:30:00Z");
    app.release(scope::channel(pb::Channel::Email)).await.expect("released");
    let [mail, _, later] = explained(&app, "anna").await.try_into().expect("three actions");
    assert_eq!((mail.hold(), mail.sending_hold), (pb::ActionHold::SendingHeld, None));
    assert!(mail.summary.contains("is over"), "{}", mail.summary);
    assert_eq!(later.sending_hold, None);
    // The next tick says when it has its turn.
    app.hourly().await;
    let until = shown(app.progress("anna").await.deferred_actions[0].until_time);
    assert!(
        ("2026-01-05T12:30:00Z".."2026-01-05T12:45:00Z").contains(&until.as_str()),
        "{until}"
    );
    app.server.shutdown().await.expect("stopped");
}

async fn each_server_shows_the_holds(backend: Backend) {
    let app = App::start(backend).await;
    let (second, channel) = app.second_server().await;
    let mut other = SendingServiceClient::new(channel);
    app.hold(scope::channel(pb::Channel::Sms), "one").await;
    app.campaign("A").await;
    let held = app.hold(scope::campaign("A"), "other").await;
    let listed = other.list_sending_holds(pb::ListSendingHoldsRequest::default()).await;
    let listed = listed.expect("holds").into_inner().holds;
    assert_eq!((listed.len(), &listed[0]), (2, &held));
    let status = other.get_sending_status(pb::GetSendingStatusRequest {}).await;
    let status = status.expect("a status").into_inner();
    assert_eq!(status.holds, listed);
    assert_eq!(shown(status.look_time), "2026-01-05T12:00:00Z");
    let channels: Vec<(pb::Channel, bool)> = status.channels.iter().map(|it| (it.channel(), it.is_held)).collect();
    let expected = [
        (pb::Channel::Email, false),
        (pb::Channel::Sms, true),
        (pb::Channel::Phone, false),
        (pb::Channel::Interaction, false),
    ];
    assert_eq!(channels, expected);
    assert!(status.channels.iter().all(|it| it.stopped_until_time.is_none()));
    app.hold(scope::all(), "everything").await;
    let status = app.sending().get_sending_status(pb::GetSendingStatusRequest {}).await;
    let status = status.expect("a status").into_inner();
    assert!(status.channels.iter().all(|it| it.is_held), "{status:?}");
    second.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

async fn there_are_not_too_many(backend: Backend) {
    let app = App::start(backend).await;
    for n in 0..201 {
        app.campaign(&format!("C{n:03}")).await;
    }
    for n in 0..200 {
        app.hold(scope::campaign(&format!("C{n:03}")), "why").await;
    }
    let one_more = pb::SetSendingHoldRequest {
        scope: Some(scope::campaign("C200")),
        reason: "why".to_owned(),
        ..Default::default()
    };
    let refusal = app.sending().set_sending_hold(one_more.clone()).await;
    refused(refusal, Code::FailedPrecondition, "TOO_MANY_HOLDS", &[]);
    // One that is there may be set again.
    app.hold(scope::campaign("C000"), "another reason").await;
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListSendingHoldsRequest {
            page_size: 70,
            page_token: token,
        };
        let page = app
            .sending()
            .list_sending_holds(request)
            .await
            .expect("a page")
            .into_inner();
        found.extend(page.holds);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((found.len(), found[0].reason.as_str()), (200, "another reason"));
    app.release(scope::campaign("C100")).await.expect("released");
    app.sending().set_sending_hold(one_more).await.expect("room again");
    app.server.shutdown().await.expect("stopped");
}
