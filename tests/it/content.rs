//! Content of campaigns: what is applied, what is refused, and lists of campaigns and of timelines.

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
    timelines_are_read_by_id_or_slug,
    definitions_are_listed_page_by_page,
    a_token_is_good_for_its_own_list_only,
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

async fn timelines_are_read_by_id_or_slug(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 5, vec![])).await;
    let of = |timeline_id: i64, slug: &str| pb::GetTimelineRequest {
        timeline_id,
        slug: slug.to_owned(),
    };
    for request in [of(timeline.timeline_id, ""), of(0, "hook")] {
        let found = app.timelines().get_timeline(request).await.expect("a timeline");
        assert_eq!(found.into_inner().timeline.as_ref(), Some(&timeline));
    }
    for (request, code, reason, fields) in [
        (of(4711, ""), Code::NotFound, "TIMELINE_NOT_FOUND", &[][..]),
        (of(0, "none"), Code::NotFound, "TIMELINE_NOT_FOUND", &[]),
        (of(0, ""), Code::InvalidArgument, "INVALID_FIELDS", &["timeline_id"]),
        (
            of(timeline.timeline_id, "hook"),
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["slug"],
        ),
        (of(-1, ""), Code::InvalidArgument, "INVALID_FIELDS", &["timeline_id"]),
        (of(0, "Not Ok"), Code::InvalidArgument, "INVALID_FIELDS", &["slug"]),
    ] {
        refused(app.timelines().get_timeline(request).await, code, reason, fields);
    }
    app.server.shutdown().await.expect("stopped");
}

/// Timelines `a`, `a1`, `b` of stage `hook` and `c` of another; `b` is inactive. Campaigns `A` to `C`, and `b`.
async fn some_definitions(app: &App) {
    for id in ["b", "C", "A", "B"] {
        app.campaign(id).await;
    }
    for (slug, stage, is_active) in [
        ("b", "hook", false),
        ("c", "base", true),
        ("a1", "hook", true),
        ("a", "hook", true),
    ] {
        let definition = pb::TimelineDefinition {
            pipeline_stage: stage.to_owned(),
            is_active,
            ..definition(slug, 5, vec![email(1, 0, "A")])
        };
        app.timeline(definition).await;
    }
}

async fn definitions_are_listed_page_by_page(backend: Backend) {
    let app = App::start(backend).await;
    some_definitions(&app).await;
    for page_size in [1, 2, 3, 4, 1001] {
        for (stage, active_only, expected) in [
            ("", false, "a a1 b c"),
            ("", true, "a a1 c"),
            ("hook", false, "a a1 b"),
            ("hook", true, "a a1"),
            ("none", false, ""),
        ] {
            let mut request = pb::ListTimelinesRequest {
                pipeline_stage: stage.to_owned(),
                active_only,
                page_size,
                ..Default::default()
            };
            let mut seen = Vec::new();
            loop {
                let page = app
                    .timelines()
                    .list_timelines(request.clone())
                    .await
                    .expect("a page")
                    .into_inner();
                for timeline in page.timelines {
                    let definition = timeline.definition.expect("a definition");
                    assert_eq!(definition.actions.len(), 1, "with all actions");
                    seen.push(definition.slug);
                }
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            assert_eq!(seen.join(" "), expected, "{stage:?} {active_only} by {page_size}");
        }
        let mut request = pb::ListCampaignsRequest {
            page_size,
            ..Default::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = app
                .content()
                .list_campaigns(request.clone())
                .await
                .expect("a page")
                .into_inner();
            let id = |campaign: pb::Campaign| campaign.definition.expect("a definition").campaign_id;
            seen.extend(page.campaigns.into_iter().map(id));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(seen.join(" "), "A B C b", "by {page_size}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn a_token_is_good_for_its_own_list_only(backend: Backend) {
    let app = App::start(backend).await;
    some_definitions(&app).await;
    let of = |stage: &str, active_only: bool, page_token: &str| pb::ListTimelinesRequest {
        pipeline_stage: stage.to_owned(),
        active_only,
        page_size: 1,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let campaigns = |page_token: &str| pb::ListCampaignsRequest {
        page_size: 1,
        page_token: page_token.to_owned(),
    };
    let page = app
        .timelines()
        .list_timelines(of("hook", false, ""))
        .await
        .expect("a page");
    let token = page.into_inner().next_page_token;
    app.timelines()
        .list_timelines(of("hook", false, &token))
        .await
        .expect("the next page");
    let other = app
        .content()
        .list_campaigns(campaigns(""))
        .await
        .expect("a page")
        .into_inner();
    let long = "A".repeat(10_000);
    for request in [
        of("", false, &token),
        of("hook", true, &token),
        of("hook", false, &other.next_page_token),
        of("hook", false, &token[1..]),
        of("hook", false, &format!("{token}{token}")),
        of("hook", false, "' or 1=1 --"),
        of("hook", false, &long),
    ] {
        let answer = app.timelines().list_timelines(request).await;
        refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &["page_token"]);
    }
    let answer = app.content().list_campaigns(campaigns(&token)).await;
    refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &["page_token"]);
    let negative = pb::ListCampaignsRequest {
        page_size: -1,
        ..Default::default()
    };
    let answer = app.content().list_campaigns(negative).await;
    refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &["page_size"]);
    app.server.shutdown().await.expect("stopped");
}
