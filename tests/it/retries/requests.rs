//! Requests that are repeated, and requests that are none.

use campaign_automation::proto::campaign::v1 as pb;
use pb::ExecutionOutcome::{Completed, Failed};
use pb::FailureState;
use tonic::Code;

use super::{all, dead, one_failure, retried, retry};
use crate::support::given::{definition, email, refused};
use crate::support::mailing::mailing_app;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, on_each_database};

on_each_database!(a_repeated_request_retries_nothing_more, bad_requests_are_refused,);

async fn a_repeated_request_retries_nothing_more(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let hook = app.timeline(definition("hook", 5, vec![email(1, 0, "A")])).await;
    one_failure(&app, &smtp, "anna", &hook).await;
    let request = || pb::RetryActionsRequest {
        request_id: "once".to_owned(),
        ..all()
    };
    let validated = pb::RetryActionsRequest {
        validate_only: true,
        ..request()
    };
    assert_eq!(retry(&app, validated).await.expect("counts"), retried(1));
    assert_eq!(
        retry(&app, request()).await.expect("counts"),
        retried(1),
        "only validated before"
    );
    smtp.behave(Behaviour::Reply(Step::Rcpt, "550 5.7.1 blocked by policy"));
    app.hourly().await;
    assert_eq!(
        retry(&app, request()).await.expect("counts"),
        retried(1),
        "the first answer"
    );
    assert_eq!(
        app.progress("anna").await.failed_actions[0].state(),
        FailureState::Failed,
        "nothing was done again"
    );
    let other = pb::RetryActionsRequest {
        max_actions: 5,
        ..request()
    };
    let answer = retry(&app, other).await;
    refused(answer, Code::InvalidArgument, "REQUEST_ID_REUSED", &["request_id"]);
    app.server.shutdown().await.expect("stopped");
}

async fn bad_requests_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    let cases: Vec<(pb::RetryActionsRequest, &[&str])> = vec![
        (pb::RetryActionsRequest::default(), &["filter.outcomes"]),
        (dead(&[]), &["filter.outcomes"]),
        (dead(&[Failed, Completed]), &["filter.outcomes"]),
        (
            pb::RetryActionsRequest {
                filter: Some(pb::ExecutionFilter {
                    progress_id: 1,
                    outcomes: vec![99],
                    ..Default::default()
                }),
                action_keys: vec!["good".to_owned(), "b d".to_owned(), String::new()],
                reason: "two\nlines".to_owned(),
                max_actions: 1001,
                request_id: "a b".to_owned(),
                ..Default::default()
            },
            &[
                "filter.customer_id",
                "filter.outcomes[0]",
                "action_keys[1]",
                "action_keys[2]",
                "reason",
                "max_actions",
                "request_id",
            ],
        ),
        (
            pb::RetryActionsRequest {
                action_keys: vec!["A".to_owned(); 1001],
                max_actions: -1,
                ..all()
            },
            &["action_keys", "max_actions"],
        ),
    ];
    for (request, fields) in cases {
        refused(
            retry(&app, request).await,
            Code::InvalidArgument,
            "INVALID_FIELDS",
            fields,
        );
    }
    app.server.shutdown().await.expect("stopped");
}
