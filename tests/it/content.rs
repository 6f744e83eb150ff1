//! Content of campaigns: what is applied, and what is refused.

mod lists;
mod mails;

use campaign_automation::proto::campaign::v1 as pb;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::calls::about;
use crate::support::given::{definition, email, refused, sms};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    content_is_applied_with_its_etag,
    content_that_is_only_validated_is_not_stored,
    a_bad_template_is_named_with_its_line,
    content_has_its_bounds,
    content_that_is_in_use_stays,
);

async fn apply(
    app: &App,
    campaign: &pb::CampaignDefinition,
    etag: &str,
    validate_only: bool,
) -> Result<pb::ApplyCampaignResponse, Status> {
    let request = pb::ApplyCampaignRequest {
        campaign: Some(campaign.clone()),
        etag: etag.to_owned(),
        validate_only,
        ..Default::default()
    };
    let response = app.content().apply_campaign(request).await;
    response.map(tonic::Response::into_inner)
}

async fn get(app: &App, id: &str) -> Result<pb::Campaign, Status> {
    let request = pb::GetCampaignRequest {
        campaign_id: id.to_owned(),
    };
    let response = app.content().get_campaign(request).await?;
    Ok(response.into_inner().campaign.expect("a campaign"))
}

fn mail(id: &str) -> pb::CampaignDefinition {
    pb::CampaignDefinition {
        campaign_id: id.to_owned(),
        subject: "Hello {{ customer.name }}".to_owned(),
        text_body: "Day {{ day }}".to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        ..Default::default()
    }
}

async fn content_is_applied_with_its_etag(backend: Backend) {
    let app = App::start(backend).await;
    refused(
        apply(&app, &mail("A"), "\"1\"", false).await,
        Code::Aborted,
        "ETAG_MISMATCH",
        &[],
    );
    let first = apply(&app, &mail("A"), "", false).await.expect("applied");
    let campaign = first.campaign.expect("a campaign");
    assert!(first.created);
    assert_eq!((campaign.revision, campaign.etag.as_str()), (1, "\"1\""));
    assert_eq!(
        campaign.definition.clone().expect("a definition").name,
        "A",
        "by default its id"
    );
    assert_eq!(get(&app, "A").await.expect("a campaign"), campaign);

    app.pass_hours(1);
    let again = apply(&app, &mail("A"), "\"1\"", false).await.expect("applied");
    assert_eq!(
        (again.created, again.campaign.as_ref()),
        (false, Some(&campaign)),
        "equal content changes nothing"
    );

    let html = pb::CampaignDefinition {
        text_body: String::new(),
        html_body: "<p>Hello</p>".to_owned(),
        ..mail("A")
    };
    let second = apply(&app, &html, "\"1\"", false)
        .await
        .expect("applied")
        .campaign
        .expect("a campaign");
    assert_eq!((second.revision, second.create_time), (2, campaign.create_time));
    assert_ne!(second.update_time, campaign.update_time);
    let stored = second.definition.clone().expect("a definition");
    assert_eq!(
        (stored.text_body.as_str(), stored.html_body.as_str()),
        ("", "<p>Hello</p>"),
        "nothing is kept"
    );
    for etag in ["", "\"1\"", "\"3\""] {
        let error = refused(
            apply(&app, &mail("A"), etag, false).await,
            Code::Aborted,
            "ETAG_MISMATCH",
            &[],
        );
        assert_eq!(about(&error, "current_etag"), "\"2\"");
    }
    refused(get(&app, "B").await, Code::NotFound, "CAMPAIGN_NOT_FOUND", &[]);
    refused(
        get(&app, "a b").await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["campaign_id"],
    );
    app.server.shutdown().await.expect("stopped");
}

async fn content_that_is_only_validated_is_not_stored(backend: Backend) {
    let app = App::start(backend).await;
    let would = apply(&app, &mail("A"), "", true).await.expect("validated");
    assert_eq!((would.created, would.campaign.expect("a campaign").revision), (true, 1));
    refused(get(&app, "A").await, Code::NotFound, "CAMPAIGN_NOT_FOUND", &[]);

    let stored = apply(&app, &mail("A"), "", false)
        .await
        .expect("applied")
        .campaign
        .expect("a campaign");
    let other = pb::CampaignDefinition {
        subject: "Other".to_owned(),
        ..mail("A")
    };
    let would = apply(&app, &other, "\"1\"", true).await.expect("validated");
    assert_eq!(
        (would.created, would.campaign.expect("a campaign").revision),
        (false, 2)
    );
    assert_eq!(get(&app, "A").await.expect("a campaign"), stored);
    refused(apply(&app, &other, "", true).await, Code::Aborted, "ETAG_MISMATCH", &[]);
    app.server.shutdown().await.expect("stopped");
}

async fn a_bad_template_is_named_with_its_line(backend: Backend) {
    let app = App::start(backend).await;
    let bad = pb::CampaignDefinition {
        campaign_id: "A".to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: "{{ customer.name".to_owned(),
        text_body: "Hello\n\n{% if day %}\nno end".to_owned(),
        html_body: "<p>\n{{ }}</p>".to_owned(),
        sms_text: "{% for %}".to_owned(),
        call_script: "fine {{ day }}".to_owned(),
        ..Default::default()
    };
    let fields = [
        "campaign.subject",
        "campaign.text_body",
        "campaign.html_body",
        "campaign.sms_text",
    ];
    let error = refused(
        apply(&app, &bad, "", false).await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &fields,
    );
    let details = error.get_error_details();
    for (field, line) in [
        ("campaign.subject", 1),
        ("campaign.html_body", 2),
        ("campaign.sms_text", 1),
    ] {
        let violations = &details.bad_request().expect("violations").field_violations;
        let violation = violations
            .iter()
            .find(|violation| violation.field == field)
            .expect("a violation");
        assert!(
            violation.description.contains(&format!("line {line}")),
            "{}",
            violation.description
        );
    }
    refused(get(&app, "A").await, Code::NotFound, "CAMPAIGN_NOT_FOUND", &[]);
    app.server.shutdown().await.expect("stopped");
}

/// A mailbox of so many characters.
fn mailbox(characters: usize) -> String {
    let address = "<news@example.com>";
    format!("{} {address}", "ß".repeat(characters - 1 - address.len()))
}

/// So many headers, each value of so many characters.
fn headers(count: usize, characters: usize) -> HashMap<String, String> {
    let names = [
        "Auto-Submitted",
        "Feedback-ID",
        "Importance",
        "List-Id",
        "Organization",
        "Precedence",
        "X-Auto-Response-Suppress",
        "X-Entity-Ref-ID",
        "X-Mailgun-Tag",
        "X-PM-Tag",
        "X-SES-Message-Tags",
    ];
    let header = |name: &&str| ((*name).to_owned(), "x".repeat(characters));
    names[..count].iter().map(header).collect()
}

async fn content_has_its_bounds(backend: Backend) {
    let app = App::start(backend).await;
    let full = pb::CampaignDefinition {
        campaign_id: "x".repeat(64),
        name: "n".repeat(200),
        subject: "ß".repeat(998),
        text_body: "x".repeat(65_536),
        html_body: "x".repeat(262_144),
        sms_text: "ß".repeat(1530),
        call_script: "ß".repeat(4000),
        preheader: "ß".repeat(200),
        kind: pb::CampaignKind::Transactional.into(),
        sender: mailbox(254),
        reply_to: mailbox(254),
        headers: headers(10, 500),
        track_opens: true,
        track_clicks: true,
        sms_max_segments: 10,
    };
    apply(&app, &full, "", false).await.expect("all at its limit");
    let over = pb::CampaignDefinition {
        campaign_id: "x".repeat(65),
        name: "n".repeat(201),
        subject: "ß".repeat(999),
        text_body: "x".repeat(65_537),
        html_body: "x".repeat(262_145),
        sms_text: "ß".repeat(1601),
        call_script: "ß".repeat(4001),
        preheader: "ß".repeat(201),
        kind: 3,
        sender: mailbox(255),
        reply_to: mailbox(255),
        headers: headers(11, 500),
        sms_max_segments: 11,
        ..full
    };
    let all = [
        "campaign_id",
        "name",
        "subject",
        "text_body",
        "html_body",
        "sms_text",
        "call_script",
        "preheader",
        "kind",
        "sender",
        "reply_to",
        "headers",
        "sms_max_segments",
    ]
    .map(|field| format!("campaign.{field}"));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    refused(
        apply(&app, &over, "", false).await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &all,
    );
    let two_lines = pb::CampaignDefinition {
        subject: "Hello\r\nBcc: everybody@example.com".to_owned(),
        ..mail("A")
    };
    let refusal = apply(&app, &two_lines, "", false).await;
    refused(refusal, Code::InvalidArgument, "INVALID_FIELDS", &["campaign.subject"]);
    let empty = pb::CampaignDefinition {
        campaign_id: "A".to_owned(),
        ..Default::default()
    };
    refused(
        apply(&app, &empty, "", false).await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["campaign"],
    );
    let none = app.content().apply_campaign(pb::ApplyCampaignRequest::default()).await;
    refused(none, Code::InvalidArgument, "INVALID_FIELDS", &["campaign"]);
    app.server.shutdown().await.expect("stopped");
}

async fn content_that_is_in_use_stays(backend: Backend) {
    let app = App::start(backend).await;
    let both = pb::CampaignDefinition {
        sms_text: "Hi".to_owned(),
        html_body: "<p>Hello</p>".to_owned(),
        ..mail("A")
    };
    apply(&app, &both, "", false).await.expect("applied");
    let mut in_use = definition("in-use", 5, vec![email(1, 0, "A"), sms(1, 1, "A")]);
    in_use.is_active = false;
    let timeline = app.timeline(in_use.clone()).await;

    let no_text = pb::CampaignDefinition {
        text_body: String::new(),
        ..both.clone()
    };
    let second = apply(&app, &no_text, "\"1\"", false)
        .await
        .expect("the HTML is enough for a mail");
    let etag = second.campaign.expect("a campaign").etag;
    let no_sms = pb::CampaignDefinition {
        sms_text: String::new(),
        ..both.clone()
    };
    let no_mail = pb::CampaignDefinition {
        subject: String::new(),
        ..both.clone()
    };
    for (content, key) in [(&no_sms, "d1h1A"), (&no_mail, "d1h0A")] {
        for validate_only in [true, false] {
            let answer = apply(&app, content, &etag, validate_only).await;
            let error = refused(answer, Code::FailedPrecondition, "CONTENT_IN_USE", &[]);
            let text = error.message();
            assert!(text.contains(key) && text.contains("in-use"), "{text}");
        }
    }
    // Once no action needs it, it may go.
    in_use.actions.retain(|action| action.key != "d1h1A");
    app.apply(in_use, &timeline.etag).await.expect("applied");
    apply(&app, &no_sms, &etag, false).await.expect("applied");
    app.server.shutdown().await.expect("stopped");
}
