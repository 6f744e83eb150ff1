//! Text messages cost by the part: a campaign says how many parts its text may have, which is checked when it is applied and when it
//! is sent.

use campaign_automation::proto::campaign::v1 as pb;
use pb::preview_campaign_request::{Which, Whom};
use prost_types::value::Kind;
use tonic::{Code, Status};

use crate::support::given::{customer, definition, refused, sms};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_text_of_too_many_parts_is_not_applied,
    a_text_that_grows_beyond_its_parts_is_not_sent,
);

async fn apply(app: &App, text: &str, most: i32) -> Result<pb::Campaign, Status> {
    let campaign = pb::CampaignDefinition {
        campaign_id: "A".to_owned(),
        sms_text: text.to_owned(),
        sms_max_segments: most,
        ..Default::default()
    };
    let stored = app
        .content()
        .get_campaign(pb::GetCampaignRequest {
            campaign_id: "A".to_owned(),
        })
        .await;
    let etag = stored.map(|stored| stored.into_inner().campaign.expect("a campaign").etag);
    let request = pb::ApplyCampaignRequest {
        campaign: Some(campaign),
        etag: etag.unwrap_or_default(),
        ..Default::default()
    };
    let applied = app.content().apply_campaign(request).await?;
    Ok(applied.into_inner().campaign.expect("a campaign"))
}

async fn a_text_of_too_many_parts_is_not_applied(backend: Backend) {
    let app = App::start(backend).await;
    // 3 parts of 153 are the default.
    let three = "a".repeat(459);
    let applied = apply(&app, &three, 0).await.expect("a campaign");
    assert_eq!(applied.definition.expect("a definition").sms_max_segments, 3);
    let four = "a".repeat(460);
    let status = refused(
        apply(&app, &four, 0).await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["campaign.sms_text"],
    );
    assert!(
        status.message().contains("at most 3 segments (sms_max_segments)"),
        "{status:?}"
    );
    assert!(status.message().contains("4 segments"), "{status:?}");
    apply(&app, &four, 4).await.expect("a campaign");
    // One letter that is not in the GSM alphabet more than doubles it.
    let cyrillic = format!("я{}", "a".repeat(201));
    for (text, most, is_good) in [
        (cyrillic.as_str(), 3, false),
        (&cyrillic, 4, true),
        (&format!("{{{{ customer.name }}}}{}", "a".repeat(160)), 1, true),
        (&format!("{{{{ customer.name }}}}{}", "a".repeat(161)), 1, false),
        // What a text decides by itself is told by sending it.
        (&format!("{{% if day > 1 %}}{}{{% endif %}}x", "a".repeat(900)), 1, true),
    ] {
        assert_eq!(apply(&app, text, most).await.is_ok(), is_good, "{most}: {text}");
    }
    for most in [-1, 11] {
        refused(
            apply(&app, "x", most).await,
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["campaign.sms_max_segments"],
        );
    }
    app.server.shutdown().await.expect("stopped");
}

async fn a_text_that_grows_beyond_its_parts_is_not_sent(backend: Backend) {
    let app = App::start(backend).await;
    apply(&app, "Hi {{ customer.attributes.note }}", 2)
        .await
        .expect("a campaign");
    let timeline = app.timeline(definition("hook", 1, vec![sms(1, 0, "A")])).await;
    let mut customers = Vec::new();
    for (id, letters) in [("short", 303), ("long", 304)] {
        let note = prost_types::Value {
            kind: Some(Kind::StringValue("a".repeat(letters))),
        };
        let attributes = prost_types::Struct {
            fields: [("note".to_owned(), note)].into(),
        };
        let given = pb::Customer {
            attributes: Some(attributes),
            ..customer(id, "Etc/UTC")
        };
        app.put_customer(given.clone()).await;
        app.start_run(id, &timeline).await;
        customers.push(given);
    }
    app.hourly().await;
    assert_eq!(app.sent_count(), 1);
    assert_eq!(app.progress("short").await.completed_actions.len(), 1);
    let run = app.progress("long").await;
    let [failed] = run.failed_actions.as_slice() else {
        panic!("{run:?}")
    };
    assert_eq!(
        (failed.state(), failed.reason()),
        (pb::FailureState::Failed, pb::FailureReason::Rejected)
    );
    assert_eq!(
        failed.error,
        "the text message has 3 segments, and 2 is the most (sms_max_segments)"
    );
    app.tick_hours(3).await;
    assert_eq!(app.sent_count(), 1);

    for (whom, segments, is_fatal) in [("short", 2, false), ("long", 3, true)] {
        let request = pb::PreviewCampaignRequest {
            which: Some(Which::CampaignId("A".to_owned())),
            whom: Some(Whom::CustomerId(whom.to_owned())),
            ..Default::default()
        };
        let shown = app
            .content()
            .preview_campaign(request)
            .await
            .expect("a preview")
            .into_inner();
        assert_eq!(shown.sms_segments, segments);
        let [warning] = shown.warnings.as_slice() else {
            panic!("{:?}", shown.warnings)
        };
        assert_eq!(
            (warning.field.as_str(), warning.is_fatal),
            ("sms_text", is_fatal),
            "{warning:?}"
        );
    }
    app.server.shutdown().await.expect("stopped");
}
