//! What only mails have, and what texts may say: stored, or refused with its place.

use campaign_automation::proto::campaign::v1 as pb;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{apply, get, mail};
use crate::support::given::refused;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    what_only_mails_have_is_stored_and_counts_as_content,
    nothing_hostile_gets_into_a_header,
    unknown_variables_are_named_all_at_once_with_their_lines,
    marketing_mail_says_who_sends_it_and_how_to_make_it_stop,
);

async fn what_only_mails_have_is_stored_and_counts_as_content(backend: Backend) {
    let app = App::start(backend).await;
    let plain = mail("A");
    let applied = apply(&app, &plain, "", false).await.expect("applied");
    let stored = applied
        .campaign
        .and_then(|campaign| campaign.definition)
        .expect("stored");
    assert_eq!(stored.kind(), pb::CampaignKind::Transactional);
    let full = pb::CampaignDefinition {
        preheader: "For {{ customer.name }}".to_owned(),
        sender: "Shop <shop@example.com>".to_owned(),
        reply_to: "help@example.com".to_owned(),
        headers: HashMap::from([("precedence".to_owned(), " bulk ".to_owned())]),
        track_opens: true,
        track_clicks: true,
        ..plain
    };
    let applied = apply(&app, &full, "\"1\"", false).await.expect("applied");
    assert_eq!(applied.campaign.expect("a campaign").revision, 2);
    let expected = pb::CampaignDefinition {
        name: "A".to_owned(),
        headers: HashMap::from([("Precedence".to_owned(), "bulk".to_owned())]),
        // By default.
        sms_max_segments: 3,
        ..full.clone()
    };
    let campaign = get(&app, "A").await.expect("a campaign");
    assert_eq!(campaign.definition, Some(expected));
    let again = apply(&app, &full, "\"2\"", false).await.expect("applied");
    assert_eq!(again.campaign, Some(campaign), "equal content changes nothing");
    let changes: [fn(&mut pb::CampaignDefinition); 8] = [
        |it| it.preheader.clear(),
        |it| it.sender.clear(),
        |it| it.reply_to.clear(),
        |it| it.headers.clear(),
        |it| it.track_opens = false,
        |it| it.track_clicks = false,
        |it| it.sms_max_segments = 4,
        |it| {
            it.kind = pb::CampaignKind::Unspecified.into();
            it.text_body = "{{ links.unsubscribe }} {{ sender.postal_address }}".to_owned();
        },
    ];
    let mut revision = 2;
    for change in changes {
        let mut changed = full.clone();
        change(&mut changed);
        let applied = apply(&app, &changed, &format!("\"{revision}\""), false).await;
        revision += 1;
        let applied = applied.expect("applied").campaign.expect("a campaign");
        assert_eq!(applied.revision, revision);
    }
    let kind = get(&app, "A")
        .await
        .expect("a campaign")
        .definition
        .expect("a definition")
        .kind();
    assert_eq!(kind, pb::CampaignKind::Marketing, "unless it is said");
    app.server.shutdown().await.expect("stopped");
}

async fn nothing_hostile_gets_into_a_header(backend: Backend) {
    let app = App::start(backend).await;
    for hostile in [
        "a\r\nBcc: x@example.com",
        "a\nb",
        "a\rb",
        "a\0b",
        "a\u{7f}b",
        "a\u{85}b",
        "a\u{9b}b",
        "a\u{2028}b",
        "a\u{2029}b",
        "a\u{202e}b",
        "a\u{2066}b",
        "a\u{200f}b",
    ] {
        let bad = pb::CampaignDefinition {
            subject: hostile.to_owned(),
            preheader: hostile.to_owned(),
            sender: format!("{hostile} <news@example.com>"),
            reply_to: format!("news@example.com{hostile}"),
            headers: HashMap::from([("Precedence".to_owned(), hostile.to_owned())]),
            ..mail("A")
        };
        let fields = ["subject", "preheader", "sender", "reply_to", "headers"].map(|field| format!("campaign.{field}"));
        let fields = fields.each_ref().map(String::as_str);
        let answer = apply(&app, &bad, "", false).await;
        refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &fields);
    }
    for (name, sender) in [
        ("Bcc", "news@example.com"),
        ("X-SMTPAPI", "x"),
        ("precedence\r\nBcc", "a@b, c@d"),
        ("To", "ü@example.com"),
    ] {
        let bad = pb::CampaignDefinition {
            sender: sender.to_owned(),
            headers: HashMap::from([(name.to_owned(), "x".to_owned())]),
            ..mail("A")
        };
        let fields = if sender == "news@example.com" {
            &["campaign.headers"][..]
        } else {
            &["campaign.sender", "campaign.headers"]
        };
        let answer = apply(&app, &bad, "", false).await;
        refused(answer, Code::InvalidArgument, "INVALID_FIELDS", fields);
    }
    app.server.shutdown().await.expect("stopped");
}

/// Field and description of each violation.
#[track_caller]
fn violations(answer: Result<pb::ApplyCampaignResponse, Status>) -> Vec<(String, String)> {
    let details = answer.expect_err("refused").get_error_details();
    let violations = details.bad_request().expect("violations").field_violations.clone();
    violations.into_iter().map(|one| (one.field, one.description)).collect()
}

async fn unknown_variables_are_named_all_at_once_with_their_lines(backend: Backend) {
    let app = App::start(backend).await;
    let bad = pb::CampaignDefinition {
        subject: "{{ custmer.name }}".to_owned(),
        preheader: "{{ dya }}".to_owned(),
        text_body: "Hi {{ customer.name }}\n{{ customer.nmae }}\n\n{{ link.unsubscribe }}".to_owned(),
        html_body: "{{ customer.attributes.whatever.there.may.be }} {{ timeline.title }}".to_owned(),
        sms_text: "{% if customer.plan %}x{% endif %}".to_owned(),
        call_script: "{{ sender.phone | default('none') }}".to_owned(),
        ..mail("A")
    };
    let found = violations(apply(&app, &bad, "", true).await);
    let expected = [
        ("campaign.subject", "line 1", "\"custmer.name\""),
        ("campaign.preheader", "line 1", "\"dya\""),
        ("campaign.text_body", "line 2", "\"customer.nmae\""),
        ("campaign.text_body", "line 4", "\"link.unsubscribe\""),
        ("campaign.html_body", "line 1", "\"timeline.title\""),
        ("campaign.sms_text", "line 1", "\"customer.plan\""),
        ("campaign.call_script", "line 1", "\"sender.phone\""),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((field, description), (expected, line, name)) in found.iter().zip(expected) {
        let fits = field == expected && description.starts_with(line) && description.contains(name);
        assert!(fits, "{field}: {description}");
    }
    refused(get(&app, "A").await, Code::NotFound, "CAMPAIGN_NOT_FOUND", &[]);
    app.server.shutdown().await.expect("stopped");
}

async fn marketing_mail_says_who_sends_it_and_how_to_make_it_stop(backend: Backend) {
    let app = App::start(backend).await;
    let (link, address) = ("{{ links.unsubscribe }}", "{{ sender.postal_address }}");
    let marketing = |text: &str, html: &str| pb::CampaignDefinition {
        kind: pb::CampaignKind::Marketing.into(),
        text_body: text.to_owned(),
        html_body: html.to_owned(),
        ..mail("A")
    };
    let both = format!("{link} {address}");
    for (text, html, expected) in [
        (
            "x",
            "",
            &[
                ("text_body", "links.unsubscribe"),
                ("text_body", "sender.postal_address"),
            ][..],
        ),
        (
            "",
            "x",
            &[
                ("html_body", "links.unsubscribe"),
                ("html_body", "sender.postal_address"),
            ],
        ),
        (link, &both, &[("text_body", "sender.postal_address")]),
        (&both, address, &[("html_body", "links.unsubscribe")]),
        (
            "links.unsubscribe sender.postal_address",
            "",
            &[
                ("text_body", "links.unsubscribe"),
                ("text_body", "sender.postal_address"),
            ],
        ),
    ] {
        for kind in [pb::CampaignKind::Marketing, pb::CampaignKind::Unspecified] {
            let content = pb::CampaignDefinition {
                kind: kind.into(),
                ..marketing(text, html)
            };
            let found = violations(apply(&app, &content, "", true).await);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for ((field, description), (expected, name)) in found.iter().zip(expected) {
                assert_eq!(field, &format!("campaign.{expected}"));
                assert!(description.contains(name), "{description}");
            }
        }
        let transactional = pb::CampaignDefinition {
            kind: pb::CampaignKind::Transactional.into(),
            ..marketing(text, html)
        };
        apply(&app, &transactional, "", true).await.expect("no marketing");
    }
    apply(&app, &marketing(&both, &both), "", true)
        .await
        .expect("all is there");
    let no_mail = pb::CampaignDefinition {
        subject: String::new(),
        sms_text: "Hi".to_owned(),
        call_script: "Hi".to_owned(),
        ..marketing("", "")
    };
    apply(&app, &no_mail, "", true).await.expect("no mail");
    app.server.shutdown().await.expect("stopped");
}
