//! One run for each way in which a row can be broken, and runs that are as they should be behind them.

use campaign_automation::proto::campaign::v1 as pb;

use super::{action_id, alter, broken, broken_rows, mails, run_sql};
use crate::support::app::{daily, hourly};
use crate::support::given::{definition, email};
use crate::support::mailing::crowd;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_row_that_cant_be_read_harms_no_other,
    an_attempt_that_the_ledger_has_already_holds_up_nobody,
    what_names_an_action_that_is_not_there_goes_on,
);

/// Ways to break the row of a run that is due. `{action}` is the id of its action.
fn breakages(backend: Backend) -> Vec<&'static str> {
    let mut ways = vec![
        // By a newer version.
        "time_zone = 'Mars/Olympus'",
        "origin = 'imported'",
        "failed_actions = '[{\"id\": {action}, \"state\": \"frozen\"}]'",
        "deferred_actions = '[{\"id\": {action}, \"until\": \"2026-01-05T13:00:00Z\", \"reason\": \"of_tomorrow\"}]'",
        "skipped_actions = 'weather:{action}'",
        // By hand.
        "origin = 'assigned'",
        "completed_actions = '2-1'",
        "in_flight_actions = '7'",
        "jumped_days = 'null'",
        "last_late = '[]'",
        "customer_id = 'no/such name'",
        // It is read, and planning it panics.
        "deferred_actions = '[{\"id\": {action}, \"until\": \"2026-01-05T13:00:00Z\", \"reason\": \"spacing\", \
         \"due\": \"2026-01-05T13:00:00Z\", \"late_by_ms\": -9223372036854775808}]'",
    ];
    ways.extend(match backend {
        Backend::Sqlite => [
            "completed_actions = '[1, 2'",
            "completed_actions = x'00ff'",
            "current_day = 'three'",
            "not_before = 'soon'",
            "started_at = ''",
            // It sorts among those that are due, and is no instant.
            "next_action_at = '2026-01-05'",
            // It is read, but is not found again as it was written.
            "day_date = '2026-1-5'",
        ],
        Backend::Postgres => [
            "day_date = 'infinity'",
            "day_date = '-infinity'",
            "day_date = '300000-01-01'",
            "not_before = 'infinity'",
            "started_at = '-infinity'",
            "ended_at = 'infinity'",
            "day_started_at = '290000-01-01'",
        ],
    });
    ways
}

async fn a_row_that_cant_be_read_harms_no_other(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![email(1, 13, "A"), email(2, 13, "B")];
    let timeline = app.timeline(definition("hook", 2, actions)).await;
    let action = action_id(&timeline).to_string();
    let ways = breakages(backend);
    let count = i64::try_from(ways.len()).expect("a number");
    let ids = crowd(&app, &timeline, "broken", ways.len()).await;
    crowd(&app, &timeline, "calm", 3).await;
    for (id, way) in ids.iter().zip(&ways) {
        alter(&app, id, &way.replace("{action}", &action)).await;
    }
    app.pass_hours(1);
    let before = broken_rows(&app, backend).await;
    let dry = pb::ProcessCampaignTimelinesRequest {
        dry_run: true,
        ..Default::default()
    };
    let rehearsed = hourly(&mut app.ticks(), dry).await.expect("a summary");
    // A rehearsal does not find out what can't be written.
    let unwritable = i64::from(backend == Backend::Sqlite);
    assert_eq!(broken(&rehearsed), count - unwritable, "{rehearsed:?}");

    let ticked = app.hourly().await;
    assert_eq!((mails(&ticked), broken(&ticked), ticked.has_more), (3, count, false));
    assert_eq!(broken_rows(&app, backend).await, before);
    app.pass_hours(1);
    let ticked = app.hourly().await;
    assert_eq!((mails(&ticked), broken(&ticked), ticked.has_more), (0, count, false));

    // One that is mended is served.
    alter(&app, &ids[0], "time_zone = 'Etc/UTC'").await;
    let ticked = app.hourly().await;
    assert_eq!((mails(&ticked), broken(&ticked)), (1, count - 1));
    let before = broken_rows(&app, backend).await;

    app.set("2026-01-06T00:00:00Z");
    let advanced = daily(&mut app.ticks(), pb::AdvanceCampaignDaysRequest::default()).await;
    let advanced = advanced.expect("a summary").counts.expect("counts").advanced_runs;
    assert_eq!(advanced, 4);
    app.set("2026-01-06T13:00:00Z");
    assert_eq!(mails(&app.hourly().await), 4);
    let of_mended = |rows: Vec<String>| {
        rows.into_iter()
            .filter(|row| !row.contains(&ids[0]))
            .collect::<Vec<_>>()
    };
    assert_eq!(of_mended(broken_rows(&app, backend).await), of_mended(before));
}

/// Such entries are kept, and nothing comes of them.
async fn what_names_an_action_that_is_not_there_goes_on(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 13, "A")])).await;
    let entry = "\"id\": 999999, \"due\": \"2026-01-05T12:30:00Z\", \"until\": \"2026-01-05T12:30:00Z\", \
                 \"since\": \"2026-01-05T12:30:00Z\", \"at\": \"2026-01-05T12:30:00Z\", \"late_by_ms\": 0";
    let ways = [
        "completed_actions = '999999'".to_owned(),
        "skipped_actions = 'condition:999999'".to_owned(),
        format!("deferred_actions = '[{{{entry}, \"reason\": \"spacing\"}}]'"),
        format!(
            "failed_actions = '[{{{entry}, \"attempts\": 1, \"state\": \"failed\", \"reason\": \"temporary\", \"error\": \"\"}}]'"
        ),
        format!("in_flight_actions = '[{{{entry}, \"attempt\": 1}}]'"),
        format!(
            "in_flight_actions = '[{{{entry}, \"attempt\": 1}}]', lease_token = 7, lease_expires_at = next_action_at"
        ),
    ];
    let ids = crowd(&app, &timeline, "c", ways.len()).await;
    for (id, way) in ids.iter().zip(&ways) {
        alter(&app, id, way).await;
    }
    app.pass_hours(1);
    let ticked = app.hourly().await;
    assert_eq!((mails(&ticked), broken(&ticked), ticked.has_more), (6, 0, false));
    assert_eq!(ticked.oldest_due_time, None);
    for id in &ids {
        app.progress(id).await;
    }
    app.set("2026-01-06T00:00:00Z");
    assert_eq!(app.daily().await.counts.expect("counts").completed_runs, 6);
}

/// As in a database that was put together from two backups.
async fn an_attempt_that_the_ledger_has_already_holds_up_nobody(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 13, "A")])).await;
    let ids = crowd(&app, &timeline, "calm", 3).await;
    let entry = format!(
        "insert into action_executions (customer_id, progress_id, action_id, campaign_timeline_id, attempt, due_at, started_at, \
         finished_at, channel, outcome) select customer_id, id, {}, campaign_timeline_id, 1, updated_at, updated_at, updated_at, \
         'email', 'retrying' from customer_timeline_progress where customer_id = '{}'",
        action_id(&timeline),
        ids[0]
    );
    run_sql(&app, &[entry]).await;
    app.pass_hours(1);
    for sent in [3, 0] {
        let ticked = app.hourly().await;
        assert_eq!((mails(&ticked), broken(&ticked), ticked.has_more), (sent, 0, false));
        app.pass_hours(1);
    }
    assert_eq!(app.sent_count(), 3);
    app.server.shutdown().await.expect("stopped");
}
