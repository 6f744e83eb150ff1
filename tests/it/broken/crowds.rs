//! More broken rows than a claim reads at once, before all others.

use campaign_automation::proto::campaign::v1 as pb;

use super::{action_id, broken, mails, run_sql};
use crate::support::app::hourly;
use crate::support::given::{definition, email};
use crate::support::holds::scope;
use crate::support::mailing::crowd;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    broken_rows_at_the_head_hold_up_nobody,
    a_run_that_was_stopped_and_then_broken_holds_up_nobody,
    a_hold_is_released_though_some_rows_are_broken,
);

async fn broken_rows_at_the_head_hold_up_nobody(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 13, "A")])).await;
    crowd(&app, &timeline, "broken", 505).await;
    crowd(&app, &timeline, "calm", 5).await;
    let mut ways = vec!["last_late = '[]'"];
    if backend == Backend::Sqlite {
        ways.extend(["next_action_at = '2026-01-05'", "day_date = '2026-1-5'"]);
    }
    app.pass_hours(1);
    let mut left = 5;
    for way in ways {
        let all = format!("update customer_timeline_progress set {way} where customer_id like 'broken%'");
        run_sql(&app, &[all]).await;
        // A few actions at a time, so that few rows are read at a time: the broken ones take nothing from what may be done.
        let few = pb::ProcessCampaignTimelinesRequest {
            max_actions: 1,
            ..Default::default()
        };
        let ticked = hourly(&mut app.ticks(), few).await.expect("a summary");
        left -= 1;
        assert_eq!((mails(&ticked), ticked.has_more), (1, true), "{way}");
        assert_eq!(broken(&ticked), 505, "{way}");
    }
    let ticked = app.hourly().await;
    assert_eq!((mails(&ticked), broken(&ticked), ticked.has_more), (left, 505, false));
}

/// More than are looked at in one go, too.
async fn a_run_that_was_stopped_and_then_broken_holds_up_nobody(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 13, "A")])).await;
    crowd(&app, &timeline, "broken", 120).await;
    let calm = crowd(&app, &timeline, "calm", 2).await;
    // One of the calm ones was stopped while it was being sent to, and is found behind the broken ones.
    let in_flight = format!(
        "[{{\"id\": {}, \"attempt\": 1, \"due\": \"2026-01-05T13:00:00Z\", \"since\": \"2026-01-05T13:00:00Z\"}}]",
        action_id(&timeline)
    );
    let stopped = "status = 'stopped', next_action_at = null, ended_at = started_at, lease_token = 7, \
                   lease_expires_at = started_at";
    let statements = [
        format!(
            "update customer_timeline_progress set {stopped}, origin = 'imported' where customer_id like 'broken%'"
        ),
        format!(
            "update customer_timeline_progress set {stopped}, in_flight_actions = '{in_flight}' where customer_id = '{}'",
            calm[0]
        ),
        "insert into stopped_in_flight (customer_id, progress_id, lease_expires_at) \
         select customer_id, id, lease_expires_at from customer_timeline_progress where status = 'stopped'"
            .to_owned(),
        "insert into stopped_in_flight (customer_id, progress_id, lease_expires_at) \
         select 'no/such name', 1, lease_expires_at from customer_timeline_progress where customer_id = 'broken0000'"
            .to_owned(),
    ];
    run_sql(&app, &statements).await;
    app.pass_hours(1);
    let ticked = app.hourly().await;
    assert_eq!((mails(&ticked), broken(&ticked), ticked.has_more), (1, 120, false));
    let settled = app.progress(&calm[0]).await;
    assert_eq!(settled.failed_actions[0].state(), pb::FailureState::Unknown);
    // They are looked at again later, when somebody may have mended them.
    assert_eq!(broken(&app.hourly().await), 0);
    run_sql(
        &app,
        &["update customer_timeline_progress set origin = 'started'".to_owned()],
    )
    .await;
    app.pass_hours(24);
    assert_eq!(broken(&app.hourly().await), 0);
    let listed = app
        .list_progress(pb::ListProgressRequest::default())
        .await
        .expect("runs");
    assert!(listed.progress.iter().all(|run| run.in_flight_actions.is_empty()));
}

async fn a_hold_is_released_though_some_rows_are_broken(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 13, "A")])).await;
    crowd(&app, &timeline, "broken", 3).await;
    crowd(&app, &timeline, "calm", 3).await;
    app.hold(scope::all(), "an incident").await;
    app.pass_hours(1);
    assert_eq!(mails(&app.hourly().await), 0);
    let broken_ones = "update customer_timeline_progress set origin = 'imported' where customer_id like 'broken%'";
    run_sql(&app, &[broken_ones.to_owned()]).await;
    app.release(scope::all()).await.expect("released");
    app.pass_hours(1);
    let ticked = app.hourly().await;
    assert_eq!((mails(&ticked), broken(&ticked)), (3, 3));
}
