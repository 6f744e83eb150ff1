//! Traces, as a collector gets them: one trace for a run, from its start through ticks, sends and callbacks, and over a crash.

use campaign_automation::proto::campaign::v1 as pb;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use std::os::unix::process::ExitStatusExt as _;

use super::collector::hex;
use super::program::{Program, TOKEN, World};
use super::scrape::{Metrics, ask};
use crate::support::given::{action, customer, sms};
use crate::support::http::Request;
use crate::support::{Backend, on_each_database};
use crate::suppressions::answers::{PUBLIC, form, signature};

on_each_database!(
    a_run_is_one_trace_from_its_start_to_its_report,
    a_run_is_one_trace_over_a_crash,
    what_nobody_asked_to_trace_is_not,
    only_faults_of_the_server_are_errors,
);

/// The trace of a run, as a caller began it.
const RUN: &str = "0af7651916cd43dd8448eb211c80319c";
const RUN_PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The trace of a tick, as a job began it.
const TICK: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TICK_PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A trace that its caller does not want to be kept.
const UNSAMPLED: &str = "00-5af92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

const START: &str = "campaign.v1.CampaignOrchestratorService/StartTimeline";
const PROCESS: &str = "campaign.v1.CampaignTickService/ProcessCampaignTimelines";

#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let first = found.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
    assert_eq!(found.next(), None, "{name} is there twice");
    first
}

/// The trace and span that a request says it belongs to.
#[track_caller]
fn context(request: &Request) -> (String, String) {
    let header = request.header("traceparent");
    let parts: Vec<&str> = header.split('-').collect();
    let ["00", trace, span, "01"] = parts[..] else {
        panic!("{header:?}: {request:?}")
    };
    (trace.to_owned(), span.to_owned())
}

async fn report(program: &Program, request: &Request) {
    let url = request.parameter("StatusCallback");
    let place = url.strip_prefix(PUBLIC).expect("a place");
    let parameters = [("MessageSid", "SM1"), ("MessageStatus", "delivered")];
    let signature = signature(TOKEN, &url, &parameters);
    let headers = format!("Content-Type: application/x-www-form-urlencoded\r\nX-Twilio-Signature: {signature}\r\n");
    let answer = ask(program.addr, "POST", place, &headers, &form(&parameters)).await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

async fn a_run_is_one_trace_from_its_start_to_its_report(backend: Backend) {
    let world = World::start(backend).await;
    let program = world.serve(&[("CAMPAIGN_LOG_FORMAT", "json")]).await;
    let timeline = program.prepare(customer("anna", "Etc/UTC"), vec![sms(1, 0, "A")]).await;
    program.start_run("anna", timeline, RUN_PARENT).await.expect("a run");
    program.tick(TICK_PARENT).await.expect("a summary");
    let [sent] = &world.twilio.requests()[..] else {
        panic!("one request")
    };
    report(&program, sent).await;

    let names = [START, "claim", "send", "POST", "record", "report"];
    let spans = world.collector.until(RUN, &names).await;
    assert_eq!(spans.len(), names.len(), "{spans:#?}");
    let start = named(&spans, START);
    assert_eq!(
        (hex(&start.parent_span_id).as_str(), start.kind()),
        ("b7ad6b7169203331", SpanKind::Server)
    );
    let ticks = world.collector.until(TICK, &[PROCESS, "tick"]).await;
    let tick = named(&ticks, "tick");
    assert_eq!(tick.parent_span_id, named(&ticks, PROCESS).span_id);
    for (name, is_of_tick) in [("claim", true), ("send", true), ("record", true), ("report", false)] {
        let span = named(&spans, name);
        assert_eq!(span.parent_span_id, start.span_id, "{name}");
        let links: Vec<_> = span.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
        let expected = if is_of_tick {
            vec![(&tick.trace_id, &tick.span_id)]
        } else {
            vec![]
        };
        assert_eq!(links, expected, "{name}");
    }
    let post = named(&spans, "POST");
    assert_eq!(
        (&post.parent_span_id, post.kind()),
        (&named(&spans, "send").span_id, SpanKind::Client)
    );
    assert_eq!(context(sent), (RUN.to_owned(), hex(&post.span_id)));

    let log = program.stop();
    let finished = log
        .lines()
        .find(|line| line.contains("finished"))
        .expect("the tick's line");
    let finished: serde_json::Value = serde_json::from_str(finished).expect("JSON");
    assert_eq!(finished["trace_id"], TICK, "{finished}");
    assert!(
        ticks.iter().any(|span| finished["span_id"] == hex(&span.span_id)),
        "{finished}"
    );
    for line in log.lines() {
        let _: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    }
    let pushed = world.collector.metrics();
    for name in ["campaign.actions", "campaign.backlog.due", "rpc.server.call.duration"] {
        assert!(
            pushed.iter().any(|metric| metric == name),
            "{name} is not in {pushed:?}"
        );
    }
}

async fn a_run_is_one_trace_over_a_crash(backend: Backend) {
    let world = World::start(backend).await;
    let doomed = world.serve(&[("CAMPAIGN_FAILPOINT", "after_send=kill")]).await;
    let task = action(1, 0, pb::Channel::Interaction, pb::ActionType::CreateTask, "A");
    let timeline = doomed.prepare(customer("anna", "Etc/UTC"), vec![task]).await;
    doomed.start_run("anna", timeline, RUN_PARENT).await.expect("a run");
    let before = world.collector.until(RUN, &[START]).await;
    doomed.tick(UNSAMPLED).await.expect_err("it dies");
    assert_eq!(doomed.ended().signal(), Some(9));

    world.set_clock("2026-01-05T12:05:00Z");
    let program = world.serve(&[("CAMPAIGN_LOG_FORMAT", "text")]).await;
    // The lease of the dead one is over, and its attempt is found; it is repeated when it is time.
    program.tick(UNSAMPLED).await.expect("a summary");
    let rescued = Metrics::scrape(program.monitor).await;
    assert_eq!(rescued.value("campaign_leases_rescued_total"), Some(1.0));
    world.set_clock("2026-01-05T12:30:00Z");
    program.tick(TICK_PARENT).await.expect("a summary");
    let spans = world.collector.until(RUN, &["send", "POST", "record"]).await;
    let start = named(&before, START);
    for span in spans
        .iter()
        .filter(|span| ["claim", "send", "record"].contains(&span.name.as_str()))
    {
        assert_eq!(span.parent_span_id, start.span_id, "{span:?}");
    }
    let [first, again] = &world.crm.requests()[..] else {
        panic!("once before the crash, and once after it")
    };
    let (first, again) = (context(first), context(again));
    assert_eq!((first.0.as_str(), again.0.as_str()), (RUN, RUN));
    assert_ne!(first.1, again.1, "each attempt has a span of its own");
    assert!(spans.iter().any(|span| hex(&span.span_id) == again.1), "{spans:#?}");
    let log = program.stop();
    let finished = log
        .lines()
        .rfind(|line| line.contains("finished advanced="))
        .expect("the tick's line");
    assert!(finished.starts_with(&format!("trace_id={TICK} span_id=")), "{finished}");
}

async fn what_nobody_asked_to_trace_is_not(backend: Backend) {
    let world = World::start(backend).await;
    let program = world.serve(&[]).await;
    let timeline = program.prepare(customer("anna", "Etc/UTC"), vec![sms(1, 0, "A")]).await;
    program.start_run("anna", timeline, UNSAMPLED).await.expect("a run");
    program.tick_untraced().await.expect("a summary");
    let [sent] = &world.twilio.requests()[..] else {
        panic!("one request")
    };
    report(&program, sent).await;
    let log = program.stop();
    assert_eq!(world.collector.count(), 0, "{:?}", world.collector.texts());
    assert!(!log.contains("trace_id"), "{log}");
}

async fn only_faults_of_the_server_are_errors(backend: Backend) {
    let world = World::start(backend).await;
    let program = world.serve(&[]).await;
    program
        .start_run("nobody", 1, RUN_PARENT)
        .await
        .expect_err("no such customer");
    let spans = world.collector.until(RUN, &[START]).await;
    let status = |span: &Span| span.status.as_ref().map_or(StatusCode::Unset, Status::code);
    assert_eq!(status(named(&spans, START)), StatusCode::Unset);

    let mut client = tonic::client::Grpc::new(program.channel());
    client.ready().await.expect("a connection");
    let mut request = tonic::Request::new(pb::GetProgressRequest::default());
    request
        .metadata_mut()
        .insert("traceparent", TICK_PARENT.parse().expect("ASCII"));
    let codec: tonic_prost::ProstCodec<_, pb::GetProgressResponse> = tonic_prost::ProstCodec::default();
    let path = "/campaign.v1.Nothing/Happens".parse().expect("a path");
    client.unary(request, path, codec).await.expect_err("no such method");
    let spans = world.collector.until(TICK, &["_OTHER"]).await;
    assert_eq!(status(named(&spans, "_OTHER")), StatusCode::Error);
    program.stop();
}
