//! Pages of lists: every size gives the same rows, a token is good for its own list only, and a page fits into a message.

use campaign_automation::proto::campaign::v1 as pb;
use std::collections::BTreeSet;

use super::violated;
use crate::support::given::{customer, stamp};
use crate::support::{App, Backend, on_each_database};

on_each_database!(pages_add_up, strange_tokens_are_refused, a_page_fits_into_a_message);

async fn page(
    app: &App,
    stage: &str,
    page_size: i32,
    page_token: &str,
) -> Result<pb::ListCustomersResponse, tonic::Status> {
    let request = pb::ListCustomersRequest {
        pipeline_stage: stage.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    };
    app.customers()
        .list_customers(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn customers(app: &App, count: usize) {
    let customers = (0..count).map(|n| pb::Customer {
        pipeline_stage: "hook".to_owned(),
        ..customer(&format!("c{n:03}"), "")
    });
    let request = pb::UpsertCustomersRequest {
        customers: customers.collect(),
        ..Default::default()
    };
    app.customers().upsert_customers(request).await.expect("results");
}

async fn pages_add_up(backend: Backend) {
    let app = App::start(backend).await;
    customers(&app, 120).await;
    for (size, pages) in [(0, 3), (1, 120), (7, 18), (120, 2), (121, 1), (1000, 1), (i32::MAX, 1)] {
        let (mut ids, mut token, mut count) = (Vec::new(), String::new(), 0);
        loop {
            let found = page(&app, "", size, &token).await.expect("a page");
            let url_safe = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            assert!(found.next_page_token.chars().all(url_safe), "{}", found.next_page_token);
            ids.extend(found.customers.into_iter().map(|customer| customer.customer_id));
            token = found.next_page_token;
            if !ids.is_empty() {
                count += 1;
            }
            if token.is_empty() {
                break;
            }
        }
        let distinct: BTreeSet<&String> = ids.iter().collect();
        assert_eq!((ids.len(), distinct.len()), (120, 120), "pages of {size}");
        assert!(ids.is_sorted(), "pages of {size}");
        // A page that is full exactly may be followed by an empty one.
        assert!(count <= pages + 1, "pages of {size}: {count} of them");
    }
    let first = page(&app, "", 10, "").await.expect("a page");
    app.customer("a-new-one", "").await;
    let second = page(&app, "", 10, &first.next_page_token).await.expect("a page");
    assert_eq!(
        second.customers[0].customer_id, "c010",
        "what comes before a page does not move it"
    );
}

async fn strange_tokens_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    customers(&app, 3).await;
    let token = page(&app, "", 2, "").await.expect("a page").next_page_token;
    let mut tampered = token.clone().into_bytes();
    let last = tampered.len() - 2;
    tampered[last] = if tampered[last] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered).expect("text");
    for bad in [&tampered, &token[1..], "AAAA", "\0", &"x".repeat(100_000)] {
        let shown: String = bad.chars().take(20).collect();
        violated(
            &format!("token {shown:?}"),
            page(&app, "", 2, bad).await,
            &["page_token"],
        );
    }
    violated("other filters", page(&app, "hook", 2, &token).await, &["page_token"]);
    violated(
        "both",
        page(&app, "A", -2, &token).await,
        &["pipeline_stage", "page_size", "page_token"],
    );
    let of_stage = page(&app, "hook", 2, "").await.expect("a page").next_page_token;
    violated(
        "without its filters",
        page(&app, "", 2, &of_stage).await,
        &["page_token"],
    );
    assert_eq!(
        page(&app, "hook", 5, &of_stage)
            .await
            .expect("another size")
            .customers
            .len(),
        1
    );

    let page_token = || token.clone();
    let of_campaigns = pb::ListCampaignsRequest {
        page_size: 2,
        page_token: page_token(),
    };
    violated(
        "of another list",
        app.content().list_campaigns(of_campaigns).await,
        &["page_token"],
    );
    let of_timelines = pb::ListTimelinesRequest {
        page_token: page_token(),
        ..Default::default()
    };
    violated(
        "of another list",
        app.timelines().list_timelines(of_timelines).await,
        &["page_token"],
    );
    let of_runs = pb::ListProgressRequest {
        page_token: page_token(),
        ..Default::default()
    };
    violated(
        "of another list",
        app.orchestrator().list_progress(of_runs).await,
        &["page_token"],
    );
    let of_ticks = pb::ListTickRunsRequest {
        page_token: page_token(),
        page_size: -1,
        kind: 99,
    };
    let fields = ["kind", "page_size", "page_token"];
    violated("of another list", app.ticks().list_tick_runs(of_ticks).await, &fields);

    let events = (0..3).map(|n| pb::Engagement {
        customer_id: if n == 2 { "c001" } else { "c000" }.to_owned(),
        event_id: format!("e{n}"),
        kind: pb::EngagementKind::Replied.into(),
        occur_time: Some(stamp("2026-01-05T11:00:00Z")),
        ..Default::default()
    });
    let request = pb::RecordEngagementsRequest {
        engagements: events.collect(),
    };
    app.customers().record_engagements(request).await.expect("results");
    let of = |customer: &str, page_token: &str| pb::ListEngagementsRequest {
        customer_id: customer.to_owned(),
        page_size: 1,
        page_token: page_token.to_owned(),
    };
    let first = app
        .customers()
        .list_engagements(of("c000", ""))
        .await
        .expect("a page")
        .into_inner();
    let token = first.next_page_token;
    violated(
        "another customer's",
        app.customers().list_engagements(of("c001", &token)).await,
        &["page_token"],
    );
    let second = app
        .customers()
        .list_engagements(of("c000", &token))
        .await
        .expect("a page")
        .into_inner();
    assert_ne!(first.engagements, second.engagements);
}

/// Twenty campaigns of 256 KB are more than one message takes, and fewer than a page has by default.
async fn a_page_fits_into_a_message(backend: Backend) {
    let app = App::start(backend).await;
    for n in 0..20 {
        let campaign = pb::CampaignDefinition {
            campaign_id: format!("C{n:02}"),
            kind: pb::CampaignKind::Transactional.into(),
            subject: "S".to_owned(),
            html_body: "x".repeat(262_144),
            ..Default::default()
        };
        let request = pb::ApplyCampaignRequest {
            campaign: Some(campaign),
            ..Default::default()
        };
        app.content().apply_campaign(request).await.expect("a campaign");
    }
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListCampaignsRequest {
            page_size: 0,
            page_token: token,
        };
        let found = app
            .content()
            .list_campaigns(request)
            .await
            .expect("a page")
            .into_inner();
        ids.extend(
            found
                .campaigns
                .into_iter()
                .map(|campaign| campaign.definition.expect("content").campaign_id),
        );
        token = found.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let expected: Vec<String> = (0..20).map(|n| format!("C{n:02}")).collect();
    assert_eq!(ids, expected);
}
