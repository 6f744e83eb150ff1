//! Requests in files: the proto3 JSON form of a request, written as YAML, so that files and calls have one schema.
//!
//! Fields that the contract does not know are errors, and so is a key that comes twice. Every error says the file, the
//! line and what is wrong there, with the lines around it. What a value may be is the server's to check.

use anyhow::Context as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use std::path::Path;
use std::sync::LazyLock;

use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::campaign::v1::{
    ApplyCampaignRequest, ApplyTimelineRequest, SimulateTimelineRequest, UpsertCustomersRequest,
};

/// A request that can be kept in a file.
pub trait Document: prost::Message + Default {
    /// The name of the message in the contract.
    const NAME: &'static str;
}

impl Document for ApplyTimelineRequest {
    const NAME: &'static str = "campaign.v1.ApplyTimelineRequest";
}

impl Document for ApplyCampaignRequest {
    const NAME: &'static str = "campaign.v1.ApplyCampaignRequest";
}

impl Document for UpsertCustomersRequest {
    const NAME: &'static str = "campaign.v1.UpsertCustomersRequest";
}

impl Document for SimulateTimelineRequest {
    const NAME: &'static str = "campaign.v1.SimulateTimelineRequest";
}

/// Reads a request from a file.
pub fn load<M: Document>(path: impl AsRef<Path>) -> anyhow::Result<M> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
    parse(&path.display().to_string(), &text)
}

/// Reads a request from text; `name` is what errors call it.
pub fn parse<M: Document>(name: &str, text: &str) -> anyhow::Result<M> {
    static POOL: LazyLock<Result<DescriptorPool, String>> =
        LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).map_err(|error| error.to_string()));
    let pool = POOL
        .as_ref()
        .map_err(|error| anyhow::anyhow!("the contract can't be read: {error}"))?;
    let descriptor = pool
        .get_message_by_name(M::NAME)
        .with_context(|| format!("{} is not in the contract", M::NAME))?;
    // `yes` and `no` are words and no truth values, as in JSON.
    let options = serde_saphyr::options! { strict_booleans: true };
    let message = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        DynamicMessage::deserialize(descriptor, deserializer)
    });
    let message = message.map_err(|error| {
        let error = error.to_string().replace("<input>", name);
        let kind = M::NAME.rsplit('.').next().unwrap_or(M::NAME);
        anyhow::anyhow!(
            "{name} is no {kind}: {}",
            error.trim_start_matches("error: ").trim_end()
        )
    })?;
    Ok(message.transcode_to()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::campaign::v1::{ActionType, Channel, condition};

    const TIMELINE: &str = "
timeline:
  slug: hook-90-day
  durationDays: 90
  maxLateness: 43200s
  actions:
    - {dayNumber: 1, channel: CHANNEL_EMAIL, actionType: ACTION_TYPE_SEND_EMAIL, campaignId: HOOK-001}
    - dayNumber: 3
      conditions: [{emailOpened: {withinHours: 48}, then: CONDITION_THEN_SKIP}]
";

    #[test]
    fn a_file_is_the_json_form_of_the_request() {
        let request: ApplyTimelineRequest = parse("a.yaml", TIMELINE).expect("a timeline");
        let timeline = request.timeline.expect("there");
        assert_eq!((timeline.slug.as_str(), timeline.duration_days), ("hook-90-day", 90));
        assert_eq!(timeline.max_lateness.expect("there").seconds, 12 * 3600);
        let [first, second] = &timeline.actions[..] else {
            panic!("{:?}", timeline.actions)
        };
        assert_eq!(
            (first.channel(), first.action_type()),
            (Channel::Email, ActionType::SendEmail)
        );
        let Some(condition::Test::EmailOpened(opened)) = &second.conditions[0].test else {
            panic!("{second:?}")
        };
        assert_eq!(opened.within_hours, 48);
    }

    #[test]
    fn errors_say_the_place_and_what_is_wrong() {
        for (wrong, right, place, problem) in [
            ("slug", "sluge", "line 3", "unrecognized field name 'sluge'"),
            ("CHANNEL_EMAIL", "MAIL", "line 7", "unrecognized enum value 'MAIL'"),
            ("43200s", "12 hours", "line 5", "duration"),
            ("90\n", "yes\n", "line 4", "invalid digit"),
            ("durationDays", "slug", "line 4", "duplicate mapping key: slug"),
            (
                "{emailOpened",
                "{emailopened",
                "line 9",
                "unrecognized field name 'emailopened'",
            ),
        ] {
            let text = TIMELINE.replacen(wrong, right, 1);
            let error = parse::<ApplyTimelineRequest>("a.yaml", &text)
                .expect_err(right)
                .to_string();
            let begin = format!("a.yaml is no ApplyTimelineRequest: {place} ");
            assert!(error.starts_with(&begin) && error.contains(problem), "{error}");
        }
        let error = load::<ApplyTimelineRequest>("no/such.yaml").expect_err("missing");
        assert_eq!(error.to_string(), "no/such.yaml can't be read");
    }
}
