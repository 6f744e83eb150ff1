//! The files under `examples/`, built in, so that the demo works wherever the program is.

use crate::client::files::parse;
use crate::proto::campaign::v1::{ApplyCampaignRequest, ApplyTimelineRequest, UpsertCustomersRequest};

/// A file's name and text.
type File = (&'static str, &'static str);

macro_rules! example {
    ($name:literal) => {
        (
            concat!("examples/", $name),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/", $name)),
        )
    };
}

const TIMELINE: File = example!("hook-90-day/timeline.yaml");

const CUSTOMERS: File = example!("customers.yaml");

const CAMPAIGNS: [File; 24] = [
    example!("hook-90-day/campaigns/HOOK-001.yaml"),
    example!("hook-90-day/campaigns/HOOK-002.yaml"),
    example!("hook-90-day/campaigns/HOOK-003.yaml"),
    example!("hook-90-day/campaigns/HOOK-004.yaml"),
    example!("hook-90-day/campaigns/HOOK-005.yaml"),
    example!("hook-90-day/campaigns/HOOK-006.yaml"),
    example!("hook-90-day/campaigns/HOOK-007.yaml"),
    example!("hook-90-day/campaigns/HOOK-008.yaml"),
    example!("hook-90-day/campaigns/HOOK-009.yaml"),
    example!("hook-90-day/campaigns/HOOK-010.yaml"),
    example!("hook-90-day/campaigns/HOOK-011.yaml"),
    example!("hook-90-day/campaigns/HOOK-012.yaml"),
    example!("hook-90-day/campaigns/HOOK-013.yaml"),
    example!("hook-90-day/campaigns/HOOK-014.yaml"),
    example!("hook-90-day/campaigns/HOOK-015.yaml"),
    example!("hook-90-day/campaigns/HOOK-016.yaml"),
    example!("hook-90-day/campaigns/HOOK-017.yaml"),
    example!("hook-90-day/campaigns/HOOK-018.yaml"),
    example!("hook-90-day/campaigns/HOOK-019.yaml"),
    example!("hook-90-day/campaigns/HOOK-020.yaml"),
    example!("hook-90-day/campaigns/HOOK-021.yaml"),
    example!("hook-90-day/campaigns/HOOK-022.yaml"),
    example!("hook-90-day/campaigns/HOOK-023.yaml"),
    example!("hook-90-day/campaigns/HOOK-024.yaml"),
];

/// The timeline.
pub(super) fn timeline() -> anyhow::Result<ApplyTimelineRequest> {
    parse(TIMELINE.0, TIMELINE.1)
}

/// The campaigns that it sends.
pub(super) fn campaigns() -> anyhow::Result<Vec<ApplyCampaignRequest>> {
    CAMPAIGNS.iter().map(|(name, text)| parse(name, text)).collect()
}

/// The customers.
pub(super) fn customers() -> anyhow::Result<UpsertCustomersRequest> {
    parse(CUSTOMERS.0, CUSTOMERS.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_campaign_file_is_built_in_and_used() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hook-90-day/campaigns");
        let in_directory: BTreeSet<String> = std::fs::read_dir(root)
            .expect("the directory")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        let id = |request: ApplyCampaignRequest| request.campaign.expect("there").campaign_id;
        let built_in: BTreeSet<String> = campaigns().expect("valid").into_iter().map(id).collect();
        let files: BTreeSet<String> = built_in.iter().map(|id| format!("{id}.yaml")).collect();
        assert_eq!(files, in_directory);

        let actions = timeline().expect("valid").timeline.expect("there").actions;
        let used = actions
            .into_iter()
            .map(|action| action.campaign_id)
            .filter(|id| !id.is_empty());
        assert_eq!(used.collect::<BTreeSet<_>>(), built_in);
    }
}
