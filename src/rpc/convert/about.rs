//! Fields that name an earlier action of the timeline.

use std::collections::HashMap;

use crate::domain::{EngagementKind, text};
use crate::proto::campaign::v1 as pb;
use crate::rpc::violations::Violations;

/// A field that is about another action, to be checked when all actions are known.
#[derive(Debug)]
pub(super) struct About {
    /// Where the field is.
    path: String,
    /// Where the action with the field stands in the request.
    action: usize,
    /// The key that is given.
    key: String,
    /// What it must be.
    what: Earlier,
}

/// What an earlier action must be that something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Earlier {
    Mail,
    MailOrSms,
    Task,
}

impl Earlier {
    /// What it must be where the customer does something about it.
    pub(super) fn of_kind(kind: Option<&EngagementKind>) -> Self {
        match kind {
            Some(EngagementKind::Replied) => Self::MailOrSms,
            Some(EngagementKind::EmailOpened | EngagementKind::EmailClicked | EngagementKind::Custom(_)) | None => {
                Self::Mail
            }
        }
    }
}

impl About {
    /// A field that has the key of an action, in the action that stands at a position in the request.
    pub(super) fn new(path: String, action: usize, key: String, what: Earlier) -> Self {
        Self {
            path,
            action,
            key,
            what,
        }
    }
}

/// Checks that fields are about actions that are what they ask for, and stand earlier by day, hour and priority. `keys` are
/// those of the actions, in their order.
pub(super) fn check_abouts(
    violations: &mut Violations,
    abouts: &[About],
    actions: &[pb::ActionDefinition],
    keys: &[Option<String>],
) {
    let slot = |at: usize| (actions[at].day_number, actions[at].delay_hours, actions[at].priority);
    let is = |at: usize, what: Earlier| match actions[at].action_type() {
        pb::ActionType::SendEmail => what != Earlier::Task,
        pb::ActionType::SendSms => what == Earlier::MailOrSms,
        pb::ActionType::CreateTask => {
            what == Earlier::Task && actions[at].completion() != pb::TaskCompletion::HandedOver
        }
        pb::ActionType::Unspecified
        | pb::ActionType::MakeCall
        | pb::ActionType::Wait
        | pb::ActionType::CheckCondition => false,
    };
    let positions: HashMap<&str, usize> = keys
        .iter()
        .enumerate()
        .filter_map(|(at, key)| Some((key.as_deref()?, at)))
        .collect();
    let mut allowed: HashMap<(usize, Earlier), String> = HashMap::new();
    for About {
        path,
        action,
        key,
        what,
    } in abouts
    {
        let fits = |at: usize| is(at, *what) && slot(at) < slot(*action);
        if positions.get(key.as_str()).is_some_and(|at| fits(*at)) {
            continue;
        }
        let allowed = allowed.entry((*action, *what)).or_insert_with(|| {
            let fitting = keys.iter().enumerate().filter(|(at, _)| fits(*at));
            let known: Vec<&str> = fitting.filter_map(|(_, key)| key.as_deref()).collect();
            first_few(&known)
        });
        let what = match what {
            Earlier::Mail => "sends mail",
            Earlier::MailOrSms => "sends mail or SMS",
            Earlier::Task => "is a task with TASK_COMPLETION_REPORTED",
        };
        violations.add(
            path,
            format!(
                "must be the key of another action that {what} and stands earlier by day, hour and priority ({allowed}), \
                 but is {}",
                text::shown(key)
            ),
        );
    }
}

/// The first of some keys, as a violation shows them.
fn first_few(keys: &[&str]) -> String {
    const FEW: usize = 5;
    let shown: Vec<String> = keys.iter().take(FEW).map(|key| text::shown(key)).collect();
    match keys.len() {
        0 => "there is none".to_owned(),
        count if count > FEW => format!("{} and {} more", shown.join(", "), count - FEW),
        _ => shown.join(", "),
    }
}
