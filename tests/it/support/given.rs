//! What tests give to the server, and how they read its answers: instants, customers, definitions, refusals.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::canaries;

/// An instant.
pub(crate) fn at(time: &str) -> Timestamp {
    time.parse().expect("an instant")
}

/// An instant of a message, as text.
pub(crate) fn shown(time: Option<prost_types::Timestamp>) -> String {
    let time = time.expect("an instant");
    let time = Timestamp::from_timestamp(time.seconds, u32::try_from(time.nanos).expect("nanos")).expect("an instant");
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A message of an instant.
pub(crate) fn stamp(time: &str) -> prost_types::Timestamp {
    let time = at(time);
    prost_types::Timestamp {
        seconds: time.timestamp(),
        nanos: i32::try_from(time.timestamp_subsec_nanos()).expect("nanos"),
    }
}

/// A customer with an address for every channel.
pub(crate) fn customer(id: &str, zone: &str) -> pb::Customer {
    pb::Customer {
        customer_id: id.to_owned(),
        display_name: format!("Customer {id}"),
        email: format!("{id}@example.com"),
        phone: "+14155552671".to_owned(),
        time_zone: zone.to_owned(),
        ..Default::default()
    }
}

/// A timeline for stage `hook` that is active.
pub(crate) fn definition(slug: &str, days: i32, actions: Vec<pb::ActionDefinition>) -> pb::TimelineDefinition {
    pb::TimelineDefinition {
        slug: slug.to_owned(),
        name: format!("Timeline {slug}"),
        pipeline_stage: "hook".to_owned(),
        duration_days: days,
        is_active: true,
        actions,
        ..Default::default()
    }
}

/// A campaign with content for all channels.
pub(crate) fn campaign(id: &str) -> pb::CampaignDefinition {
    pb::CampaignDefinition {
        campaign_id: id.to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: format!("{id} for {{{{ customer.id }}}}"),
        text_body: "Hello {{ customer.name }}, this is day {{ day }}.".to_owned(),
        html_body: "<p>Hello {{ customer.name }}</p>".to_owned(),
        sms_text: "Hi {{ customer.name }}".to_owned(),
        call_script: "Good day {{ customer.name }}".to_owned(),
        ..Default::default()
    }
}

/// An action that sends a mail.
pub(crate) fn email(day: i32, hour: i32, campaign: &str) -> pb::ActionDefinition {
    action(day, hour, pb::Channel::Email, pb::ActionType::SendEmail, campaign)
}

/// An action that sends a text message.
pub(crate) fn sms(day: i32, hour: i32, campaign: &str) -> pb::ActionDefinition {
    action(day, hour, pb::Channel::Sms, pb::ActionType::SendSms, campaign)
}

/// An action. Tasks are complete once they are handed over.
pub(crate) fn action(
    day: i32,
    hour: i32,
    channel: pb::Channel,
    action_type: pb::ActionType,
    campaign: &str,
) -> pb::ActionDefinition {
    let completion = if action_type == pb::ActionType::CreateTask {
        pb::TaskCompletion::HandedOver
    } else {
        pb::TaskCompletion::Unspecified
    };
    pb::ActionDefinition {
        completion: completion.into(),
        key: format!("d{day}h{hour}{campaign}"),
        day_number: day,
        delay_hours: hour,
        channel: channel.into(),
        action_type: action_type.into(),
        campaign_id: campaign.to_owned(),
        ..Default::default()
    }
}

/// A condition.
pub(crate) fn condition(test: pb::condition::Test, then: pb::ConditionThen) -> pb::Condition {
    pb::Condition {
        test: Some(test),
        then: then.into(),
    }
}

/// Checks a refusal: its code, its reason, and the fields that it names. Its words are for the caller alone, and may be about what he
/// gave; what is beside them is for whoever counts errors.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    code: Code,
    reason: &str,
    fields: &[&str],
) -> Status {
    let status = result.expect_err("a refusal");
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        (reason, "campaign.v1"),
        "{}",
        status.message()
    );
    canaries::check_secrets("a refusal", &format!("{status:?} {details:?}"));
    for (name, value) in &info.metadata {
        canaries::check_text(name, value);
    }
    if !fields.is_empty() {
        let violations = details.bad_request().expect("field violations");
        let mut named: Vec<&str> = violations
            .field_violations
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        named.sort_unstable();
        let mut expected = fields.to_vec();
        expected.sort_unstable();
        assert_eq!(named, expected, "{}", status.message());
    }
    status
}
