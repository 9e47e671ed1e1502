//! The command line: `azure-standin serve` and `azure-standin env`.

use std::error::Error;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use azure_standin::{Config, RsaPool, Settings, Standin};
use clap::{Args, Parser, Subcommand};

/// A local process that speaks Azure's protocols, for testing without Azure.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until Ctrl-C. The control server takes the next port.
    Serve(Serve),
    /// Print the `export` lines with which Azure's tools use the stand-in: eval "$(azure-standin env)"
    Env(Place),
}

#[derive(Args)]
struct Serve {
    #[command(flatten)]
    place: Place,
    /// How long a role assignment, or its removal, takes to count. Azure: up to ten minutes
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    propagation: i64,
    /// The part of Azure's service limits that is granted; 0 turns them off
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    service_limits: f64,
    /// New Key Vault keys take public ones made for tests, while there are any, which spares making them
    #[arg(long, hide = true)]
    test_keys: bool,
}

#[derive(Args)]
struct Place {
    /// The proxy's address; port 0 takes free ones
    #[arg(long, default_value = "127.0.0.1:8471")]
    listen: SocketAddr,
    /// Where state, CA and the administrator's secret are kept
    #[arg(long, default_value = "azure-standin-data")]
    data: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
    let outcome = match Cli::parse().command {
        Command::Serve(options) => serve(options).await,
        Command::Env(place) => print_env(&place),
    };
    outcome.map_or_else(report, |()| ExitCode::SUCCESS)
}

#[allow(clippy::print_stderr, reason = "it is for whoever started this")]
fn report(error: Box<dyn Error>) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn serve(options: Serve) -> Result<(), Box<dyn Error>> {
    let settings = options.settings();
    let Serve { place, test_keys, .. } = options;
    let control = match place.listen.port() {
        0 => 0,
        port => port.checked_add(1).ok_or("no port is left for the control server")?,
    };
    let control = SocketAddr::from(([127, 0, 0, 1], control));
    let rsa_pool = if test_keys { azure_standin::test_keys() } else { RsaPool::default() };
    let data = Some(place.data.clone());
    let config = Config { listen: place.listen, control, data, rsa_pool, settings, ..Config::default() };
    let standin = Standin::start(config).await?;
    tracing::info!("proxy {} control {}", standin.proxy_url(), standin.control_url());
    tracing::info!(
        "use it with: eval \"$(azure-standin env --listen {} --data {})\"",
        place.listen,
        place.data.display()
    );
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    standin.shutdown().await;
    Ok(())
}

impl Serve {
    fn settings(&self) -> Settings {
        Settings {
            propagation_seconds: self.propagation,
            service_limits: (self.service_limits > 0.0).then_some(self.service_limits),
            ..Settings::default()
        }
    }
}

#[allow(clippy::print_stdout, reason = "the lines are for the shell that asked")]
fn print_env(place: &Place) -> Result<(), Box<dyn Error>> {
    let none_yet = |error: std::io::Error| {
        format!("{} holds no stand-in yet ({error}); run `azure-standin serve` first", place.data.display())
    };
    let data = place.data.canonicalize().map_err(none_yet)?;
    let (admin, _) = azure_standin::read_admins(&data).map_err(none_yet)?;
    let ca = data.join("ca.pem").display().to_string();
    let values = [
        ("HTTPS_PROXY", format!("http://{}", place.listen)),
        ("NO_PROXY", "127.0.0.1,localhost".to_owned()),
        ("SSL_CERT_FILE", ca.clone()),
        ("REQUESTS_CA_BUNDLE", ca.clone()),
        ("CURL_CA_BUNDLE", ca.clone()),
        ("NODE_EXTRA_CA_CERTS", ca),
        ("AZURE_CORE_COLLECT_TELEMETRY", "false".to_owned()),
        ("AZURE_TENANT_ID", admin.tenant_id),
        ("AZURE_CLIENT_ID", admin.client_id),
        ("AZURE_CLIENT_SECRET", admin.client_secret),
        ("AZURE_SUBSCRIPTION_ID", admin.subscription_id),
    ];
    for (name, value) in values {
        println!("export {name}='{}'", value.replace('\'', "'\\''"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_on_the_command_line_count() {
        let settings = |words: &str| match Cli::try_parse_from(words.split(' ')).map(|cli| cli.command) {
            Ok(Command::Serve(options)) => options.settings(),
            _ => panic!("{words}"),
        };
        let azures = settings("azure-standin serve");
        assert_eq!((azures.propagation_seconds, azures.service_limits), (0, Some(1.0)));
        let ordered = settings("azure-standin serve --propagation 90 --service-limits 0");
        assert_eq!((ordered.propagation_seconds, ordered.service_limits), (90, None));
    }
}
