//! Timelines and customers whose rows can't be read, as after a newer version was rolled back.

use campaign_automation::proto::campaign::v1 as pb;

use super::{mails, run_sql};
use crate::support::given::{definition, email};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_timeline_that_cannot_be_read_holds_up_no_other,
    a_customer_that_cannot_be_read_holds_up_no_other,
);

fn broken_timelines(summary: &pb::TickSummary) -> i64 {
    summary.counts.as_ref().expect("counts").broken_timelines
}

/// A condition and a channel that this version does not know. Both ticks go on with the others, on this
/// server, which had read the timeline before, and on one that has just started.
async fn a_timeline_that_cannot_be_read_holds_up_no_other(backend: Backend) {
    for set in [
        r#"conditions = '[{"if":"moon_is_full","then":"skip"}]'"#,
        "channel = 'fax'",
    ] {
        let app = App::start(backend).await;
        let bad = app.timeline(definition("bad", 3, vec![email(1, 23, "A")])).await;
        let good = app
            .timeline(definition("good", 3, vec![email(1, 23, "A"), email(2, 1, "A")]))
            .await;
        for (customer, timeline) in [("anna", &bad), ("bela", &good)] {
            app.customer(customer, "Etc/UTC").await;
            app.start_run(customer, timeline).await;
        }
        let id = bad.timeline_id;
        run_sql(
            &app,
            &[
                format!("update campaign_timeline_actions set {set} where campaign_timeline_id = {id}"),
                format!("update campaign_timelines set revision = revision + 1 where id = {id}"),
            ],
        )
        .await;
        app.set("2026-01-05T23:00:00Z");
        let hourly = app.hourly().await;
        assert_eq!((broken_timelines(&hourly), mails(&hourly)), (1, 1), "{set}");
        assert_eq!(
            hourly.oldest_due_time.expect("anna's").seconds,
            seconds("2026-01-05T23:00:00Z")
        );
        app.set("2026-01-06T01:00:00Z");
        let daily = app.daily().await;
        let counts = daily.counts.as_ref().expect("counts");
        assert_eq!((counts.broken_timelines, counts.advanced_runs), (1, 1), "{set}");
        let hourly = app.hourly().await;
        assert_eq!((broken_timelines(&hourly), mails(&hourly)), (1, 1), "{set}");
        app.server.shutdown().await.expect("stopped");
    }
}

fn seconds(time: &str) -> i64 {
    crate::support::given::at(time).timestamp()
}

/// A zone that this version does not know, and a reason not to write to somebody. The customer's run is counted as broken, and
/// gets nothing.
async fn a_customer_that_cannot_be_read_holds_up_no_other(backend: Backend) {
    let suppressed = "insert into suppressions (channel, address_hash, scope, reason, detail, created_at) \
         select 'phone', email_hash, 'all', 'of_tomorrow', '', created_at from customers where customer_id = 'anna'";
    for (broken, mended) in [
        (
            "update customers set time_zone = 'Mars/Olympus_Mons' where customer_id = 'anna'",
            "update customers set time_zone = 'Etc/UTC' where customer_id = 'anna'",
        ),
        (suppressed, "delete from suppressions"),
    ] {
        let app = App::start(backend).await;
        let timeline = app.timeline(definition("hook", 3, vec![email(1, 23, "A")])).await;
        for customer in ["anna", "bela"] {
            app.customer(customer, "Etc/UTC").await;
            app.start_run(customer, &timeline).await;
        }
        run_sql(&app, &[broken.to_owned()]).await;
        app.set("2026-01-05T23:00:00Z");
        let hourly = app.hourly().await;
        assert_eq!((super::broken(&hourly), mails(&hourly)), (1, 1), "{broken}");
        // Whoever mends the row finds the run as it was.
        run_sql(&app, &[mended.to_owned()]).await;
        let hourly = app.hourly().await;
        assert_eq!((super::broken(&hourly), mails(&hourly)), (0, 1), "{broken}");
        app.server.shutdown().await.expect("stopped");
    }
}
