//! The original example: a mail on day 1, a text message on day 3 at ten, 90 days.

use campaign_automation::proto::campaign::v1 as pb;

use crate::support::given::{definition, email, shown, sms};
use crate::support::{App, Backend, on_each_database};

on_each_database!(the_original_example_runs);

async fn the_original_example_runs(backend: Backend) {
    let app = App::start(backend).await;
    let mut hook = definition("hook-90-day", 90, vec![email(1, 0, "HOOK-001"), sms(3, 10, "HOOK-002")]);
    hook.is_default = true;
    let timeline = app.timeline(hook).await;
    app.customer("anna", "America/New_York").await;
    let run = app.start_run("anna", &timeline).await;
    assert_eq!((run.current_day, run.duration_days, run.percent_complete), (1, 90, 0.0));
    assert_eq!(run.time_zone_source(), pb::TimeZoneSource::Customer);
    assert_eq!(
        shown(run.next_action.clone().expect("next").due_time),
        "2026-01-05T12:00:00Z"
    );

    app.hourly().await;
    assert_eq!(app.sent_to("anna"), ["20260105T120000Z email"]);
    let run = app.progress("anna").await;
    let completed = &run.completed_actions[0];
    assert_eq!(shown(completed.complete_time), "2026-01-05T12:00:00Z");
    assert!(
        completed.provider_id.starts_with('<') && completed.provider_id.ends_with('>'),
        "{}",
        completed.provider_id
    );
    assert_eq!(shown(run.next_action.expect("next").due_time), "2026-01-07T15:00:00Z");

    app.tick_hours(24 * 90).await;
    assert_eq!(app.sent_to("anna"), ["20260105T120000Z email", "20260107T150000Z sms"]);
    let run = app.progress("anna").await;
    assert_eq!(run.status(), pb::ProgressStatus::Completed);
    assert!((run.percent_complete - 100.0).abs() < f64::EPSILON);
    assert_eq!(run.shifted_days, 0);
    app.server.shutdown().await.expect("stopped");
}
