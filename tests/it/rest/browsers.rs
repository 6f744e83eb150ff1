//! Browsers: gRPC-Web over HTTP/1.1, and which pages may call.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use campaign_automation::config::Config;
use campaign_automation::proto::campaign::v1 as pb;
use prost::Message as _;

use super::{Answer, JSON, ask};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_browser_calls_over_grpc_web,
    pages_of_other_origins_may_not_call,
    pages_of_an_allowed_origin_may,
);

const PAGE: &str = "https://crm.example.com";
const GET_CUSTOMER: &str = "/campaign.v1.CustomerService/GetCustomer";

fn allowed(config: &mut Config) {
    config.cors_origin = vec![
        PAGE.parse().expect("an origin"),
        "http://localhost:3000".parse().expect("an origin"),
    ];
}

/// A message in its frame.
fn frame(customer: &str) -> Vec<u8> {
    let request = pb::GetCustomerRequest {
        customer_id: customer.to_owned(),
    };
    let message = request.encode_to_vec();
    let length = u32::try_from(message.len()).expect("a length");
    [&[0], &length.to_be_bytes()[..], &message].concat()
}

/// The message of an answer, if there is one, and its trailers.
fn read(body: &[u8]) -> (Option<pb::GetCustomerResponse>, String) {
    let (mut rest, mut message, mut trailers) = (body, None, String::new());
    while let Some((prefix, after)) = rest.split_at_checked(5) {
        let length = u32::from_be_bytes(prefix[1..].try_into().expect("four")) as usize;
        let (data, after) = after.split_at(length);
        match prefix[0] {
            0 => message = Some(pb::GetCustomerResponse::decode(data).expect("a message")),
            _ => trailers += std::str::from_utf8(data).expect("text"),
        }
        rest = after;
    }
    (message, trailers)
}

async fn web(app: &App, customer: &str, headers: &[(&str, &str)]) -> Answer {
    let kind = [("Content-Type", "application/grpc-web+proto"), ("X-Grpc-Web", "1")];
    ask(app, "POST", GET_CUSTOMER, &[&kind, headers].concat(), frame(customer)).await
}

async fn a_browser_calls_over_grpc_web(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "").await;
    let answer = web(&app, "anna", &[]).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/grpc-web+proto")
    );
    let (message, trailers) = read(&answer.body);
    assert_eq!(
        message.and_then(|it| it.customer).expect("a customer").customer_id,
        "anna"
    );
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    // An error may stand in the head.
    let answer = web(&app, "bert", &[]).await;
    let (message, trailers) = read(&answer.body);
    assert_eq!((answer.status, message), (200, None));
    assert!(
        trailers.contains("grpc-status:5") || answer.header("grpc-status") == "5",
        "{answer:?}"
    );
    // As text, for browsers that can't read bytes.
    let kind = ("Content-Type", "application/grpc-web-text");
    let accept = ("Accept", "application/grpc-web-text");
    let answer = ask(
        &app,
        "POST",
        GET_CUSTOMER,
        &[kind, accept],
        STANDARD.encode(frame("anna")),
    )
    .await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().len() > 50, "{answer:?}");
    let answer = ask(&app, "GET", GET_CUSTOMER, &[kind], "").await;
    assert_eq!(answer.status, 405);
    // What is called otherwise is not called.
    for kind in [&[][..], &[("Content-Type", "text/plain")], &[JSON]] {
        let answer = ask(&app, "POST", GET_CUSTOMER, kind, frame("anna")).await;
        let reason = answer.detail("ErrorInfo")["reason"].clone();
        assert_eq!((answer.status, reason.as_str()), (415, Some("CONTENT_NOT_GRPC")));
    }
    app.server.shutdown().await.expect("stopped");
}

async fn pages_of_other_origins_may_not_call(backend: Backend) {
    for allow in [|_: &mut Config| {}, allowed] {
        let app = App::start_with(backend, allow).await;
        app.customer("anna", "").await;
        let stage = "/api/v1/customers/anna/pipeline-stage";
        for origin in [
            "https://evil.example.com",
            "null",
            "https://crm.example.com.evil.com",
            "http://crm.example.com",
            "",
        ] {
            let from = ("Origin", origin);
            let moved = ask(&app, "POST", stage, &[JSON, from], r#"{"pipelineStage": "hook"}"#).await;
            assert_eq!(
                (moved.status, moved.detail("ErrorInfo")["reason"].as_str()),
                (403, Some("ORIGIN_NOT_ALLOWED"))
            );
            assert_eq!(moved.header("access-control-allow-origin"), "");
            assert_eq!(web(&app, "anna", &[from]).await.status, 403, "{origin}");
            // What a browser sends without asking first, to whom tonic would answer as well.
            for kind in [
                &[][..],
                &[("Content-Type", "text/plain")],
                &[("Content-Type", "application/grpc")],
            ] {
                let answer = ask(&app, "POST", GET_CUSTOMER, &[kind, &[from]].concat(), frame("anna")).await;
                assert_eq!(answer.status, 403, "{origin} {kind:?}");
            }
            let asks = [from, ("Access-Control-Request-Method", "POST")];
            for path in [stage, GET_CUSTOMER] {
                let answer = ask(&app, "OPTIONS", path, &asks, "").await;
                assert_eq!(
                    (answer.status, answer.header("access-control-allow-origin")),
                    (403, ""),
                    "{path}"
                );
            }
        }
        let request = pb::GetCustomerRequest {
            customer_id: "anna".to_owned(),
        };
        let anna = app
            .customers()
            .get_customer(request)
            .await
            .expect("a customer")
            .into_inner();
        assert_eq!(anna.customer.expect("a customer").pipeline_stage, "");
        app.server.shutdown().await.expect("stopped");
    }
}

async fn pages_of_an_allowed_origin_may(backend: Backend) {
    let app = App::start_with(backend, allowed).await;
    app.customer("anna", "").await;
    let from = ("Origin", PAGE);
    for path in ["/api/v1/customers/anna/pipeline-stage", GET_CUSTOMER] {
        let headers = "content-type,x-grpc-web,authorization";
        let asks = [
            from,
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", headers),
        ];
        let answer = ask(&app, "OPTIONS", path, &asks, "").await;
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (200, PAGE),
            "{path}"
        );
        assert_eq!(answer.header("access-control-allow-headers"), headers, "{path}");
        assert!(
            answer.header("access-control-allow-methods").contains("POST"),
            "{answer:?}"
        );
    }
    let read_it = ask(&app, "GET", "/api/v1/customers/anna", &[from], "").await;
    assert_eq!(
        (read_it.status, read_it.header("access-control-allow-origin")),
        (200, PAGE)
    );
    assert!(read_it.header("vary").contains("origin"), "{read_it:?}");
    let called = web(&app, "anna", &[from]).await;
    assert_eq!(
        (called.status, called.header("access-control-allow-origin")),
        (200, PAGE)
    );
    assert!(
        called.header("access-control-expose-headers").contains("grpc-status"),
        "{called:?}"
    );
    // Links of mails are none of their business.
    let link = ask(&app, "GET", "/u/x", &[from], "").await;
    assert_eq!((link.status, link.header("access-control-allow-origin")), (403, ""));
    assert!(link.text().contains("This link is not known"), "{}", link.text());
    app.server.shutdown().await.expect("stopped");
}
