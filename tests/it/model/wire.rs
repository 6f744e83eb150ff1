//! What is played, as the contract and the mail server have it.

use campaign_automation::proto::campaign::v1 as pb;
use pb::condition::Test;

use super::script::{Act, Answer, Cond, First, Kind};
use super::seen::key_name;
use super::tally::channel_of;
use crate::support::App;
use crate::support::given::condition;
use crate::support::smtp::{Behaviour, Step as SmtpStep};

pub(super) async fn update(app: &App, customer: pb::Customer, fields: &[&str]) {
    let request = pb::UpsertCustomersRequest {
        customers: vec![customer],
        update_mask: Some(prost_types::FieldMask {
            paths: fields.iter().map(|field| (*field).to_owned()).collect(),
        }),
        ..Default::default()
    };
    let response = app.upsert(request).await.expect("results");
    let result = response.results[0].result.clone();
    assert!(
        matches!(result, Some(pb::upsert_customers_result::Result::Customer(_))),
        "{result:?}"
    );
}

pub(super) fn duration(hours: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: hours * 3600,
        nanos: 0,
    }
}

pub(super) fn first_day(first: First) -> pb::FirstDay {
    match first {
        First::SendPassed => pb::FirstDay::SendPassed,
        First::SkipPassed => pb::FirstDay::SkipPassed,
        First::NextDay => pb::FirstDay::NextDay,
    }
}

pub(super) fn behaviour(answer: Answer) -> Behaviour {
    match answer {
        Answer::Accept => Behaviour::Accept,
        Answer::NotNow => Behaviour::Reply(SmtpStep::Rcpt, "451 4.3.0 come again"),
        Answer::Never => Behaviour::Reply(SmtpStep::Rcpt, "550 5.7.1 not from you"),
        Answer::NoSuchMailbox => Behaviour::Reply(SmtpStep::Rcpt, "550 5.1.1 no such user"),
        Answer::HangUp => Behaviour::Drop(SmtpStep::Dot),
        Answer::Misconfigured => Behaviour::Reply(SmtpStep::Rcpt, "530 5.7.0 authentication required"),
    }
}

pub(super) fn defined(act: &Act, stage: &str) -> pb::ActionDefinition {
    let action_type = match act.kind {
        Kind::Email => pb::ActionType::SendEmail,
        Kind::Sms => pb::ActionType::SendSms,
        Kind::Call => pb::ActionType::MakeCall,
        Kind::Task => pb::ActionType::CreateTask,
        Kind::Wait => pb::ActionType::Wait,
        Kind::Gate => pb::ActionType::CheckCondition,
    };
    let score = || Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold: 50 });
    let (skip, execute) = (pb::ConditionThen::Skip, pb::ConditionThen::Execute);
    let test = act.condition.map(|one| match one {
        Cond::SkipIfScored => (score(), skip),
        Cond::OnlyIfScored => (score(), execute),
        Cond::OnlyIfInStage => (
            Test::PipelineStage(pb::PipelineStageIs {
                stage: stage.to_owned(),
            }),
            execute,
        ),
        Cond::SkipIfOpened { within_hours } => {
            let opened = pb::EmailOpened {
                within_hours,
                ..Default::default()
            };
            (Test::EmailOpened(opened), skip)
        }
    });
    pb::ActionDefinition {
        key: key_name(act.key),
        day_number: act.day,
        delay_hours: i32::try_from(act.hour).expect("an hour"),
        priority: act.priority,
        channel: channel_of(act.kind).into(),
        action_type: action_type.into(),
        campaign_id: if act.kind.sends() {
            key_name(act.key)
        } else {
            String::new()
        },
        conditions: test.map(|(test, then)| condition(test, then)).into_iter().collect(),
        max_lateness: act.lateness_hours.map(duration),
        // Nobody reports tasks here.
        completion: match act.kind {
            Kind::Task => pb::TaskCompletion::HandedOver.into(),
            Kind::Email | Kind::Sms | Kind::Call | Kind::Wait | Kind::Gate => pb::TaskCompletion::Unspecified.into(),
        },
        ..Default::default()
    }
}
