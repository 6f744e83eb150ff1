//! `campaignd purge`: what is old goes, what is needed stays.

use campaign_automation::clock::Clock as _;
use campaign_automation::config::{Config, PurgeArgs};
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::server;
use campaign_automation::store::StoreUrl;
use tokio_util::sync::CancellationToken;

use crate::support::calls::completed;
use crate::support::given::{definition, email, stamp};
use crate::support::process::{CAMPAIGND, check, program, run};
use crate::support::{App, Backend, on_each_database};

on_each_database!(what_is_old_goes_and_runs_stay, much_goes_in_parts);

/// Purges what is older than 30 days, and gives what is said of it after the instant.
async fn purge(app: &App) -> String {
    let url = StoreUrl::parse(&app.database.url).expect("a URL");
    let config = Config::embedded(url, std::path::Path::new("."));
    let args = PurgeArgs {
        older_than: 30,
        database: config.database,
        log: config.log,
    };
    let mut out = Vec::new();
    let told = CancellationToken::new();
    let purged = server::purge(args, app.clock.now(), &told, &mut out).await;
    purged.expect("purged");
    let out = String::from_utf8(out).expect("text");
    let (_, said) = out.trim().split_once(": ").expect("an instant and what was done");
    said.to_owned()
}

async fn executions(app: &App, customer: &str) -> usize {
    let request = pb::ListExecutionsRequest {
        filter: Some(pb::ExecutionFilter {
            customer_id: customer.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let listed = app.orchestrator().list_executions(request).await.expect("a page");
    listed.into_inner().executions.len()
}

pub(crate) async fn engagements(app: &App, customer: &str) -> Vec<String> {
    let request = pb::ListEngagementsRequest {
        customer_id: customer.to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    let listed = app.customers().list_engagements(request).await.expect("a page");
    let mut ids: Vec<String> = listed
        .into_inner()
        .engagements
        .into_iter()
        .map(|event| event.event_id)
        .collect();
    ids.sort();
    ids
}

pub(crate) async fn record(app: &App, customer: &str, ids: impl Iterator<Item = String>, time: &str) {
    let engagements = ids.map(|event_id| pb::Engagement {
        customer_id: customer.to_owned(),
        event_id,
        kind: pb::EngagementKind::EmailOpened.into(),
        occur_time: Some(stamp(time)),
        ..Default::default()
    });
    let request = pb::RecordEngagementsRequest {
        engagements: engagements.collect(),
    };
    app.customers().record_engagements(request).await.expect("recorded");
}

async fn what_is_old_goes_and_runs_stay(backend: Backend) {
    let app = App::start(backend).await;
    let short = app.timeline(definition("short", 1, vec![email(1, 0, "A")])).await;
    let long = app
        .timeline(definition("long", 90, vec![email(1, 0, "A"), email(80, 0, "B")]))
        .await;
    for (customer, timeline) in [("ended", &short), ("live", &long)] {
        app.customer(customer, "Etc/UTC").await;
        app.start_run(customer, timeline).await;
    }
    record(&app, "live", ["old".to_owned()].into_iter(), "2026-01-05T11:00:00Z").await;
    app.hourly().await;
    app.set("2026-01-06T00:30:00Z");
    app.daily().await;

    app.set("2026-02-20T12:00:00Z");
    app.customer("later", "Etc/UTC").await;
    app.start_run("later", &short).await;
    // What happened long ago and was told of now is kept as long as what happens now.
    record(
        &app,
        "live",
        ["told late".to_owned()].into_iter(),
        "2026-01-05T11:00:00Z",
    )
    .await;
    app.hourly().await;
    app.set("2026-02-21T00:30:00Z");
    app.daily().await;
    assert_eq!(app.progress("ended").await.status(), pb::ProgressStatus::Completed);
    assert_eq!(app.progress("later").await.status(), pb::ProgressStatus::Completed);

    app.set("2026-02-04T11:30:00Z");
    assert_eq!(
        purge(&app).await,
        "0 executions of ended runs, 0 engagement events, 0 ticks",
        "30 days to the second"
    );
    app.set("2026-02-22T00:00:00Z");
    assert_eq!(
        purge(&app).await,
        "1 executions of ended runs, 1 engagement events, 2 ticks"
    );
    assert_eq!(
        (
            executions(&app, "ended").await,
            executions(&app, "live").await,
            executions(&app, "later").await
        ),
        (0, 1, 1)
    );
    assert_eq!(
        completed(&app.progress("ended").await),
        completed(&app.progress("later").await)
    );
    assert_eq!(engagements(&app, "live").await, ["told late"]);
    assert_eq!(
        purge(&app).await,
        "0 executions of ended runs, 0 engagement events, 0 ticks"
    );

    // The last tick of each kind says when somebody ticked last.
    app.set("2026-12-01T00:00:00Z");
    assert_eq!(
        purge(&app).await,
        "1 executions of ended runs, 1 engagement events, 0 ticks"
    );
    app.server.shutdown().await.expect("stopped");
}

async fn much_goes_in_parts(backend: Backend) {
    let app = App::start(backend).await;
    for (customer, many) in [("anna", 4), ("bela", 1)] {
        app.customer(customer, "Etc/UTC").await;
        for part in 0..many {
            let ids = (0..1000).map(|n| format!("{part}-{n}"));
            record(&app, customer, ids, "2026-01-05T11:00:00Z").await;
        }
    }
    app.set("2026-03-01T00:00:00Z");
    assert_eq!(
        purge(&app).await,
        "0 executions of ended runs, 5000 engagement events, 0 ticks"
    );
    assert!(engagements(&app, "anna").await.is_empty() && engagements(&app, "bela").await.is_empty());
    app.server.shutdown().await.expect("stopped");
}

#[test]
fn what_is_not_old_is_not_purged() {
    let folder = tempfile::tempdir().expect("a folder");
    for (given, says) in [
        (&["purge"][..], "--older-than"),
        (&["purge", "--older-than", "29d"], "must be 30d or more"),
        (&["purge", "--older-than", "90"], "must be 30d or more"),
    ] {
        check(&run(program(CAMPAIGND, folder.path(), given)), 2, &[says]);
    }
    let no_database = run(program(CAMPAIGND, folder.path(), &["purge", "--older-than", "400d"]));
    check(&no_database, 1, &["run `campaignd migrate` first"]);
}
