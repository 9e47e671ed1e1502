//! Who does the set-up, and in which subscription.

use std::{fs, path::PathBuf};

use clap::{Args, ValueEnum};
use strongroom_keys::{TenantId, azure::Cloud};
use url::Url;

use crate::{
    azure_setup::{AzureCli, Client, DeviceCode, SetupError, SignIn, Subscription, Way},
    cli::{
        console::{Console, printable, secret_from_stdin},
        failure::Failure,
    },
    secret_text::SecretText,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// How you sign in; the Azure CLI's sign-in if there is one, otherwise a code to enter in a browser
    #[arg(long, value_name = "HOW", help_heading = "Your own sign-in")]
    sign_in: Option<How>,
    /// Directory (tenant) ID, if you belong to several
    #[arg(
        long,
        value_name = "GUID",
        env = "AZURE_TENANT_ID",
        hide_env_values = true,
        help_heading = "Your own sign-in"
    )]
    tenant: Option<String>,
    /// Subscription by its id or name; the only one if absent
    #[arg(
        long,
        value_name = "ID",
        env = "AZURE_SUBSCRIPTION_ID",
        hide_env_values = true,
        help_heading = "Your own sign-in"
    )]
    subscription: Option<String>,
    /// Service principal: its Application (client) ID
    #[arg(
        long,
        value_name = "GUID",
        env = "AZURE_CLIENT_ID",
        hide_env_values = true,
        help_heading = "Your own sign-in"
    )]
    admin_client_id: Option<String>,
    /// Service principal: read its client secret from standard input; otherwise from AZURE_CLIENT_SECRET, or asked for
    #[arg(long, help_heading = "Your own sign-in")]
    admin_client_secret_stdin: bool,
    /// Azure cloud
    #[arg(long, default_value = "public", help_heading = "The way to Azure")]
    cloud: CloudName,
    /// Proxy on the way to Azure, http://HOST:PORT
    #[arg(long, value_name = "URL", env = "HTTPS_PROXY", hide_env_values = true, help_heading = "The way to Azure")]
    proxy: Option<String>,
    /// Certificates to trust beside the system's own, as PEM
    #[arg(long, value_name = "FILE", env = "SSL_CERT_FILE", help_heading = "The way to Azure")]
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// The Azure CLI's sign-in, from `az login`
    Az,
    /// A code that you enter in a browser, here or on another machine
    DeviceCode,
    /// A service principal: --admin-client-id, --tenant and its client secret
    ServicePrincipal,
}

#[derive(Clone, Copy, ValueEnum)]
enum CloudName {
    Public,
    Government,
    China,
}

/// The way to Azure as the options and the environment have it.
pub(super) struct Reach {
    pub cloud: Cloud,
    pub proxy: Option<Url>,
    pub ca_pem: Option<Vec<u8>>,
}

impl Arguments {
    pub fn cloud(&self) -> Cloud {
        match self.cloud {
            CloudName::Public => Cloud::Public,
            CloudName::Government => Cloud::Government,
            CloudName::China => Cloud::China,
        }
    }

    pub fn tenant(&self) -> Result<Option<String>, Failure> {
        let given = self.tenant.as_deref().filter(|tenant| !tenant.is_empty());
        let parsed = given.map(TenantId::parse).transpose();
        let parsed = parsed.map_err(|error| Failure::usage(format!("--tenant: {}", error.cause)).fix(error.fix))?;
        Ok(parsed.map(|tenant| tenant.to_string()))
    }

    pub fn subscription(&self) -> Option<&str> {
        self.subscription.as_deref().filter(|subscription| !subscription.is_empty())
    }

    pub fn reach(&self) -> Result<Reach, Failure> {
        let proxy = self.proxy.as_deref().filter(|proxy| !proxy.is_empty());
        let proxy = proxy.map(Url::parse).transpose().ok().filter(|proxy| {
            proxy.as_ref().is_none_or(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
        });
        let proxy = proxy.ok_or_else(|| {
            Failure::usage("the proxy (--proxy, HTTPS_PROXY) is no URL").fix("write it as http://HOST:PORT")
        })?;
        let ca_file = self.ca_file.as_ref().filter(|file| !file.as_os_str().is_empty());
        let read = |file: &PathBuf| {
            fs::read(file).map_err(|error| {
                Failure::usage(format!("{} cannot be read: {error}", file.display()))
                    .fix("--ca-file (or SSL_CERT_FILE) names a file with certificates in PEM form")
            })
        };
        Ok(Reach { cloud: self.cloud(), proxy, ca_pem: ca_file.map(read).transpose()? })
    }
}

/// Signs in, and settles on a subscription.
pub(super) async fn administrator(arguments: &Arguments, reach: &Reach, console: &Console) -> Result<Client, Failure> {
    let way = Way::new(reach.cloud, reach.proxy.as_ref(), reach.ca_pem.as_deref())?;
    let tenant = arguments.tenant()?;
    let (sign_in, tenant) = match arguments.sign_in {
        Some(How::Az) => azure_cli(arguments, reach, &way, tenant).await?,
        Some(How::DeviceCode) => device_code(&way, tenant, console).await?,
        Some(How::ServicePrincipal) => service_principal(arguments, tenant, console)?,
        None => match azure_cli(arguments, reach, &way, tenant.clone()).await {
            Ok(signed_in) => signed_in,
            Err(failure) => {
                console.note(&format!("Not with the Azure CLI: {}.", failure.title));
                device_code(&way, tenant, console).await?
            }
        },
    };
    let client = Client::signed_in(way, sign_in, tenant);
    let subscription = subscription(&client, arguments.subscription(), console).await?;
    let me = client.identity().await?;
    console.note(&format!(
        "Signed in to tenant {} as {}; subscription {} ({}).",
        client.tenant(),
        printable(&me.name),
        printable(&subscription.name),
        subscription.id
    ));
    Ok(client.with_subscription(&subscription))
}

async fn azure_cli(
    arguments: &Arguments,
    reach: &Reach,
    way: &Way,
    tenant: Option<String>,
) -> Result<(SignIn, String), Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut az = AzureCli::find(way, &path, tenant).ok_or_else(|| {
        Failure::usage("there is no az on PATH")
            .fix("install the Azure CLI, or sign in otherwise: --sign-in device-code")
    })?;
    az.through(reach.proxy.as_ref(), arguments.ca_file.as_deref());
    Ok(az.sign_in().await?)
}

async fn device_code(way: &Way, tenant: Option<String>, console: &Console) -> Result<(SignIn, String), Failure> {
    let code = DeviceCode::begin(way, tenant.as_deref()).await?;
    console.note(&printable(&code.message));
    Ok(code.wait(way).await?)
}

fn service_principal(
    arguments: &Arguments,
    tenant: Option<String>,
    console: &Console,
) -> Result<(SignIn, String), Failure> {
    let tenant = tenant.ok_or_else(|| {
        Failure::usage("a service principal signs in to a tenant").fix("name it: --tenant, AZURE_TENANT_ID")
    })?;
    let client_id = arguments.admin_client_id.clone().filter(|id| !id.is_empty()).ok_or_else(|| {
        Failure::usage("a service principal signs in with its client id")
            .fix("name it: --admin-client-id, AZURE_CLIENT_ID")
    })?;
    let known = std::env::var("AZURE_CLIENT_SECRET").ok().filter(|secret| !secret.is_empty());
    let secret = match known {
        _ if arguments.admin_client_secret_stdin => secret_from_stdin()?,
        Some(secret) => SecretText::from(secret),
        None => console.ask_secret(
            "Client secret of the service principal",
            "set AZURE_CLIENT_SECRET, or pipe it in and say --admin-client-secret-stdin",
        )?,
    };
    Ok((SignIn::service_principal(client_id, secret), tenant))
}

/// The wanted one, or the only one, or the one that the person chooses.
async fn subscription(client: &Client, wanted: Option<&str>, console: &Console) -> Result<Subscription, Failure> {
    let mut all = client.subscriptions().await?;
    let list = |all: &[Subscription]| {
        let rows: Vec<String> = all.iter().map(|one| format!("  {}  {}", one.id, printable(&one.name))).collect();
        rows.join("\n")
    };
    if let Some(wanted) = wanted {
        let position = all.iter().position(|one| one.id.eq_ignore_ascii_case(wanted) || one.name == wanted);
        return match position {
            Some(position) => Ok(all.swap_remove(position)),
            None => Err(not_found(format!("you see no subscription {wanted} in tenant {}", client.tenant()))
                .fix(format!("choose one of these, or another --tenant:\n{}", list(&all)))),
        };
    }
    match all.len() {
        0 => Err(not_found(format!("you see no subscription in tenant {}", client.tenant()))
            .fix("ask for a role on one, or name another --tenant")),
        1 => Ok(all.swap_remove(0)),
        _ => {
            console.note(&format!("You see several subscriptions:\n{}", list(&all)));
            let chosen = console.ask("Subscription", "name one with --subscription")?;
            let position = all.iter().position(|one| one.id.eq_ignore_ascii_case(&chosen) || one.name == chosen);
            let position = position.ok_or_else(|| Failure::usage(format!("{chosen} is none of them")))?;
            Ok(all.swap_remove(position))
        }
    }
}

fn not_found(what: String) -> Failure {
    Failure::new(crate::cli::failure::Exit::NotFound, "azure.subscription_not_found", what)
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        use crate::{azure_setup::Kind, cli::failure::Exit};
        let (exit, code) = match error.kind() {
            Kind::Usage => (Exit::Usage, "usage"),
            Kind::Denied => (Exit::Denied, "azure.denied"),
            Kind::NotFound => (Exit::NotFound, "azure.not_found"),
            Kind::Unreachable => (Exit::Unreachable, "azure.unreachable"),
            Kind::Other => (Exit::Other, "azure.refused"),
        };
        let mut failure = Failure::new(exit, code, error.to_string());
        failure.fix = error.advice().map(str::to_owned);
        failure.azure_request_id = error.azure_request_id().map(str::to_owned);
        failure
    }
}
