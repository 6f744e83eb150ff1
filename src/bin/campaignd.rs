//! The server.

use campaign_automation::client::demo::{self, DemoOptions};
use campaign_automation::clock::{Clock, SystemClock};
use campaign_automation::config::{self, Cli, Command, Config, FenceArgs, MigrateArgs, PurgeArgs};
use campaign_automation::random::Random;
use campaign_automation::server::{self, Server};
use campaign_automation::signals::{Interrupted, TRY_AGAIN, until_told, until_told_anywhere};
use campaign_automation::telemetry;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// A tick makes and drops many small values on all threads, which the allocator of glibc lets wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli: Cli = config::parse();
    let result = match cli.command {
        None => serve(cli.config).await,
        Some(Command::Serve(config)) => serve(*config).await,
        Some(Command::Migrate(args)) => migrate(args).await,
        Some(Command::Fence(args)) => fence(args).await,
        Some(Command::Purge(args)) => purge(args).await,
        Some(Command::Demo(args)) => {
            until_told_anywhere(Box::pin(demo::run(DemoOptions {
                outbox: args.outbox,
                channels: Some(args.named.channels),
                left_out: args.named.left_out,
                database: None,
                days: args.days,
            })))
            .await
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campaignd: {error:#}");
            if error.is::<Interrupted>() {
                return ExitCode::from(TRY_AGAIN);
            }
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let installed = telemetry::install(&config.log.settings(), config.monitor.otlp().as_ref())?;
    let served = serve_until_told(config).await;
    // Its collector may be slow, and it waits for it.
    tokio::task::spawn_blocking(|| installed.shutdown()).await?;
    served
}

async fn serve_until_told(config: Config) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (database, insecure) = (config.database.database_url.clone(), config.insecure_public);
    let (asks, how) = (config.auth.asks(), how(&config));
    let has_tls = config.listener.tls().is_some();
    let mut server = Server::start(config, clock(), Random::from_os()).await?;
    tracing::info!(addr = %server.addr(), ?database, "serving gRPC and REST on {}, {how}, database {database:?}", server.addr());
    if let Some(addr) = server.monitor_addr() {
        tracing::info!(monitor = %addr, "metrics and health are on {addr}");
    }
    match (asks, insecure) {
        (false, true) => {
            tracing::warn!("nobody is asked who he is: whoever reaches this address may read and send everything");
        }
        (false, false) => tracing::info!(
            "nobody is asked who he is, so only this machine can call: --callers-file or --jwt-issuer say who may"
        ),
        (true, true) if !has_tls => tracing::warn!("tokens and data are not encrypted, unless a proxy sees to it"),
        (true, true | false) => {}
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        broken = server.broken() => return broken,
    }
    tracing::info!("stopping: what is under way is finished; a second signal ends it at once");
    tokio::select! {
        stopped = server.shutdown() => stopped,
        _ = terminate.recv() => anyhow::bail!("ended by a second signal"),
        _ = interrupt.recv() => anyhow::bail!("ended by a second signal"),
    }
}

/// How callers are served, in words.
fn how(config: &Config) -> String {
    let tls = match config.listener.tls() {
        None => "without TLS",
        Some(files) if files.client_authorities.is_none() => "by TLS",
        Some(_) => "by TLS to those who show a certificate",
    };
    let asked = if config.auth.asks() {
        "callers are asked who they are"
    } else {
        "nobody is asked who he is"
    };
    format!("{tls}, {asked}")
}

/// The machine's clock; in tests that kill this process, one in a file.
fn clock() -> Arc<dyn Clock> {
    #[cfg(feature = "test-support")]
    if let Some(path) = std::env::var_os("CAMPAIGN_TEST_CLOCK") {
        return Arc::new(campaign_automation::clock::FileClock::new(path.into()));
    }
    Arc::new(SystemClock)
}

async fn migrate(args: MigrateArgs) -> anyhow::Result<()> {
    telemetry::install(&args.log.settings(), None)?;
    until_told_anywhere(Box::pin(server::migrate(&args.database, args.distribute))).await
}

async fn purge(args: PurgeArgs) -> anyhow::Result<()> {
    telemetry::install(&args.log.settings(), None)?;
    until_told(async |told| server::purge(args, clock().now(), &told, &mut std::io::stdout()).await).await
}

async fn fence(args: FenceArgs) -> anyhow::Result<()> {
    telemetry::install(&args.log.settings(), None)?;
    until_told_anywhere(Box::pin(server::fence(args, SystemClock.now(), &mut std::io::stdout()))).await
}
