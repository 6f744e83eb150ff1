//! How fast mails leave, beside what `smtp-source` of Postfix reaches: the same mail, the same number of connections, the same
//! server, `smtp-sink`, which discards what it gets. `smtp-source` waits for the answer to each command.

use anyhow::{Context as _, bail, ensure};
use campaign_automation::channels::{
    ChannelUrl, Content, MailOptions, Mailbox, Message, Outcome, Sender as _, SmtpLimits, SmtpSender, TrustedRoots,
};
use campaign_automation::clock::ManualClock;
use campaign_automation::domain::{ActionId, CustomerId, EmailAddress, ProgressId, Slug};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::Plan;
use crate::app::{App, Definition};
use crate::callers::{self, Calls};
use crate::measure::{Line, per_second};
use crate::place::{NOON, Place};
use crate::programs::Sink;

/// How large a mail is, about, in bytes.
const SIZE: usize = 2048;

/// By how many connections mails leave.
const CONNECTIONS: usize = 8;

/// Who the mails are from.
const FROM: &str = "Shop <shop@example.com>";

/// The channel alone, which makes mails of messages and hands them over; and a whole hourly tick: claims, templates, mails, outcomes.
pub(crate) async fn measure(plan: &Plan) -> anyhow::Result<[Line; 2]> {
    let place = Place::new("smtp").await?;
    let sink = Sink::start()?;
    let mut config = place.config()?;
    config.channels.email_url = Some(ChannelUrl::parse(&sink.url())?);
    config.channels.email_from = Some(Mailbox::parse(FROM)?);
    config.email_concurrency = CONNECTIONS;
    let app = App::start_with(config, None).await?;
    let days = plan.days()?;
    let definition = Definition {
        slug: "bench",
        is_active: true,
        duration_days: days,
        days: (1..=days).collect(),
        hour: 12,
        text: text("{{ customer.name }}"),
    };
    let timeline = app.apply(definition).await?;
    // The first is a test customer, whose mails are files: a sample.
    place.load(timeline, plan.mails + 1, &format!("'{NOON}'")).await?;
    let test = "update customers set is_test = true where customer_id = 'c00000001'";
    place.run(&[test]).await?;
    // Connections are made, templates read and statements prepared.
    app.execute().await?;
    let sample = sample(&place)?;
    let channel = MailChannel::new(plan, &sink)?;
    channel.send().await?;
    let (mut alone, mut ticks) = (Line::new("smtp-channel"), Line::new("smtp-tick"));
    for _ in 0..plan.rounds {
        app.next_day();
        app.advance().await?;
        place.vacuum().await?;
        let of_floor = per_second(plan.mails, sink.fill(&sample, plan.mails, CONNECTIONS)?);
        let sent = channel.send().await?;
        alone.times.extend(sent.each);
        alone.rounds.push((of_floor, per_second(plan.mails, sent.took)));
        let (before, begun) = (app.statements(), Instant::now());
        let sent = app.execute().await?;
        let took = begun.elapsed();
        ensure!(sent == plan.mails as u64, "{sent} mails were sent");
        ticks.add_whole(of_floor, plan.mails, took, app.statements() - before);
    }
    app.stop().await?;
    Ok([alone.sorted(), ticks.sorted()])
}

/// The mail of the test customer, as it goes over the wire but for the line breaks, which `smtp-source` makes.
fn sample(place: &Place) -> anyhow::Result<PathBuf> {
    let mut mails = std::fs::read_dir(place.outbox().join("test"))?;
    let mail = std::fs::read_to_string(mails.next().context("a mail of the test customer")??.path())?;
    let file = place.folder().join("sample");
    std::fs::write(&file, mail.replace("\r\n", "\n"))?;
    Ok(file)
}

/// The channel of a server, and what it is given to send.
struct MailChannel {
    sender: Arc<SmtpSender>,
    messages: Arc<Vec<Message>>,
}

impl MailChannel {
    fn new(plan: &Plan, sink: &Sink) -> anyhow::Result<Self> {
        let ChannelUrl::Smtp(server) = ChannelUrl::parse(&sink.url())? else {
            bail!("no mail server");
        };
        let limits = SmtpLimits {
            connections: CONNECTIONS,
            ..SmtpLimits::default()
        };
        let clock = Arc::new(ManualClock::new(NOON.parse()?));
        let sender = SmtpSender::new(server, &TrustedRoots::public(), Mailbox::parse(FROM)?, clock, limits)?;
        let messages: anyhow::Result<Vec<Message>> = (1..=plan.mails).map(message).collect();
        Ok(Self {
            sender: Arc::new(sender),
            messages: Arc::new(messages?),
        })
    }

    /// Sends all, as many at a time as there are connections.
    async fn send(&self) -> anyhow::Result<Calls> {
        let (sender, messages) = (Arc::clone(&self.sender), Arc::clone(&self.messages));
        callers::make(CONNECTIONS, 0..self.messages.len(), move |_, at| {
            let (sender, messages) = (Arc::clone(&sender), Arc::clone(&messages));
            async move {
                let outcome = sender.send(&messages[at]).await;
                ensure!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
                Ok(())
            }
        })
        .await
    }
}

/// What a tick gives to the channel for this customer.
fn message(number: usize) -> anyhow::Result<Message> {
    Ok(Message {
        idempotency_key: format!("6f1c0de0-0000-4000-8000-{number:012}"),
        attempt: 1,
        customer_id: CustomerId::parse(&format!("c{number:08}"))?,
        progress_id: ProgressId(i64::try_from(number)?),
        timeline: Slug::parse("bench")?,
        action_id: ActionId(1),
        action_key: "d1".to_owned(),
        valid_for: None,
        content: Content::Email {
            to: EmailAddress::parse(&format!("c{number}@example.com"))?,
            to_name: format!("Customer {number}"),
            subject: format!("For Customer {number}"),
            text: Some(text(&format!("Customer {number}"))),
            html: None,
            options: Box::new(MailOptions::default()),
        },
    })
}

/// The text of a mail to a customer of this name.
fn text(name: &str) -> String {
    let line = "Some words of a mail that is about as long as mails are.\n";
    format!("Hello {name},\n\n{}", line.repeat(SIZE * 4 / 5 / line.len()))
}
