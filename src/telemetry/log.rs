//! The log, and whoever takes spans, installed once in a process.

use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, FilterFn, LevelFilter};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use super::otlp::Otlp;

/// The target of spans that only traces are about. The log does not show them, and where nobody takes traces they cost nothing.
pub(super) const SPANS: &str = "campaign_automation_spans";

/// What the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged.
#[derive(Debug, Clone)]
pub struct Log {
    /// The filter, as in `info,campaign_automation=debug`.
    pub filter: String,
    /// What it looks like.
    pub format: Format,
}

/// Sets up the log of this process, to standard error, and the traces where that is asked for. Tests don't. Twice is an error.
pub fn install(log: &Log, otlp: Option<&Otlp>) -> anyhow::Result<Installed> {
    // Its own affairs, at INFO, are nobody's who did not ask for them.
    let filter = format!("opentelemetry_sdk=warn,{}", log.filter);
    let filter: EnvFilter = filter
        .parse()
        .map_err(|error| anyhow::anyhow!("--log (CAMPAIGN_LOG) {:?}: {error}", log.filter))?;
    let traces = otlp.map(Otlp::traces).transpose()?;
    let lines = filter.and(is_logged());
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        Format::Text => {
            let format = tracing_subscriber::fmt::format();
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(std::io::stderr().is_terminal())
                .with_writer(std::io::stderr)
                .event_format(WithTrace(format, Format::Text));
            layer.with_filter(lines).boxed()
        }
        Format::Json => {
            let format = tracing_subscriber::fmt::format().json().flatten_event(true);
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(std::io::stderr)
                .fmt_fields(JsonFields::new())
                .event_format(WithTrace(format, Format::Json));
            layer.with_filter(lines).boxed()
        }
    };
    let spans = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer("campaign-automation"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(is_traced())
    });
    let installed = Registry::default().with(lines).with(spans).try_init();
    installed.map_err(|error| anyhow::anyhow!("can't set up the log: {error}"))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(Installed { traces })
}

/// Makes a panic an entry of the log as others are. Of its message only what stands in the source: what was put together may have
/// a customer in it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let what = panic.payload().downcast_ref::<&'static str>();
    let what = what.unwrap_or(&"its message is not logged");
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        panic.place = place,
        panic.backtrace = backtrace,
        "panicked at {place}: {what}"
    );
}

/// All but the spans that only traces are about.
fn is_logged() -> FilterFn {
    let is_logged: fn(&Metadata<'_>) -> bool = |metadata| !(metadata.is_span() && metadata.target() == SPANS);
    FilterFn::new(is_logged).with_max_level_hint(LevelFilter::TRACE)
}

/// Spans of this service. What is logged within them is none of a trace's business: it may say more than a trace should keep.
fn is_traced() -> FilterFn {
    let is_traced: fn(&Metadata<'_>) -> bool =
        |metadata| metadata.is_span() && metadata.target().starts_with("campaign_automation");
    FilterFn::new(is_traced).with_max_level_hint(LevelFilter::INFO)
}

/// What was installed; [`Installed::shutdown`] ends it.
#[derive(Debug)]
pub struct Installed {
    traces: Option<SdkTracerProvider>,
}

impl Installed {
    /// Hands over the spans that were not handed over yet. Blocks until they are, or the collector took too long.
    pub fn shutdown(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "the last spans could not be handed over: {error}");
        }
    }
}

/// Lines with the ids of the span within which they are written, where it is sampled.
struct WithTrace<F>(F, Format);

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let span = opentelemetry::Context::map_current(|context| context.span().span_context().clone());
        if !span.is_sampled() {
            return self.0.format_event(context, writer, event);
        }
        let (trace, span) = (span.trace_id(), span.span_id());
        match self.1 {
            Format::Text => {
                write!(writer, "trace_id={trace} span_id={span} ")?;
                self.0.format_event(context, writer, event)
            }
            Format::Json => {
                let mut line = String::new();
                self.0.format_event(context, Writer::new(&mut line), event)?;
                let rest = line.strip_prefix('{').unwrap_or(&line);
                write!(writer, "{{\"trace_id\":\"{trace}\",\"span_id\":\"{span}\",{rest}")
            }
        }
    }
}
