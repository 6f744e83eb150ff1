//! A collector that is reached by TLS, and wants to know who pushes.

use std::process::Command;

use super::collector::Collector;
use super::program::World;
use crate::support::Backend;
use crate::support::certificates::{Authority, Files};
use crate::support::given::customer;
use crate::support::given::sms;
use crate::support::process::{CAMPAIGND, check, program, run};

const RUN: &str = "0af7651916cd43dd8448eb211c80319c";
const RUN_PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const START: &str = "campaign.v1.CampaignOrchestratorService/StartTimeline";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_all_by_tls_and_knows_who_pushes() {
    let (files, authority) = (Files::new(), Authority::new("observability"));
    let collector = Collector::by_tls(&authority.server()).await;
    let trusted = files.write("ca.pem", &authority.pem);
    let world = World::start(Backend::Sqlite).await;
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", trusted.to_str().expect("a path")),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20s3cr3t-canary,x-scope=crm",
        ),
        ("CAMPAIGN_LOG", "trace"),
    ];
    let server = world.serve(&settings).await;
    let timeline = server.prepare(customer("anna", "Etc/UTC"), vec![sms(1, 0, "A")]).await;
    server.start_run("anna", timeline, RUN_PARENT).await.expect("a run");
    collector.until(RUN, &[START]).await;
    let log = server.stop();
    assert!(collector.metrics().iter().any(|metric| metric == "campaign.ready"));
    for (name, value) in [("authorization", "Bearer s3cr3t-canary"), ("x-scope", "crm")] {
        let given = collector.headers(name);
        assert!(given.len() > 1, "of spans and of metrics");
        assert!(given.iter().all(|given| given.as_deref() == Some(value)), "{given:?}");
    }
    assert!(!log.contains("s3cr3t"), "a secret is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_nobody_vouches_for_gets_nothing() {
    let (files, authority) = (Files::new(), Authority::new("observability"));
    let collector = Collector::by_tls(&authority.server()).await;
    let other = files.write("other.pem", &Authority::new("another").pem);
    let world = World::start(Backend::Sqlite).await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str());
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cr3t");
    let other = ("OTEL_EXPORTER_OTLP_CERTIFICATE", other.to_str().expect("a path"));
    for settings in [&[endpoint, headers][..], &[endpoint, headers, other]] {
        let server = world.serve(settings).await;
        server
            .start_run("nobody", 1, RUN_PARENT)
            .await
            .expect_err("no such customer");
        let log = server.stop();
        assert!(log.contains("could not be"), "it says so: {log}");
        assert_eq!(collector.texts(), Vec::<String>::new());
    }
}

#[test]
fn what_is_no_use_is_named_at_the_start() {
    let files = Files::new();
    files.write("empty.pem", "");
    let serve = |more: &[(&str, &str)]| {
        let mut command: Command = program(CAMPAIGND, files.folder(), &["--listen", "127.0.0.1:0"]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:1");
        command.envs(more.iter().copied());
        run(command)
    };
    for file in ["empty.pem", "missing.pem"] {
        let refused = serve(&[("OTEL_EXPORTER_OTLP_CERTIFICATE", file)]);
        check(
            &refused,
            1,
            &["--otlp-certificate (OTEL_EXPORTER_OTLP_CERTIFICATE)", file],
        );
    }
    let refused = serve(&[("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=crm,s3cr3t")]);
    check(
        &refused,
        1,
        &["OTEL_EXPORTER_OTLP_HEADERS: header 2 of it must be NAME=VALUE"],
    );
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("s3cr3t"));
}
