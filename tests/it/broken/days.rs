//! The daily job: rows that are broken in what it goes by stay, and all others move on.

use campaign_automation::proto::campaign::v1 as pb;

use super::{alter, broken, broken_rows, run_sql};
use crate::support::app::daily;
use crate::support::given::{definition, email};
use crate::support::mailing::crowd;
use crate::support::{App, Backend, on_each_database};

on_each_database!(the_daily_tick_goes_on,);

async fn the_daily_tick_goes_on(backend: Backend) {
    for when_missed in [pb::WhenMissed::Shift, pb::WhenMissed::CatchUp] {
        let app = App::start(backend).await;
        let mut hook = definition("hook", 9, vec![email(1, 1, "A"), email(2, 1, "B"), email(9, 9, "C")]);
        hook.when_missed = when_missed.into();
        let timeline = app.timeline(hook).await;
        // What can't be grouped with others, and what is broken elsewhere and moves with its like.
        let (ways, moved) = match backend {
            Backend::Sqlite => (
                vec!["current_day = 'three'", "day_date = '1'", "day_date = '2026-01'"],
                vec!["jumped_days = '[1'", "completed_actions = '['"],
            ),
            Backend::Postgres => (
                vec!["day_date = '-infinity'", "day_date = '4000-01-01 BC'"],
                vec!["jumped_days = '7'", "completed_actions = '7'"],
            ),
        };
        let count = i64::try_from(ways.len()).expect("a number");
        let ids = crowd(&app, &timeline, "broken", ways.len()).await;
        let calm = crowd(&app, &timeline, "calm", 3).await;
        let with_them = crowd(&app, &timeline, "calm-moved", moved.len()).await;
        let all = 3 + i64::try_from(moved.len()).expect("a number");
        app.hourly().await;
        for (id, way) in ids.iter().chain(&with_them).zip(ways.iter().chain(&moved)) {
            alter(&app, id, way).await;
        }
        let zone = "insert into time_zones (time_zone) values ('Mars/Olympus')";
        run_sql(&app, &[zone.to_owned()]).await;
        let before = broken_rows(&app, backend).await;
        app.set("2026-01-08T00:30:00Z");
        for dry_run in [true, false] {
            let request = pb::AdvanceCampaignDaysRequest {
                dry_run,
                ..Default::default()
            };
            let summary = daily(&mut app.ticks(), request).await.expect("a summary");
            assert_eq!(broken(&summary), count, "{when_missed:?}, {dry_run}");
            assert_eq!(
                summary.counts.expect("counts").advanced_runs,
                all,
                "{when_missed:?}, {dry_run}"
            );
        }
        assert_eq!(broken_rows(&app, backend).await, before);
        let expected = match when_missed {
            pb::WhenMissed::CatchUp => 4,
            pb::WhenMissed::Shift | pb::WhenMissed::Unspecified => 2,
        };
        for id in &calm {
            assert_eq!(app.progress(id).await.current_day, expected, "{when_missed:?}");
        }
        // Nobody else is left to move.
        app.set("2026-01-08T00:35:00Z");
        let summary = app.daily().await;
        assert_eq!(summary.counts.expect("counts").advanced_runs, 0, "{when_missed:?}");
        // What is mended moves at the next tick all the same.
        alter(&app, &ids[0], "current_day = 1, day_date = '2026-01-05'").await;
        app.set("2026-01-08T00:40:00Z");
        let summary = app.hourly().await;
        assert_eq!(summary.counts.expect("counts").advanced_runs, 1, "{when_missed:?}");
    }
}
