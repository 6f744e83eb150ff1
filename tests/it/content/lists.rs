//! Lists of campaigns and of timelines, and one timeline by its names.

use campaign_automation::proto::campaign::v1 as pb;
use tonic::Code;

use crate::support::given::{definition, email, refused};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    timelines_are_read_by_id_or_slug,
    definitions_are_listed_page_by_page,
    a_token_is_good_for_its_own_list_only,
);

async fn timelines_are_read_by_id_or_slug(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 5, vec![])).await;
    let of = |timeline_id: i64, slug: &str| pb::GetTimelineRequest {
        timeline_id,
        slug: slug.to_owned(),
    };
    for request in [of(timeline.timeline_id, ""), of(0, "hook")] {
        let found = app.timelines().get_timeline(request).await.expect("a timeline");
        assert_eq!(found.into_inner().timeline.as_ref(), Some(&timeline));
    }
    for (request, code, reason, fields) in [
        (of(4711, ""), Code::NotFound, "TIMELINE_NOT_FOUND", &[][..]),
        (of(0, "none"), Code::NotFound, "TIMELINE_NOT_FOUND", &[]),
        (of(0, ""), Code::InvalidArgument, "INVALID_FIELDS", &["timeline_id"]),
        (
            of(timeline.timeline_id, "hook"),
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["slug"],
        ),
        (of(-1, ""), Code::InvalidArgument, "INVALID_FIELDS", &["timeline_id"]),
        (of(0, "Not Ok"), Code::InvalidArgument, "INVALID_FIELDS", &["slug"]),
    ] {
        refused(app.timelines().get_timeline(request).await, code, reason, fields);
    }
    app.server.shutdown().await.expect("stopped");
}

/// Timelines `a`, `a1`, `b` of stage `hook` and `c` of another; `b` is inactive. Campaigns `A` to `C`, and `b`.
async fn some_definitions(app: &App) {
    for id in ["b", "C", "A", "B"] {
        app.campaign(id).await;
    }
    for (slug, stage, is_active) in [
        ("b", "hook", false),
        ("c", "base", true),
        ("a1", "hook", true),
        ("a", "hook", true),
    ] {
        let definition = pb::TimelineDefinition {
            pipeline_stage: stage.to_owned(),
            is_active,
            ..definition(slug, 5, vec![email(1, 0, "A")])
        };
        app.timeline(definition).await;
    }
}

async fn definitions_are_listed_page_by_page(backend: Backend) {
    let app = App::start(backend).await;
    some_definitions(&app).await;
    for page_size in [1, 2, 3, 4, 1001] {
        for (stage, active_only, expected) in [
            ("", false, "a a1 b c"),
            ("", true, "a a1 c"),
            ("hook", false, "a a1 b"),
            ("hook", true, "a a1"),
            ("none", false, ""),
        ] {
            let mut request = pb::ListTimelinesRequest {
                pipeline_stage: stage.to_owned(),
                active_only,
                page_size,
                ..Default::default()
            };
            let mut seen = Vec::new();
            loop {
                let page = app
                    .timelines()
                    .list_timelines(request.clone())
                    .await
                    .expect("a page")
                    .into_inner();
                for timeline in page.timelines {
                    let definition = timeline.definition.expect("a definition");
                    assert_eq!(definition.actions.len(), 1, "with all actions");
                    seen.push(definition.slug);
                }
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            assert_eq!(seen.join(" "), expected, "{stage:?} {active_only} by {page_size}");
        }
        let mut request = pb::ListCampaignsRequest {
            page_size,
            ..Default::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = app
                .content()
                .list_campaigns(request.clone())
                .await
                .expect("a page")
                .into_inner();
            let id = |campaign: pb::Campaign| campaign.definition.expect("a definition").campaign_id;
            seen.extend(page.campaigns.into_iter().map(id));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(seen.join(" "), "A B C b", "by {page_size}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn a_token_is_good_for_its_own_list_only(backend: Backend) {
    let app = App::start(backend).await;
    some_definitions(&app).await;
    let of = |stage: &str, active_only: bool, page_token: &str| pb::ListTimelinesRequest {
        pipeline_stage: stage.to_owned(),
        active_only,
        page_size: 1,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let campaigns = |page_token: &str| pb::ListCampaignsRequest {
        page_size: 1,
        page_token: page_token.to_owned(),
    };
    let page = app
        .timelines()
        .list_timelines(of("hook", false, ""))
        .await
        .expect("a page");
    let token = page.into_inner().next_page_token;
    app.timelines()
        .list_timelines(of("hook", false, &token))
        .await
        .expect("the next page");
    let other = app
        .content()
        .list_campaigns(campaigns(""))
        .await
        .expect("a page")
        .into_inner();
    let long = "A".repeat(10_000);
    for request in [
        of("", false, &token),
        of("hook", true, &token),
        of("hook", false, &other.next_page_token),
        of("hook", false, &token[1..]),
        of("hook", false, &format!("{token}{token}")),
        of("hook", false, "' or 1=1 --"),
        of("hook", false, &long),
    ] {
        let answer = app.timelines().list_timelines(request).await;
        refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &["page_token"]);
    }
    let answer = app.content().list_campaigns(campaigns(&token)).await;
    refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &["page_token"]);
    let negative = pb::ListCampaignsRequest {
        page_size: -1,
        ..Default::default()
    };
    let answer = app.content().list_campaigns(negative).await;
    refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &["page_size"]);
    app.server.shutdown().await.expect("stopped");
}
