//! The hourly tick as campaigns really are: conditions that look at what customers did, mails in text and HTML with a link to
//! unsubscribe, suppressions, and runs that have been under way for a while.
//!
//! Each day has a wait at midnight, and a mail at noon and at one, of which the first asks whether the mail before it was opened. So
//! half the mails have a condition, and after 90 days 270 actions are finished.

use anyhow::ensure;
use campaign_automation::engine::PublicUrl;
use campaign_automation::proto::campaign::v1 as pb;
use std::sync::Arc;
use std::time::Instant;

use crate::Plan;
use crate::app::{App, apply_campaign, apply_timeline};
use crate::hourly::{AT_A_TIME, AT_ONCE, Daily, Day, Days, beside};
use crate::measure::{Line, per_second};
use crate::place::{NOON, Place};
use crate::senders::Taker;

/// How many days make a long run.
const LONG: i32 = 90;

/// How many actions a day has: a wait and two mails.
const ACTIONS: usize = 3;

/// How many events each customer has.
const EVENTS: usize = 50;

/// How many addresses are suppressed, none of which is written to here.
const SUPPRESSED: usize = 10_000;

/// A server whose customers are on some day of a real campaign.
struct Real {
    place: Place,
    app: App,
    taker: Arc<Taker>,
    customers: usize,
}

/// Real campaigns on their first day beside plain ones, with the same number of mails.
pub(crate) async fn first_day(plan: &Plan) -> anyhow::Result<Line> {
    let plain = Daily::start(plan, "real-plain", &AT_ONCE, plan.due).await?;
    beside(plan, "hourly-real", Real::start(plan, "real", 1).await?, plain).await
}

/// Real campaigns after many days beside their first days.
pub(crate) async fn many_days(plan: &Plan) -> anyhow::Result<Line> {
    let first = Real::start(plan, "real", 1).await?;
    beside(
        plan,
        "hourly-day-90",
        Real::start(plan, "real-later", LONG).await?,
        first,
    )
    .await
}

impl Real {
    async fn start(plan: &Plan, name: &str, day: i32) -> anyhow::Result<Self> {
        let customers = plan.due / 2;
        let place = Place::new(name).await?;
        let mut config = place.config()?;
        config.email_concurrency = AT_A_TIME;
        config.public_url = Some(PublicUrl::parse("https://mail.example.com")?);
        config.postal_address = Some("Shop Ltd, 1 High Street, London".to_owned());
        let taker = Taker::of_mails()?;
        let app = App::start_with(config, Some(taker.senders())).await?;
        apply_campaign(&app.channel, campaign()).await?;
        let timeline = apply_timeline(&app.channel, timeline(day + plan.days()?)).await?;
        place.load(timeline, customers, &format!("'{NOON}'")).await?;
        let history = history(&place, day);
        place
            .run(&history.iter().map(String::as_str).collect::<Vec<_>>())
            .await?;
        place.vacuum().await?;
        Ok(Self {
            place,
            app,
            taker,
            customers,
        })
    }
}

impl Days for Real {
    /// At noon.
    async fn next_day(&self) -> anyhow::Result<()> {
        self.app.pass(chrono::Duration::hours(23));
        self.app.advance().await?;
        self.place.vacuum().await
    }

    /// The mails of noon and of one, in two ticks.
    async fn day(&self) -> anyhow::Result<Day> {
        self.taker.lateness(Instant::now());
        let before = self.app.statements();
        let noon = Instant::now();
        let mut done = self.app.execute().await?;
        let mut took = noon.elapsed();
        let mut lateness = self.taker.lateness(noon);
        self.app.pass(chrono::Duration::hours(1));
        self.place.vacuum().await?;
        let one = Instant::now();
        done += self.app.execute().await?;
        took += one.elapsed();
        lateness.extend(self.taker.lateness(one));
        let mails = lateness.len();
        ensure!(mails == 2 * self.customers, "{mails} mails were sent");
        ensure!(
            done == (ACTIONS * self.customers) as u64,
            "{done} actions were carried out"
        );
        Ok(Day {
            rate: per_second(mails, took),
            lateness,
            statements: (self.app.statements() - before) as f64 / mails as f64,
        })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.app.stop().await
    }
}

fn campaign() -> pb::CampaignDefinition {
    let paragraph = "<p>This week we have something for you that others like you were glad to have, and it is no more than \
                     two minutes away. Answer this mail if you would rather talk to one of us, at any time that suits you.</p>";
    pb::CampaignDefinition {
        campaign_id: "REAL".to_owned(),
        kind: pb::CampaignKind::Marketing.into(),
        subject: "{{ customer.name }}, day {{ day }}".to_owned(),
        text_body:
            "Hello {{ customer.name | default('friend', true) }},\n\nthis is day {{ day }} of {{ timeline.name }}.\n\n\
                    {{ sender.postal_address }}\nNo more mails: {{ links.unsubscribe }}\n"
                .to_owned(),
        html_body: format!(
            "<html><body><h1>Hello {{{{ customer.name | default('friend', true) }}}}</h1>{}\
             {{% if customer.engagement_score > 50 %}}<p>You are one of our best.</p>{{% endif %}}\
             <p>{{{{ sender.postal_address }}}} <a href=\"{{{{ links.unsubscribe }}}}\">No more mails</a></p></body></html>",
            paragraph.repeat(6)
        ),
        ..Default::default()
    }
}

fn timeline(duration_days: i32) -> pb::TimelineDefinition {
    let mail = |key: String, day_number, delay_hours| pb::ActionDefinition {
        key,
        day_number,
        delay_hours,
        channel: pb::Channel::Email.into(),
        action_type: pb::ActionType::SendEmail.into(),
        campaign_id: "REAL".to_owned(),
        ..Default::default()
    };
    let unless_opened = |of_action| pb::Condition {
        then: pb::ConditionThen::Skip.into(),
        test: Some(pb::condition::Test::EmailOpened(pb::EmailOpened {
            within_hours: 48,
            of_action,
        })),
    };
    let actions = (1..=duration_days).flat_map(|day| {
        let wait = pb::ActionDefinition {
            key: format!("wait-{day}"),
            day_number: day,
            channel: pb::Channel::Wait.into(),
            action_type: pb::ActionType::Wait.into(),
            ..Default::default()
        };
        let before = if day == 1 {
            String::new()
        } else {
            format!("one-{}", day - 1)
        };
        let mut noon = mail(format!("noon-{day}"), day, 12);
        noon.conditions.push(unless_opened(before));
        [wait, noon, mail(format!("one-{day}"), day, 13)]
    });
    pb::TimelineDefinition {
        slug: "real".to_owned(),
        name: "Real".to_owned(),
        pipeline_stage: "hook".to_owned(),
        duration_days,
        is_active: true,
        actions: actions.collect(),
        ..Default::default()
    }
}

/// What happened before: the days of the runs that are over, of which each other one had its first mail skipped; what customers did, all
/// of it more than two days ago; and who is suppressed.
fn history(place: &Place, day: i32) -> Vec<String> {
    let hash = if place.is_sqlite() {
        "lower(hex(randomblob(32)))"
    } else {
        "md5(random()::text) || md5(random()::text)"
    };
    // As the service writes them. The ids begin with 1, three a day.
    let pairs = 0..(day - 1) / 2;
    let completed: Vec<String> = pairs
        .clone()
        .map(|pair| format!("{}-{},{}", 6 * pair + 1, 6 * pair + 4, 6 * pair + 6))
        .collect();
    let skipped: Vec<String> = pairs.map(|pair| (6 * pair + 5).to_string()).collect();
    let completed = completed.join(",");
    let skipped = if skipped.is_empty() {
        String::new()
    } else {
        format!("condition:{}", skipped.join(","))
    };
    let days_ago = |count: &str| {
        if place.is_sqlite() {
            format!(
                "strftime('%Y-%m-%dT%H:%M:%S+00:00', {}, '-' || {count} || ' days')",
                place.midnight()
            )
        } else {
            format!("{} - ({count}) * interval '1 day'", place.midnight())
        }
    };
    let (with, numbers) = place.numbers("e", EVENTS);
    let (with_suppressed, suppressed) = place.numbers("s", SUPPRESSED);
    let ago = days_ago("(3 + e.n)");
    let midnight = place.midnight();
    vec![
        format!("update customers set email_hash = {hash}"),
        format!(
            "update customer_timeline_progress set current_day = {day}, completed_actions = '{completed}', skipped_actions = '{skipped}'"
        ),
        format!(
            "insert into engagement_events (customer_id, event_id, kind, occurred_at, received_at, progress_id) {with} \
             select p.customer_id, 'e' || e.n, case e.n % 2 when 0 then 'email_opened' else 'email_clicked' end, {ago}, {ago}, p.id \
             from customer_timeline_progress p cross join {numbers}"
        ),
        format!(
            "insert into suppressions (channel, address_hash, scope, reason, detail, created_at) {with_suppressed} \
             select 'email', {hash}, 'all', 'hard_bounce', '', {midnight} from {suppressed}"
        ),
    ]
}
