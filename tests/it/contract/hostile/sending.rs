//! Hostile calls about holds.

use campaign_automation::proto::campaign::v1 as pb;
use pb::sending_scope::Scope;
use pb::set_sending_hold_request::End;
use tonic::Code;

use super::{Case, Told, case, fields};
use crate::support::given::stamp;

/// A year and a day, in seconds.
const LONGEST: i64 = 366 * 86_400;

fn scope(scope: Scope) -> Option<pb::SendingScope> {
    Some(pb::SendingScope { scope: Some(scope) })
}

fn set(what: &str, told: Told, change: impl FnOnce(&mut pb::SetSendingHoldRequest)) -> Case {
    let mut request = pb::SetSendingHoldRequest {
        scope: scope(Scope::All(pb::AllSending {})),
        reason: "why".to_owned(),
        ..Default::default()
    };
    change(&mut request);
    case(what, "SetSendingHold", &request, told)
}

pub(super) fn holds() -> Vec<Case> {
    let not_found = |reason| Told::Error(Code::NotFound, reason);
    let lasting = |seconds, nanos| Some(End::HoldFor(prost_types::Duration { seconds, nanos }));
    let at = |time: &str| Some(End::EndTime(stamp(time)));
    let mut cases = vec![
        set("nothing at all", fields(&["scope", "reason"]), |it| {
            *it = pb::SetSendingHoldRequest::default();
        }),
        set(
            "all of it wrong",
            fields(&["request_id", "scope.channel", "reason", "hold_for"]),
            |it| {
                it.request_id = "a b".to_owned();
                it.scope = scope(Scope::Channel(99));
                it.reason = "a\nb".to_owned();
                it.end = lasting(-1, 0);
            },
        ),
        set("a blank reason", fields(&["reason"]), |it| it.reason = "  ".to_owned()),
        set("a long reason", fields(&["reason"]), |it| it.reason = "x".repeat(501)),
    ];
    let wrong = [
        ("no scope in it", None, &["scope"][..]),
        ("no channel", Some(Scope::Channel(0)), &["scope.channel"]),
        ("the channel of waits", Some(Scope::Channel(4)), &["scope.channel"]),
        ("a negative channel", Some(Scope::Channel(-1)), &["scope.channel"]),
        ("no timeline", Some(Scope::TimelineId(0)), &["scope.timeline_id"]),
        (
            "a negative timeline",
            Some(Scope::TimelineId(i64::MIN)),
            &["scope.timeline_id"],
        ),
        (
            "no campaign",
            Some(Scope::CampaignId(String::new())),
            &["scope.campaign_id"],
        ),
        (
            "a strange campaign",
            Some(Scope::CampaignId("a\0b".to_owned())),
            &["scope.campaign_id"],
        ),
    ];
    for (what, wrong, paths) in wrong {
        cases.push(set(what, fields(paths), |it| {
            it.scope = Some(pb::SendingScope { scope: wrong.clone() });
        }));
        let release = pb::ReleaseSendingHoldRequest {
            scope: Some(pb::SendingScope { scope: wrong }),
            ..Default::default()
        };
        cases.push(case(what, "ReleaseSendingHold", &release, fields(paths)));
    }
    for (what, end, path) in [
        ("no time", lasting(0, 0), "hold_for"),
        ("half a second", lasting(1, 500_000_000), "hold_for"),
        ("more than a year", lasting(LONGEST + 1, 0), "hold_for"),
        ("an eternity", lasting(i64::MAX, i32::MAX), "hold_for"),
        ("an end that is now", at("2026-01-05T12:00:00Z"), "end_time"),
        ("an end that is over", at("2026-01-05T11:59:59Z"), "end_time"),
        ("an end in two years", at("2028-01-05T12:00:00Z"), "end_time"),
        (
            "no instant",
            Some(End::EndTime(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: -1,
            })),
            "end_time",
        ),
    ] {
        cases.push(set(what, fields(&[path]), |it| it.end = end));
    }
    let nothing = [
        (Scope::TimelineId(i64::MAX), "TIMELINE_NOT_FOUND"),
        (Scope::CampaignId("NONE".to_owned()), "CAMPAIGN_NOT_FOUND"),
    ];
    for (nothing, reason) in nothing {
        cases.push(set("what is not there", not_found(reason), |it| {
            it.scope = scope(nothing);
        }));
    }
    for what in [
        Scope::All(pb::AllSending {}),
        Scope::Channel(pb::Channel::Sms.into()),
        Scope::TimelineId(1),
        Scope::CampaignId("A".to_owned()),
    ] {
        let release = pb::ReleaseSendingHoldRequest {
            scope: scope(what),
            ..Default::default()
        };
        let told = not_found("SENDING_HOLD_NOT_FOUND");
        cases.push(case("what is not held", "ReleaseSendingHold", &release, told));
    }
    cases
}
