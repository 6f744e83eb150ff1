//! Requests that are small on the wire and large in memory: what 4 MiB may cost a server at most.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::customer_service_client::CustomerServiceClient;
use http::uri::PathAndQuery;
use prost::Message as _;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::support::process::{CAMPAIGND, Served, program};
use crate::support::raw::Bytes;

/// The most memory that a process had at a time, in MiB.
fn peak(served: &Served) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", served.id())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("its memory") / 1024
}

async fn refused(served: &Served, method: &str, message: Vec<u8>) -> Status {
    let endpoint = Endpoint::from_shared(format!("http://{}", served.addr)).expect("a URL");
    let mut client = tonic::client::Grpc::new(endpoint.connect().await.expect("a connection"));
    client.ready().await.expect("a connection");
    let path = PathAndQuery::try_from(format!("/campaign.v1.{method}")).expect("a path");
    let answer = client.unary(Request::new(message), path, Bytes).await;
    answer.expect_err("refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_message_of_very_many_items_is_refused_before_it_is_unpacked() {
    let directory = tempfile::tempdir().expect("a directory");
    let served = Served::start(program(CAMPAIGND, directory.path(), &["--listen", "127.0.0.1:0"]));
    let before = peak(&served);
    // Two million empty items, in the first field, and in lists within messages.
    let items = [0x0a, 0].repeat((4 << 20) / 2 - 100);
    let within = |tag: u8, inner: &[u8]| {
        let mut bytes = vec![tag << 3 | 2];
        prost::encode_length_delimiter(inner.len(), &mut bytes).expect("room");
        bytes.extend_from_slice(inner);
        bytes
    };
    let actions = [9 << 3 | 2, 0].repeat((4 << 20) / 2 - 100);
    let cases = [
        ("CustomerService/UpsertCustomers", items.clone(), "customers"),
        ("CustomerService/RecordEngagements", items.clone(), "engagements"),
        ("CampaignOrchestratorService/StartTimelines", items, "starts"),
        ("CampaignTimelineService/ApplyTimeline", within(1, &actions), "timeline"),
    ];
    for (method, bytes, field) in cases {
        assert!(bytes.len() < 4 << 20);
        let status = refused(&served, method, bytes).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{method}: {status:?}");
        let violations = status.get_error_details().bad_request().cloned().expect("violations");
        assert_eq!(violations.field_violations[0].field, field, "{method}");
        assert!(status.message().contains("far too many items"), "{status:?}");
    }
    let grown = peak(&served) - before;
    assert!(grown < 150, "4 MiB took {grown} MiB");
    // What is as large, and within the contract, is served: 250 customers with 16 KiB each.
    let customers = (0..250).map(|n| pb::Customer {
        customer_id: format!("c{n}"),
        attributes: Some(prost_types::Struct {
            fields: (0..8)
                .map(|n| {
                    let text = prost_types::value::Kind::StringValue("x".repeat(2000));
                    (format!("k{n}"), prost_types::Value { kind: Some(text) })
                })
                .collect(),
        }),
        ..Default::default()
    });
    let request = pb::UpsertCustomersRequest {
        customers: customers.collect(),
        ..Default::default()
    };
    assert!(request.encoded_len() > 3_900_000, "{}", request.encoded_len());
    let mut client = CustomerServiceClient::connect(format!("http://{}", served.addr))
        .await
        .expect("a connection")
        .max_decoding_message_size(8 << 20);
    client.upsert_customers(request).await.expect("stored");
}
