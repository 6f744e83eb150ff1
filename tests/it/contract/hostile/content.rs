//! Hostile campaigns, stored and previewed.

use campaign_automation::proto::campaign::v1 as pb;
use pb::preview_campaign_request::{Which, Whom};
use tonic::Code;

use super::{Case, Told, case, fields};
use crate::support::given::customer;

/// A campaign with nothing wrong.
fn content() -> pb::CampaignDefinition {
    pb::CampaignDefinition {
        campaign_id: "NEW".to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: "Hi".to_owned(),
        text_body: "Hi".to_owned(),
        html_body: "<p>Hi</p>".to_owned(),
        ..Default::default()
    }
}

/// What is wrong with a campaign, the campaign, and the fields in which it is.
type Wrong = (String, pb::CampaignDefinition, Vec<&'static str>);

fn wrong(what: &str, paths: &[&'static str], change: impl FnOnce(&mut pb::CampaignDefinition)) -> Wrong {
    let mut campaign = content();
    change(&mut campaign);
    (what.to_owned(), campaign, paths.to_vec())
}

/// Lines that are none, or are too long for a field of so many characters.
fn bad_lines(most: usize) -> Vec<String> {
    let forbidden = ["a\r\nBcc: x@example.com", "a\nb", "a\0b", "a\tb", "a\u{7f}", "a\u{85}b"];
    let marks = ["a\u{2028}b", "a\u{202e}b", "a\u{2066}b", "a\u{200f}b"];
    let lines = forbidden.into_iter().chain(marks).map(str::to_owned);
    lines
        .chain([most + 1, 100_000].map(|count| "x".repeat(count)))
        .collect()
}

fn bad_mails() -> Vec<Wrong> {
    let mut cases = Vec::new();
    for line in bad_lines(200) {
        cases.push(wrong(&line, &["campaign.preheader"], |it| it.preheader = line.clone()));
        cases.push(wrong(&line, &["campaign.name"], |it| it.name = line.clone()));
    }
    for template in ["{{ customer.name", "{% if %}", "{{ customer.nmae }}", "{{ secret }}"] {
        cases.push(wrong(template, &["campaign.preheader"], |it| {
            it.preheader = template.to_owned();
        }));
    }
    let mailboxes = [
        "nobody",
        "@shop.example",
        "hello@",
        "Shop",
        "Shop <>",
        "Shop <hello@shop.example",
        "hello@shop.example, other@shop.example",
        "hellö@shop.example",
        "hello@shöp.example",
    ];
    let mailboxes = mailboxes.map(str::to_owned).into_iter().chain(bad_lines(254));
    for mailbox in mailboxes {
        cases.push(wrong(&mailbox, &["campaign.sender"], |it| it.sender = mailbox.clone()));
        cases.push(wrong(&mailbox, &["campaign.reply_to"], |it| {
            it.reply_to = mailbox.clone();
        }));
    }
    for kind in [i32::MIN, -1, 3, i32::MAX] {
        cases.push(wrong("an unknown kind", &["campaign.kind"], |it| it.kind = kind));
    }
    cases
}

fn bad_headers() -> Vec<Wrong> {
    let with = |what: &str, headers: &[(&str, &str)], count: usize| {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        wrong(what, &vec!["campaign.headers"; count], |it| {
            it.headers = headers.collect();
        })
    };
    let mut cases = vec![
        with("a name twice", &[("Precedence", "bulk"), ("precedence", "list")], 1),
        with("two bad ones", &[("Bcc", "x@example.com"), ("X-PM-Tag", "")], 2),
    ];
    for name in [
        "",
        "Bcc",
        "From",
        "Message-ID",
        "List-Unsubscribe",
        "DKIM-Signature",
        "Content-Type",
        "X-SMTPAPI",
        "Precedence\r\nBcc",
        "Precedence:",
        "Precedence\0",
        &"x".repeat(100_000),
    ] {
        cases.push(with(name, &[(name, "x")], 1));
    }
    let values = bad_lines(500).into_iter().chain(["", "   ", "ü"].map(str::to_owned));
    for value in values {
        cases.push(with(&value, &[("Feedback-ID", &value)], 1));
    }
    let known = [
        "Auto-Submitted",
        "Feedback-ID",
        "Importance",
        "List-Id",
        "Organization",
        "Precedence",
        "X-Auto-Response-Suppress",
        "X-Entity-Ref-ID",
        "X-Mailgun-Tag",
        "X-PM-Message-Stream",
        "X-PM-Tag",
    ];
    cases.push(with("11 headers", &known.map(|name| (name, "x")), 1));
    cases
}

fn bad_texts() -> Vec<Wrong> {
    let mut cases = Vec::new();
    for most in [i32::MIN, -1, 11, i32::MAX] {
        cases.push(wrong(
            "a strange number of segments",
            &["campaign.sms_max_segments"],
            |it| {
                it.sms_max_segments = most;
            },
        ));
    }
    for (what, text, most) in [
        ("4 segments of 3", "x".repeat(460), 0),
        ("2 segments of 1", "я".repeat(71), 1),
        (
            "2 segments of 1, whoever it is",
            "x".repeat(161) + "{{ customer.name }}",
            1,
        ),
        ("11 segments", "x".repeat(1531), 10),
    ] {
        cases.push(wrong(what, &["campaign.sms_text"], |it| {
            (it.sms_text, it.sms_max_segments) = (text, most);
        }));
    }
    let broken = "{{ customer.name".to_owned();
    cases.extend([
        wrong("half a template", &["campaign.sms_text"], |it| {
            it.sms_text = broken.clone();
        }),
        wrong("U+0000 in it", &["campaign.sms_text"], |it| {
            it.sms_text = "a\0b".to_owned();
        }),
        wrong("1,601 characters", &["campaign.sms_text"], |it| {
            it.sms_text = "x".repeat(1601);
        }),
        wrong("marketing without link and address", &BODIES, |it| it.kind = 0),
        wrong(
            "the texts, when the segments are wrong as well",
            &["campaign.sms_max_segments", "campaign.sms_text", "campaign.preheader"],
            |it| {
                it.sms_max_segments = 11;
                it.sms_text = broken.clone();
                it.preheader = broken;
            },
        ),
    ]);
    cases
}

/// What both bodies of marketing mail must show is missing twice in each.
const BODIES: [&str; 4] = [
    "campaign.text_body",
    "campaign.text_body",
    "campaign.html_body",
    "campaign.html_body",
];

/// Each of them is refused when it is to be stored, and in the same words when it is to be previewed.
pub(super) fn campaigns() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, campaign, paths) in [bad_mails(), bad_headers(), bad_texts()].concat() {
        let apply = pb::ApplyCampaignRequest {
            campaign: Some(campaign.clone()),
            request_id: "a b".to_owned(),
            ..Default::default()
        };
        let told = fields(&[&paths[..], &["request_id"]].concat());
        cases.push(case(what.clone(), "ApplyCampaign", &apply, told));
        let preview = pb::PreviewCampaignRequest {
            which: Some(Which::Campaign(campaign)),
            whom: Some(Whom::Customer(pb::Customer {
                time_zone: "Mars/Base".to_owned(),
                ..customer("dora", "")
            })),
            day: -1,
            ..Default::default()
        };
        let told = fields(&[&paths[..], &["customer.time_zone", "day"]].concat());
        cases.push(case(what, "PreviewCampaign", &preview, told));
    }
    cases
}

/// A request for a preview with something wrong.
fn preview(what: &str, told: Told, change: impl FnOnce(&mut pb::PreviewCampaignRequest)) -> Case {
    let mut request = pb::PreviewCampaignRequest {
        which: Some(Which::CampaignId("A".to_owned())),
        whom: Some(Whom::CustomerId("anna".to_owned())),
        ..Default::default()
    };
    change(&mut request);
    case(what, "PreviewCampaign", &request, told)
}

pub(super) fn previews() -> Vec<Case> {
    let not_found = |reason| Told::Error(Code::NotFound, reason);
    let made_up = |change: fn(&mut pb::Customer)| {
        let mut customer = customer("dora", "");
        change(&mut customer);
        Some(Whom::Customer(customer))
    };
    let mut cases = vec![
        preview("nothing at all", fields(&["campaign_id", "customer_id"]), |it| {
            *it = pb::PreviewCampaignRequest::default();
        }),
        preview(
            "all of it wrong",
            fields(&["campaign_id", "customer_id", "timeline_id", "day"]),
            |it| {
                it.which = Some(Which::CampaignId("a b".to_owned()));
                it.whom = Some(Whom::CustomerId("..".to_owned()));
                it.timeline_id = i64::MIN;
                it.day = i32::MAX;
            },
        ),
        preview(
            "an empty campaign for somebody impossible",
            fields(&[
                "campaign",
                "campaign.campaign_id",
                "customer.customer_id",
                "customer.email",
                "customer.phone",
                "customer.pipeline_stage",
                "customer.engagement_score",
            ]),
            |it| {
                it.which = Some(Which::Campaign(pb::CampaignDefinition::default()));
                it.whom = made_up(|it| {
                    it.customer_id = "a/b".to_owned();
                    it.email = "anna".to_owned();
                    it.phone = "+1911".to_owned();
                    it.pipeline_stage = "Hook".to_owned();
                    it.engagement_score = i32::MIN;
                });
            },
        ),
        preview("no such campaign", not_found("CAMPAIGN_NOT_FOUND"), |it| {
            it.which = Some(Which::CampaignId("NONE".to_owned()));
        }),
        preview("nobody", not_found("CUSTOMER_NOT_FOUND"), |it| {
            it.whom = Some(Whom::CustomerId("nobody".to_owned()));
        }),
        preview("no such timeline", not_found("TIMELINE_NOT_FOUND"), |it| {
            it.timeline_id = i64::MAX;
        }),
        preview("a name of two lines", fields(&["customer.display_name"]), |it| {
            it.whom = made_up(|it| it.display_name = "a\nb".to_owned());
        }),
    ];
    for id in ["", "a b", "a@b", "../A", "a\0", &"x".repeat(65)] {
        cases.push(preview(id, fields(&["campaign_id"]), |it| {
            it.which = Some(Which::CampaignId(id.to_owned()));
        }));
    }
    for id in ["", ".", "a b", "a\u{202e}", "é", &"x".repeat(65)] {
        cases.push(preview(id, fields(&["customer_id"]), |it| {
            it.whom = Some(Whom::CustomerId(id.to_owned()));
        }));
    }
    for id in [-1, i64::MIN] {
        cases.push(preview("a negative timeline", fields(&["timeline_id"]), |it| {
            it.timeline_id = id;
        }));
    }
    for day in [i32::MIN, -1, 3651] {
        cases.push(preview("a day that is none", fields(&["day"]), |it| it.day = day));
    }
    cases
}
