//! What a campaign would say, without sending it.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::preview_campaign_request::{Which, Whom};
use tonic::{Code, Status};

use crate::support::given::{customer, definition, email, refused};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_stored_campaign_is_shown_to_a_stored_customer,
    content_that_is_not_stored_is_shown_to_somebody_made_up,
    what_would_go_wrong_is_a_warning,
    bad_previews_are_refused,
);

async fn preview(app: &App, which: Which, whom: Whom) -> Result<pb::PreviewCampaignResponse, Status> {
    let request = pb::PreviewCampaignRequest {
        which: Some(which),
        whom: Some(whom),
        ..Default::default()
    };
    let answer = app.content().preview_campaign(request).await;
    answer.map(tonic::Response::into_inner)
}

/// Field, whether it is fatal, and description.
type Warning<'a> = (&'a str, bool, &'a str);

fn warnings(shown: &pb::PreviewCampaignResponse) -> Vec<Warning<'_>> {
    let warnings = shown.warnings.iter();
    warnings
        .map(|one| (one.field.as_str(), one.is_fatal, one.description.as_str()))
        .collect()
}

async fn a_stored_campaign_is_shown_to_a_stored_customer(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("plan", 5, vec![email(2, 0, "A")])).await;
    app.customer("anna", "").await;
    let request = pb::PreviewCampaignRequest {
        which: Some(Which::CampaignId("A".to_owned())),
        whom: Some(Whom::CustomerId("anna".to_owned())),
        timeline_id: timeline.timeline_id,
        day: 4,
    };
    let shown = app
        .content()
        .preview_campaign(request)
        .await
        .expect("a preview")
        .into_inner();
    assert_eq!(shown.subject, "A for anna");
    assert!(shown.text_body.contains("this is day 4."), "{shown:?}");
    assert!(shown.html_body.starts_with("<p>Hello "), "{shown:?}");
    assert!(!shown.sms_text.is_empty() && !shown.call_script.is_empty(), "{shown:?}");
    assert_eq!(shown.sender, "Campaigns <campaigns@example.com>");
    assert_eq!(warnings(&shown), []);
    app.hourly().await;
    assert_eq!(app.sent_count(), 0);
    app.server.shutdown().await.expect("stopped");
}

async fn content_that_is_not_stored_is_shown_to_somebody_made_up(backend: Backend) {
    let app = App::start(backend).await;
    let content = pb::CampaignDefinition {
        campaign_id: "A".to_owned(),
        subject: "{{ customer.name }} {{ timeline.slug }} {{ timeline.duration_days }} {{ day }}".to_owned(),
        preheader: "<{{ customer.name }}>".to_owned(),
        text_body: "{{ links.unsubscribe }} {{ sender.postal_address }} {{ customer.time_zone }}".to_owned(),
        html_body: "{{ customer.name }} {{ links.unsubscribe }} {{ sender.postal_address }}".to_owned(),
        sender: "Sales <sales@example.org>".to_owned(),
        reply_to: "help@example.org".to_owned(),
        ..Default::default()
    };
    let who = pb::Customer {
        customer_id: String::new(),
        display_name: "<Zoë>".to_owned(),
        ..customer("x", "Asia/Tokyo")
    };
    let shown = preview(&app, Which::Campaign(content), Whom::Customer(who))
        .await
        .expect("a preview");
    assert_eq!(shown.subject, "<Zoë> preview 30 1");
    assert_eq!(shown.preheader, "<<Zoë>>");
    assert!(
        shown.text_body.starts_with("https://unsubscribe.invalid/preview "),
        "{shown:?}"
    );
    assert!(shown.text_body.ends_with("Asia/Tokyo"), "{shown:?}");
    assert!(shown.html_body.starts_with("&lt;Zoë&gt; "), "{shown:?}");
    assert_eq!(
        (shown.sender.as_str(), shown.reply_to.as_str()),
        ("Sales <sales@example.org>", "help@example.org")
    );
    let warnings = warnings(&shown);
    let [("", true, description)] = warnings.as_slice() else {
        panic!("{warnings:?}")
    };
    assert!(description.contains("--public-url"), "{description}");
    let request = pb::GetCampaignRequest {
        campaign_id: "A".to_owned(),
    };
    let stored = app.content().get_campaign(request).await;
    refused(stored, Code::NotFound, "CAMPAIGN_NOT_FOUND", &[]);
    app.server.shutdown().await.expect("stopped");
}

async fn what_would_go_wrong_is_a_warning(backend: Backend) {
    let app = App::start(backend).await;
    let content = |change: fn(&mut pb::CampaignDefinition)| {
        let mut content = pb::CampaignDefinition {
            campaign_id: "A".to_owned(),
            kind: pb::CampaignKind::Transactional.into(),
            subject: "Hi".to_owned(),
            text_body: "Hi".to_owned(),
            ..Default::default()
        };
        change(&mut content);
        content
    };
    let cases: [(pb::CampaignDefinition, &[Warning<'_>]); 9] = [
        (content(|_| ()), &[]),
        (
            content(|it| {
                (it.subject, it.text_body) = (
                    "{{ customer.attributes.a }}".to_owned(),
                    "x\n{{ customer.attributes.b }}".to_owned(),
                );
            }),
            &[
                ("subject", true, "subject, line 1: no value for customer.attributes.a"),
                (
                    "text_body",
                    true,
                    "text_body, line 2: no value for customer.attributes.b",
                ),
            ],
        ),
        (
            content(|it| it.subject = "x".repeat(79)),
            &[("subject", false, "has 79 characters")],
        ),
        (
            content(|it| (it.text_body, it.html_body) = (String::new(), "x".repeat(102_001))),
            &[
                ("html_body", false, "has 102001 bytes"),
                ("text_body", false, "is empty"),
            ],
        ),
        (
            content(|it| it.preheader = "p".to_owned()),
            &[("preheader", false, "is left out")],
        ),
        (
            content(|it| (it.html_body, it.track_clicks) = ("x".to_owned(), true)),
            &[("", false, "without effect: track_clicks; a server without a public URL")],
        ),
        (
            content(|it| (it.track_opens, it.track_clicks) = (true, true)),
            &[(
                "",
                false,
                "without effect: track_opens and track_clicks; a mail without HTML",
            )],
        ),
        (
            content(|it| it.sms_text = "x".repeat(161)),
            &[("sms_text", false, "has 161 characters")],
        ),
        (
            content(|it| it.call_script = "{{ '' }}".to_owned()),
            &[("call_script", true, "call_script: nothing but white space")],
        ),
    ];
    for (content, expected) in cases {
        let shown = preview(&app, Which::Campaign(content), Whom::Customer(customer("x", ""))).await;
        let shown = shown.expect("a preview");
        let found = warnings(&shown);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            let fits = (found.0, found.1) == (expected.0, expected.1) && found.2.starts_with(expected.2);
            assert!(fits, "{found:?} is not {expected:?}");
        }
    }
    let nobody = pb::Customer {
        email: String::new(),
        phone: String::new(),
        ..customer("x", "")
    };
    app.campaign("ALL").await;
    let shown = preview(&app, Which::CampaignId("ALL".to_owned()), Whom::Customer(nobody)).await;
    let shown = shown.expect("a preview");
    let fields: Vec<&str> = warnings(&shown).iter().map(|warning| warning.0).collect();
    assert_eq!(fields, ["subject", "sms_text", "call_script"]);
    app.server.shutdown().await.expect("stopped");
}

async fn bad_previews_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    app.customer("anna", "").await;
    let request = |campaign: &str, customer: &str, timeline_id: i64, day: i32| pb::PreviewCampaignRequest {
        which: Some(Which::CampaignId(campaign.to_owned())),
        whom: Some(Whom::CustomerId(customer.to_owned())),
        timeline_id,
        day,
    };
    let empty = pb::PreviewCampaignRequest::default();
    let bad_content = pb::PreviewCampaignRequest {
        which: Some(Which::Campaign(pb::CampaignDefinition::default())),
        ..request("", "anna", 0, 0)
    };
    for (request, code, reason, fields) in [
        (
            empty,
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["campaign_id", "customer_id"][..],
        ),
        (
            request("a b", "", -1, -1),
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["campaign_id", "customer_id", "timeline_id", "day"],
        ),
        (
            bad_content,
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["campaign.campaign_id", "campaign"],
        ),
        (request("B", "anna", 0, 0), Code::NotFound, "CAMPAIGN_NOT_FOUND", &[]),
        (request("A", "bert", 0, 0), Code::NotFound, "CUSTOMER_NOT_FOUND", &[]),
        (request("A", "anna", 4711, 0), Code::NotFound, "TIMELINE_NOT_FOUND", &[]),
    ] {
        refused(app.content().preview_campaign(request).await, code, reason, fields);
    }
    app.server.shutdown().await.expect("stopped");
}
