//! What parsers do with input that nobody meant: they answer, and what they take they can write and take again.
//!
//! The decoder of requests is in `contract::fuzz`, HTTP callbacks in `feedback::hostile` and `delivery::hostile`, JWTs in `auth::mangled`;
//! page tokens, numbers, addresses, trace contexts and replies of mail servers are beside their parsers.

mod links;

use campaign_automation::auth::{Callers, KeySet};
use campaign_automation::channels::{check_template, read_mail_report};
use campaign_automation::client::files;
use campaign_automation::domain::condition;
use campaign_automation::proto::campaign::v1 as pb;

use crate::feedback::reports::{exchange, gmail, postfix};
use crate::support::mutate::check_changed;

/// How many cases of each: some seconds of them without optimisation.
const CASES: u32 = 3000;

/// The longest message of an error.
const MOST_WORDS: usize = 4000;

fn short(error: &str) -> Result<(), String> {
    if error.len() <= MOST_WORDS {
        return Ok(());
    }
    Err(format!("an error of {} bytes", error.len()))
}

#[test]
fn mails_that_are_handed_on() {
    let to = "bounces+abc@example.com";
    let id = "<6f1c0de0-0000-4000-8000-000000000001.abc@example.com>";
    let samples = [
        postfix(to, id, "5.1.1", "smtp; 550 5.1.1 no such user"),
        exchange(to, id),
        gmail(to, id),
    ];
    for sample in &samples {
        assert!(read_mail_report(sample.as_bytes()).is_some());
    }
    check_changed(&samples, CASES, |mail| {
        let report = read_mail_report(mail);
        let is_id = |id: &str| id.len() == 39 && id.bytes().all(|byte| byte.is_ascii_graphic());
        if report.as_ref().is_some_and(|report| !is_id(&report.id)) || report != read_mail_report(mail) {
            return Err(format!("{report:?}"));
        }
        Ok(())
    });
}

#[test]
fn conditions_of_the_database() {
    let samples = [
        r#"[{"if":"email_opened","within_hours":48,"then":"skip"}]"#,
        r#"[{"if":"engagement_score_above","threshold":50,"then":"skip"},{"if":"pipeline_stage","stage":"hook","then":"execute"}]"#,
        r#"[{"if":"all","of":[{"if":"any","of":[{"if":"not","of":{"if":"email_opened","within_hours":1}}]}],"then":"skip"}]"#,
    ];
    check_changed(&samples, CASES, |text| {
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(text) else {
            return Ok(());
        };
        match condition::from_json(json) {
            Err(error) => short(&error),
            Ok(conditions) => {
                let again = condition::from_json(condition::to_json(&conditions));
                if again.as_ref() == Ok(&conditions) {
                    return Ok(());
                }
                Err(format!("{conditions:?} became {again:?}"))
            }
        }
    });
    let first: serde_json::Value = serde_json::from_str(samples[0]).expect("JSON");
    assert!(condition::from_json(first).is_ok());
}

#[test]
fn templates() {
    let samples = [
        "Hello {{ customer.name }}, day {{ day }} of {{ timeline.name|upper }}",
        "{% if customer.attributes.plan == 'pro' %}{{ links.unsubscribe }}{% else %}{{ 1 + 2 * (3 - 4) }}{% endif %}",
        "{% for n in [1, 2] %}{{ loop.index }}{% endfor %}{# note #}{% set x = [1, {'a': 2}] %}{{ x[1].a|default('x') }}",
    ];
    for sample in samples {
        check_template(sample).expect(sample);
    }
    check_changed(&samples, CASES, |text| {
        match check_template(&String::from_utf8_lossy(text)) {
            Ok(()) => Ok(()),
            Err(error) => short(&error.to_string()),
        }
    });
}

#[test]
fn files_of_definitions() {
    let samples = [
        "timeline:\n  slug: hook\n  name: \"Hook: 90\"\n  durationDays: 90\n  isActive: true\n  maxLateness: 43200s\n  actions:\n  - key: a\n    \
         dayNumber: 1\n    channel: CHANNEL_EMAIL\n    conditions:\n    - {then: CONDITION_THEN_SKIP, emailOpened: {withinHours: 48}}\n",
        "timeline: {slug: hook, durationDays: 90, actions: [{key: a, dayNumber: 1, campaignId: 'A'}]} # a note\netag: |\n  1\n",
    ];
    let is_read = |text: &str| files::parse::<pb::ApplyTimelineRequest>("plan.yaml", text);
    for sample in samples {
        is_read(sample).expect(sample);
    }
    check_changed(&samples, CASES / 3, |text| {
        match is_read(&String::from_utf8_lossy(text)) {
            Ok(_) => Ok(()),
            Err(error) => short(&error.to_string()),
        }
    });
}

#[test]
fn callers_files() {
    let token = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let samples = [
        format!(
            "callers:\n- name: crm\n  roles: [caller, viewer]\n  token_sha256: {token}\n- name: tick\n  roles: [scheduler]\n  certificate: spiffe://a/b\n"
        ),
        format!("callers: [{{name: a, roles: [admin], token_sha256: [\"{token}\"]}}] # all of them\n"),
    ];
    for sample in &samples {
        Callers::parse(sample).expect(sample);
    }
    check_changed(&samples, CASES, |text| {
        match Callers::parse(&String::from_utf8_lossy(text)) {
            Ok(_) => Ok(()),
            Err(error) => short(&error.to_string()),
        }
    });
}

#[test]
fn key_sets() {
    // The public key of RFC 7517, appendix A.1.
    let samples = [
        r#"{"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "kid": "1", "alg": "ES256", "key_ops": ["verify"],
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#,
    ];
    KeySet::parse(samples[0].as_bytes()).expect("a key");
    check_changed(&samples, CASES, |json| match KeySet::parse(json) {
        Ok(_) => Ok(()),
        Err(error) => short(&error.to_string()),
    });
}
