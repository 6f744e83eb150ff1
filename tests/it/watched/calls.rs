//! The traces of programs that call: one each time they run, which their output names, or the one that they are part of.

use campaign_automation::proto::campaign::v1 as pb;
use std::process::Output;
use tokio::task::block_in_place;

use super::collector::hex;
use super::program::{Program, World};
use crate::support::given::{customer, sms};
use crate::support::process::{CAMPAIGN_TICK, CAMPAIGNCTL, check, program, run};
use crate::support::{Backend, on_each_database};

on_each_database!(
    all_calls_of_a_program_are_in_one_trace,
    a_program_is_part_of_the_trace_that_started_it,
    what_is_not_to_be_kept_is_not,
);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

const PROCESS: &str = "campaign.v1.CampaignTickService/ProcessCampaignTimelines";
const START: &str = "campaign.v1.CampaignOrchestratorService/StartTimeline";
const GET: &str = "campaign.v1.CampaignOrchestratorService/GetProgress";

/// Runs a program that calls a server, with more of an environment.
fn call(server: &Program, path: &str, arguments: &[&str], more: &[(&str, &str)]) -> Output {
    let mut command = program(path, std::path::Path::new("/"), arguments);
    command.env("CAMPAIGN_SERVER", format!("http://{}", server.addr));
    command.envs(more.iter().copied());
    block_in_place(|| run(command))
}

/// The id that follows these words in an output.
#[track_caller]
fn id_after(output: &[u8], words: &str) -> String {
    let text = String::from_utf8_lossy(output);
    let id = text.lines().find_map(|line| line.strip_prefix(words));
    let id = id.unwrap_or_else(|| panic!("{words:?} is not in: {text}"));
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id:?}");
    id.to_owned()
}

async fn all_calls_of_a_program_are_in_one_trace(backend: Backend) {
    let world = World::start(backend).await;
    let server = world.serve(&[]).await;
    let timeline = server.prepare(customer("anna", "Etc/UTC"), vec![sms(1, 0, "A")]).await;
    let request = pb::UpsertCustomersRequest {
        customers: vec![customer("bela", "Etc/UTC")],
        ..Default::default()
    };
    server.customers().upsert_customers(request).await.expect("a customer");
    for who in ["anna", "bela"] {
        server.start_run(who, timeline, "none").await.expect("a run");
    }
    // One at a time: it calls until there is no more to do.
    let ticked = call(&server, CAMPAIGN_TICK, &["hourly", "--max-actions", "1"], &[]);
    check(&ticked, 0, &["1 sent"]);
    let id = id_after(&ticked.stdout, "hourly tick: trace ");
    let spans = world.collector.until(&id, &[PROCESS, "tick"]).await;
    let again = call(&server, CAMPAIGN_TICK, &["hourly"], &[]);
    let other = id_after(&again.stdout, "hourly tick: trace ");
    assert_ne!(id, other, "each time it runs another");
    world.collector.until(&other, &[PROCESS, "tick"]).await;
    // What it pushed before the other it has pushed by now.
    let rounds = world.collector.trace(&id);
    let rounds = rounds.iter().filter(|span| span.name == PROCESS);
    assert_eq!(rounds.clone().count(), 2, "{spans:#?}");
    let log = server.stop();
    assert!(log.contains(&format!("trace_id={id}")), "{log}");
}

async fn a_program_is_part_of_the_trace_that_started_it(backend: Backend) {
    let world = World::start(backend).await;
    let server = world.serve(&[]).await;
    server.prepare(customer("anna", "Etc/UTC"), vec![sms(1, 0, "A")]).await;
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let part = [("TRACEPARENT", parent.as_str()), ("CAMPAIGN_TRACE_RATIO", "0")];
    check(
        &call(&server, CAMPAIGNCTL, &["start", "anna", "hook"], &part),
        0,
        &["anna"],
    );
    let ticked = call(&server, CAMPAIGN_TICK, &["hourly"], &part);
    check(&ticked, 0, &[&format!("hourly tick: trace {TRACE}\n"), "sms 1 sent"]);
    let failed = call(&server, CAMPAIGNCTL, &["progress", "nobody"], &part);
    check(&failed, 1, &[&format!("campaignctl: trace {TRACE}\n")]);
    let spans = world.collector.until(TRACE, &[START, PROCESS, GET, "send"]).await;
    for span in spans.iter().filter(|span| [START, PROCESS, GET].contains(&&*span.name)) {
        assert_eq!(hex(&span.parent_span_id), SPAN, "{span:?}");
    }
    server.stop();
}

async fn what_is_not_to_be_kept_is_not(backend: Backend) {
    let world = World::start(backend).await;
    let server = world.serve(&[("CAMPAIGN_TRACE_RATIO", "1")]).await;
    server.prepare(customer("anna", "Etc/UTC"), vec![sms(1, 0, "A")]).await;
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    for more in [("CAMPAIGN_TRACE_RATIO", "0"), ("TRACEPARENT", unsampled.as_str())] {
        let ticked = call(&server, CAMPAIGN_TICK, &["hourly"], &[more]);
        check(&ticked, 0, &["nothing to do"]);
        assert!(!String::from_utf8_lossy(&ticked.stdout).contains("trace"), "{ticked:?}");
        let failed = call(&server, CAMPAIGNCTL, &["progress", "nobody"], &[more]);
        check(&failed, 1, &["nobody"]);
        assert!(!String::from_utf8_lossy(&failed.stderr).contains("trace"), "{failed:?}");
    }
    // What is none counts as none, and the program begins one.
    let broken = [("TRACEPARENT", "00-nonsense")];
    let ticked = call(&server, CAMPAIGN_TICK, &["hourly"], &broken);
    let id = id_after(&ticked.stdout, "hourly tick: trace ");
    world.collector.until(&id, &[PROCESS]).await;
    assert_eq!((world.collector.named(PROCESS), world.collector.named(GET)), (1, 0));
    server.stop();
}
