//! Customers and content that can't be served, and mails as they arrive.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::FailureReason::{Misconfigured, MissingAddress, Template};
use campaign_automation::proto::campaign::v1::FailureState;
use tonic::Code;

use super::{counts, failure, kind};
use crate::support::given::{action, customer, definition, email, sms};
use crate::support::mailing::{assert_each_got, crowd, mailing_app, mailing_app_with};
use crate::support::smtp::SmtpServer;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    what_can_never_go_fails_for_good_and_says_why,
    a_name_with_a_line_break_is_refused_at_intake,
    marketing_mail_is_not_sent_without_link_and_address,
    a_mail_is_from_whom_its_campaign_says,
    both_parts_of_a_mail_arrive_with_the_customers_own_values,
);

async fn campaign(app: &App, campaign: pb::CampaignDefinition) {
    let request = pb::ApplyCampaignRequest {
        campaign: Some(campaign),
        ..Default::default()
    };
    app.content().apply_campaign(request).await.expect("a campaign");
}

async fn what_can_never_go_fails_for_good_and_says_why(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let unknown = pb::CampaignDefinition {
        campaign_id: "UNKNOWN".to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: "Hello".to_owned(),
        text_body: "Dear {{ customer.attributes.nickname }}".to_owned(),
        ..Default::default()
    };
    campaign(&app, unknown).await;
    // Fine for all who have the attribute.
    let partly = pb::CampaignDefinition {
        campaign_id: "PARTLY".to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: "Hello".to_owned(),
        html_body: "<p>{{ customer.attributes.shoe_size }}</p>".to_owned(),
        ..Default::default()
    };
    campaign(&app, partly).await;
    let call = action(1, 0, pb::Channel::Phone, pb::ActionType::MakeCall, "CALL");
    let cases = [
        ("no-email", email(1, 0, "MAIL"), MissingAddress, "email"),
        ("no-phone", sms(1, 0, "TEXT"), MissingAddress, "phone"),
        ("no-phone2", call, MissingAddress, "phone"),
        ("unknown", email(1, 0, "UNKNOWN"), Template, "nickname"),
        ("partly", email(1, 0, "PARTLY"), Template, "shoe_size"),
    ];
    let mut good = Vec::new();
    for (name, action, _, _) in &cases {
        let timeline = app.timeline(definition(name, 1, vec![action.clone()])).await;
        let mut who = customer(name, "Etc/UTC");
        match *name {
            "no-email" => who.email = String::new(),
            "no-phone" | "no-phone2" => who.phone = String::new(),
            _ => {}
        }
        app.put_customer(who).await;
        app.start_run(name, &timeline).await;
    }
    let timeline = app.timeline(definition("good", 1, vec![email(1, 0, "MAIL")])).await;
    good.extend(crowd(&app, &timeline, "good", 40).await);

    let summary = app.hourly().await;
    let mails = counts(&summary, pb::Channel::Email);
    assert_eq!((mails.completed, mails.failed, mails.retrying), (40, 3, 0));
    assert_eq!(counts(&summary, pb::Channel::Sms).failed, 1);
    assert_eq!(counts(&summary, pb::Channel::Phone).failed, 1);
    for (name, action, reason, named) in &cases {
        let failed = failure(&app, name).await;
        assert_eq!(kind(&failed), (FailureState::Failed, *reason, 1), "{name}");
        assert!(failed.error.contains(named), "{name}: {}", failed.error);
        if *reason == Template {
            assert!(failed.error.contains(&action.campaign_id), "{name}: {}", failed.error);
        }
    }
    app.tick_hours(12).await;
    assert_each_got(&smtp, &good, 1);
    assert_eq!(app.sent_count(), 0);
    // A failure ends the action, not the run.
    for (name, ..) in &cases {
        assert_eq!(
            app.progress(name).await.status(),
            pb::ProgressStatus::Completed,
            "{name}"
        );
    }
}

async fn a_name_with_a_line_break_is_refused_at_intake(backend: Backend) {
    let app = App::start(backend).await;
    let names = [
        "Anna\r\nBcc: all@example.com",
        "Anna\nB",
        "Anna\rB",
        "Anna\u{0}",
        "Anna\u{2028}B",
    ];
    let mut customers: Vec<pb::Customer> = names
        .iter()
        .enumerate()
        .map(|(n, name)| pb::Customer {
            display_name: (*name).to_owned(),
            ..customer(&format!("bad{n}"), "Etc/UTC")
        })
        .collect();
    customers.push(customer("good", "Etc/UTC"));
    let request = pb::UpsertCustomersRequest {
        customers,
        ..Default::default()
    };
    let response = app.customers().upsert_customers(request).await.expect("results");
    let results = response.into_inner().results;
    for (name, result) in names.iter().zip(&results) {
        let Some(pb::upsert_customers_result::Result::Error(error)) = &result.result else {
            panic!("{name:?}: {result:?}")
        };
        assert_eq!(error.code, Code::InvalidArgument as i32, "{name:?}");
        assert!(error.message.contains("display_name"), "{name:?}: {}", error.message);
    }
    let good = &results[names.len()];
    assert!(
        matches!(good.result, Some(pb::upsert_customers_result::Result::Customer(_))),
        "{good:?}"
    );
    let listed = app
        .customers()
        .list_customers(pb::ListCustomersRequest::default())
        .await;
    assert_eq!(listed.expect("customers").into_inner().customers.len(), 1);
}

async fn marketing_mail_is_not_sent_without_link_and_address(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let body = "{{ links.unsubscribe }} {{ sender.postal_address }}";
    for (id, kind) in [
        ("AD", pb::CampaignKind::Marketing),
        ("RECEIPT", pb::CampaignKind::Transactional),
    ] {
        let content = pb::CampaignDefinition {
            campaign_id: id.to_owned(),
            kind: kind.into(),
            subject: "Hello".to_owned(),
            text_body: body.to_owned(),
            sms_text: "Hi".to_owned(),
            ..Default::default()
        };
        campaign(&app, content).await;
    }
    for (id, action, reason, named) in [
        (
            "ad",
            email(1, 0, "AD"),
            Misconfigured,
            "--public-url (CAMPAIGN_PUBLIC_URL)",
        ),
        ("receipt", email(1, 0, "RECEIPT"), Template, "links.unsubscribe"),
    ] {
        let timeline = app.timeline(definition(id, 1, vec![action])).await;
        app.put_customer(customer(id, "Etc/UTC")).await;
        app.start_run(id, &timeline).await;
        app.hourly().await;
        let failed = failure(&app, id).await;
        assert_eq!(kind(&failed), (FailureState::Failed, reason, 1), "{id}");
        assert!(failed.error.contains(named), "{id}: {}", failed.error);
    }
    // Only mails need it.
    let timeline = app.timeline(definition("text", 1, vec![sms(1, 0, "AD")])).await;
    app.put_customer(customer("text", "Etc/UTC")).await;
    app.start_run("text", &timeline).await;
    app.hourly().await;
    assert_eq!(app.progress("text").await.completed_actions.len(), 1);
    assert_eq!(smtp.mails(), 0);
}

async fn a_mail_is_from_whom_its_campaign_says(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| {
        config.postal_address = Some("Shop Ltd, 1 High St, Zürich".to_owned());
    })
    .await;
    let content = |id: &str, sender: &str| pb::CampaignDefinition {
        campaign_id: id.to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: "Hello".to_owned(),
        preheader: "For {{ customer.name }}".to_owned(),
        html_body: "<body>[{{ sender.name }}|{{ sender.address }}|{{ sender.postal_address }}]".to_owned(),
        sender: sender.to_owned(),
        reply_to: "Help <help@example.com>".to_owned(),
        headers: [("Precedence".to_owned(), "bulk".to_owned())].into(),
        ..Default::default()
    };
    for (id, sender, from, header, shown) in [
        (
            "own",
            "Sales <sales@example.org>",
            "sales@example.org",
            "From: Sales <sales@example.org>",
            "[Sales|sales@example.org|Shop Ltd, 1 High St, Z",
        ),
        (
            "bare",
            "sales@example.org",
            "sales@example.org",
            "From: sales@example.org",
            "[|sales@example.org|Shop Ltd, 1 High St, Z",
        ),
        (
            "default",
            "",
            "shop@example.com",
            "From: Shop <shop@example.com>",
            "[Shop|shop@example.com|Shop Ltd, 1 High St, Z",
        ),
    ] {
        campaign(&app, content(id, sender)).await;
        let timeline = app.timeline(definition(id, 1, vec![email(1, 0, id)])).await;
        app.put_customer(customer(id, "Etc/UTC")).await;
        app.start_run(id, &timeline).await;
        app.hourly().await;
        let deliveries = smtp.deliveries();
        let mail = deliveries.last().expect("a mail");
        assert_eq!(mail.from, from, "{id}");
        assert!(
            mail.message_id.ends_with("@example.com>"),
            "of the deployment: {}",
            mail.message_id
        );
        // Quoted-printable
        let data = mail.data.replace("=\r\n", "").replace("=3D", "=");
        for part in [
            header,
            "Reply-To: Help <help@example.com>",
            "Precedence: bulk",
            "<body><div style=\"display:none",
            shown,
        ] {
            assert!(data.contains(part), "{id}: {part}: {data}");
        }
    }
}

async fn both_parts_of_a_mail_arrive_with_the_customers_own_values(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let content = pb::CampaignDefinition {
        campaign_id: "BOTH".to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: "{{ customer.name }}, day {{ day }} of {{ timeline.duration_days }}".to_owned(),
        text_body: "Plain for {{ customer.name }}".to_owned(),
        html_body: "<p>Rich for {{ customer.name }}</p>".to_owned(),
        ..Default::default()
    };
    campaign(&app, content).await;
    let timeline = app.timeline(definition("hook", 7, vec![email(1, 0, "BOTH")])).await;
    for (id, name) in [("anna", "Anna <b>"), ("bert", "Bert")] {
        app.put_customer(pb::Customer {
            display_name: name.to_owned(),
            ..customer(id, "Etc/UTC")
        })
        .await;
        app.start_run(id, &timeline).await;
    }
    app.hourly().await;
    for (id, subject, plain, rich) in [
        (
            "anna",
            "Subject: Anna <b>, day 1 of 7",
            "Plain for Anna <b>",
            "<p>Rich for Anna &lt;b&gt;</p>",
        ),
        (
            "bert",
            "Subject: Bert, day 1 of 7",
            "Plain for Bert",
            "<p>Rich for Bert</p>",
        ),
    ] {
        let address = format!("{id}@example.com");
        let deliveries = smtp.deliveries();
        let mail = deliveries
            .iter()
            .find(|mail| mail.to == [address.as_str()])
            .expect("a mail");
        assert_eq!(mail.from, "shop@example.com");
        for part in [
            subject,
            "From: Shop <shop@example.com>",
            "multipart/alternative",
            "text/plain",
            plain,
            "text/html",
            rich,
        ] {
            assert!(mail.data.contains(part), "{part}: {}", mail.data);
        }
        let done = &app.progress(id).await.completed_actions[0];
        assert_eq!((&done.provider_id, done.content_revision), (&mail.message_id, 1));
    }
}
