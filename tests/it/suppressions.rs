//! Suppressions: what is on an address stops what goes to it, whoever has it, and nothing else.

pub(crate) mod answers;
pub(crate) mod links;
mod races;

use campaign_automation::proto::campaign::v1 as pb;
use pb::suppress_recipient_request::Recipient;
use tonic::Code;

use crate::support::calls::completed;
use crate::support::given::{action, customer, definition, email, refused, shown, sms};
use crate::support::mailing::mailing_app;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::story::{check, keyed, mail, plan, text};
use crate::support::{App, Backend, Rows, on_each_database};

on_each_database!(
    what_is_suppressed_is_skipped_for_good,
    an_address_is_suppressed_whoever_has_it,
    a_suppression_is_listed_and_lifted,
    a_request_is_carried_out_once,
    what_the_provider_refuses_for_good_is_suppressed,
    no_address_is_kept_with_a_suppression,
);

impl App {
    /// Suppresses a recipient, or is refused.
    pub(crate) async fn suppress(
        &self,
        request: pb::SuppressRecipientRequest,
    ) -> Result<pb::Suppression, tonic::Status> {
        let response = self.sending().suppress_recipient(request).await?;
        Ok(response.into_inner().suppression.expect("a suppression"))
    }

    async fn suppressions(&self, request: pb::ListSuppressionsRequest) -> Vec<pb::Suppression> {
        let response = self.sending().list_suppressions(request).await;
        response.expect("suppressions").into_inner().suppressions
    }

    async fn lift(&self, id: i64) -> Result<pb::Suppression, tonic::Status> {
        let request = pb::LiftSuppressionRequest {
            suppression_id: id,
            reason: "asked for it".to_owned(),
            ..Default::default()
        };
        let response = self.sending().lift_suppression(request).await?;
        Ok(response.into_inner().suppression.expect("a suppression"))
    }
}

fn of(channel: pb::Channel, recipient: Recipient) -> pb::SuppressRecipientRequest {
    pb::SuppressRecipientRequest {
        channel: channel.into(),
        recipient: Some(recipient),
        ..Default::default()
    }
}

pub(super) fn address(channel: pb::Channel, address: &str) -> pb::SuppressRecipientRequest {
    of(channel, Recipient::Address(address.to_owned()))
}

async fn what_is_suppressed_is_skipped_for_good(backend: Backend) {
    let app = App::start(backend).await;
    let call = keyed("call", action(1, 13, pb::Channel::Phone, pb::ActionType::MakeCall, "A"));
    let actions = vec![mail("mail", 1, 13), text("sms", 1, 13), call, mail("later", 2, 9)];
    let timeline = app.timeline(plan("hook", 2, pb::WhenMissed::Shift, actions)).await;
    for id in ["anna", "berta"] {
        app.customer(id, "Etc/UTC").await;
        app.start_run(id, &timeline).await;
    }
    let new = of(pb::Channel::Email, Recipient::CustomerId("anna".to_owned()));
    let suppression = app.suppress(new).await.expect("a suppression");
    assert_eq!(
        (
            suppression.scope(),
            suppression.reason(),
            shown(suppression.create_time)
        ),
        (
            pb::SuppressionScope::All,
            pb::SuppressionReason::Manual,
            "2026-01-05T12:00:00Z".to_owned()
        )
    );
    app.pass_hours(1);
    let request = pb::ExplainActionsRequest {
        customer_id: "anna".to_owned(),
        progress_id: 0,
    };
    let response = app.orchestrator().explain_actions(request).await;
    let explained = response.expect("explanations").into_inner().runs.remove(0).actions;
    assert_eq!(explained[0].skip_reason(), pb::SkipReason::Suppressed);
    assert!(
        explained[0]
            .summary
            .contains("the customer's address is suppressed: manual"),
        "{}",
        explained[0].summary
    );
    app.hourly().await;
    // What was skipped stays so when it is lifted, and what is to come goes.
    app.lift(suppression.suppression_id).await.expect("lifted");
    app.tick_at(&["2026-01-05T14:00:00Z", "2026-01-06T09:00:00Z"]).await;
    for (id, of_mail) in [("anna", "suppressed"), ("berta", "sent")] {
        let told = format!(
            "01-05 13:00 call sent\n01-05 13:00 mail {of_mail}\n01-05 13:00 sms sent\n01-06 09:00 later sent\nday 2 on 01-06, active"
        );
        check(id, &app.progress(id).await, &told);
    }
    app.server.shutdown().await.expect("stopped");
}

async fn an_address_is_suppressed_whoever_has_it(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app
        .timeline(definition("hook", 1, vec![email(1, 0, "A"), sms(1, 0, "B")]))
        .await;
    // Before anybody has it, and in whatever case.
    app.suppress(address(pb::Channel::Email, "ANNA@Example.com"))
        .await
        .expect("a suppression");
    app.suppress(address(pb::Channel::Sms, "+14155552671"))
        .await
        .expect("a suppression");
    for (id, mail, phone) in [
        ("anna", "Anna@example.com", "+14155552671"),
        ("berta", "berta@example.com", "+14155552672"),
        ("carl", "carl@example.com", "+14155552671"),
    ] {
        let customer = pb::Customer {
            email: mail.to_owned(),
            phone: phone.to_owned(),
            ..customer(id, "Etc/UTC")
        };
        app.put_customer(customer).await;
        app.start_run(id, &timeline).await;
    }
    // Who gets another address is written to, and who gets that one is not.
    app.customer("doris", "Etc/UTC").await;
    app.start_run("doris", &timeline).await;
    for (id, mail) in [("anna", "new@example.com"), ("doris", "anna@example.com")] {
        let customer = pb::Customer {
            email: mail.to_owned(),
            phone: "+14155552673".to_owned(),
            ..customer(id, "Etc/UTC")
        };
        app.put_customer(customer).await;
    }
    app.hourly().await;
    for (id, expected) in [("anna", 2), ("berta", 2), ("carl", 1), ("doris", 1)] {
        let run = app.progress(id).await;
        assert_eq!(completed(&run).len(), expected, "{id}: {run:?}");
        let suppressed = run
            .skipped_actions
            .iter()
            .filter(|it| it.reason() == pb::SkipReason::Suppressed);
        assert_eq!(suppressed.count(), 2 - expected, "{id}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn a_suppression_is_listed_and_lifted(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "Etc/UTC").await;
    let first = app
        .suppress(address(pb::Channel::Email, "anna@example.com"))
        .await
        .expect("a suppression");
    let again = pb::SuppressRecipientRequest {
        reason: pb::SuppressionReason::Complaint.into(),
        ..address(pb::Channel::Email, "anna@example.com")
    };
    assert_eq!(
        app.suppress(again.clone()).await.expect("a suppression"),
        first,
        "it is in force"
    );
    let marketing = pb::SuppressRecipientRequest {
        scope: pb::SuppressionScope::Marketing.into(),
        ..again.clone()
    };
    let second = app.suppress(marketing).await.expect("a suppression");
    let third = app
        .suppress(address(pb::Channel::Sms, "+14155552671"))
        .await
        .expect("a suppression");
    let other = app
        .suppress(address(pb::Channel::Sms, "+14155550000"))
        .await
        .expect("a suppression");
    let all = [first.clone(), second.clone(), third.clone(), other];
    assert_eq!(app.suppressions(pb::ListSuppressionsRequest::default()).await, all);
    let of_anna = pb::ListSuppressionsRequest {
        recipient: Some(pb::list_suppressions_request::Recipient::CustomerId("anna".to_owned())),
        ..Default::default()
    };
    assert_eq!(app.suppressions(of_anna.clone()).await, all[..3]);
    let of_channel = pb::ListSuppressionsRequest {
        channel: pb::Channel::Sms.into(),
        ..of_anna.clone()
    };
    assert_eq!(app.suppressions(of_channel).await, all[2..3]);
    app.pass_hours(1);
    let lifted = app.lift(first.suppression_id).await.expect("lifted");
    assert_eq!(
        (shown(lifted.lift_time), lifted.lift_reason.as_str()),
        ("2026-01-05T13:00:00Z".to_owned(), "asked for it")
    );
    assert_eq!(app.suppressions(of_anna.clone()).await, all[1..3]);
    let with_lifted = pb::ListSuppressionsRequest {
        include_lifted: true,
        ..of_anna
    };
    assert_eq!(app.suppressions(with_lifted).await, [lifted, second, third]);
    let anew = app.suppress(again).await.expect("a suppression");
    assert_ne!(anew.suppression_id, first.suppression_id);
    for id in [first.suppression_id, i64::MAX] {
        refused(app.lift(id).await, Code::NotFound, "SUPPRESSION_NOT_FOUND", &[]);
    }
    let nobody = of(pb::Channel::Email, Recipient::CustomerId("nobody".to_owned()));
    refused(app.suppress(nobody).await, Code::NotFound, "CUSTOMER_NOT_FOUND", &[]);
    app.put_customer(pb::Customer {
        phone: String::new(),
        ..customer("berta", "Etc/UTC")
    })
    .await;
    let no_phone = of(pb::Channel::Phone, Recipient::CustomerId("berta".to_owned()));
    refused(
        app.suppress(no_phone).await,
        Code::FailedPrecondition,
        "ADDRESS_MISSING",
        &[],
    );
    for (bad, fields) in [
        (pb::SuppressRecipientRequest::default(), &["channel", "recipient"][..]),
        (address(pb::Channel::Interaction, "anna@example.com"), &["channel"]),
        (address(pb::Channel::Sms, "anna@example.com"), &["address"]),
        (address(pb::Channel::Email, "+14155552671"), &["address"]),
    ] {
        refused(app.suppress(bad).await, Code::InvalidArgument, "INVALID_FIELDS", fields);
    }
    app.server.shutdown().await.expect("stopped");
}

async fn a_request_is_carried_out_once(backend: Backend) {
    let app = App::start(backend).await;
    let request = pb::SuppressRecipientRequest {
        request_id: "once".to_owned(),
        ..address(pb::Channel::Email, "anna@example.com")
    };
    let first = app.suppress(request.clone()).await.expect("a suppression");
    app.lift(first.suppression_id).await.expect("lifted");
    assert_eq!(app.suppress(request).await.expect("the first answer"), first);
    assert_eq!(app.suppressions(pb::ListSuppressionsRequest::default()).await, []);
    app.server.shutdown().await.expect("stopped");
}

async fn what_the_provider_refuses_for_good_is_suppressed(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app
        .timeline(definition("hook", 1, vec![email(1, 0, "A"), email(1, 13, "B")]))
        .await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    smtp.behave(Behaviour::Reply(Step::Rcpt, "550 5.1.1 no such user"));
    app.hourly().await;
    let stored = app.suppressions(pb::ListSuppressionsRequest::default()).await;
    assert_eq!(stored.len(), 1);
    assert_eq!(
        (stored[0].channel(), stored[0].reason()),
        (pb::Channel::Email, pb::SuppressionReason::HardBounce)
    );
    smtp.accept_all();
    app.pass_hours(1);
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!(run.failed_actions[0].reason(), pb::FailureReason::Suppressed);
    assert_eq!(run.skipped_actions[0].reason(), pb::SkipReason::Suppressed);
    assert_eq!(
        (smtp.mails(), smtp.deliveries().len()),
        (1, 0),
        "only the first was tried"
    );
    app.server.shutdown().await.expect("stopped");
}

async fn no_address_is_kept_with_a_suppression(backend: Backend) {
    let app = App::start(backend).await;
    app.suppress(address(pb::Channel::Email, "canary@example.com"))
        .await
        .expect("a suppression");
    app.suppress(address(pb::Channel::Phone, "+14155550199"))
        .await
        .expect("a suppression");
    let rows = format!("{:?}", Rows::of(&app, backend).await.all().await);
    assert!(!rows.contains("canary") && !rows.contains("5550199"), "{rows}");
    app.server.shutdown().await.expect("stopped");
}
