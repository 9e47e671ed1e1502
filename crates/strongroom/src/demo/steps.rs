//! What the demo does on its first start, in the order of the article it follows.

use std::{net::Ipv4Addr, sync::Arc};

use azure_standin::Standin;
use futures_util::{StreamExt, TryStreamExt, stream};
use strongroom_envelope::Random;
use strongroom_keys::azure::Cloud;

use super::{
    DemoFile, Options,
    file::{DemoAdmin, DemoAzure, DemoMember, DemoStandin, DemoVault},
    key::failed,
};
use crate::{
    access::{ItemRole, Role},
    app::{App, Caller},
    azure_setup::{self, Admin, Client as Administrator, Plan, Values},
    client::{Client, ClientError, Server},
    error::{Error, Result},
    http::api::types::{
        AcceptWarnings, AzureKey, CreateItem, CreateVault, Field, FieldKind, ItemType, LoginRequest, SecretKind,
        Strategy, Vault,
    },
    id::ItemId,
    import,
    member::{Join, NewMember, Origin, Setup},
    secret_text::SecretText,
};

const WORKSPACE: &str = "demo";
/// One of each role; the first makes the others.
const MEMBERS: [(Role, &str, &str); 5] = [
    (Role::Owner, "olivia@example.com", "Olivia Berg"),
    (Role::SuperAdmin, "samir@example.com", "Samir Haddad"),
    (Role::Admin, "ada@example.com", "Ada Kowalska"),
    (Role::User, "ugo@example.com", "Ugo Ferri"),
    (Role::Guest, "grace@example.com", "Grace Oduya"),
];
const SAMPLE: &[u8] = include_bytes!("../../../../docs/samples/chrome.csv");
/// Requests of the import under way at a time; the server groups their commits.
const AT_ONCE: usize = 16;

/// Fills a new demo, or takes up a finished one, and returns its file.
pub(super) async fn fill(
    options: &Options,
    app: &Arc<App>,
    standin: &Standin,
    say: &(dyn Fn(&str) + Sync),
) -> Result<DemoFile> {
    let url = format!("http://127.0.0.1:{}", options.port);
    if DemoFile::exists(&options.dir) {
        say("Going on with the demo that is there");
        let mut file = DemoFile::read(&options.dir)?;
        file.url = url;
        file.standin = reach(standin);
        file.write(&options.dir)?;
        return Ok(file);
    }
    let values = set_up_azure(standin, say).await?;
    say("A workspace with one member of each role, and its built-in Cloud vault");
    let (members, caller) = make_members(app, &url).await?;
    let owner = client(&url, &members[0].token)?;
    for item in samples_for_contrast() {
        let made = owner.create_item(&item).await.map_err(refused)?;
        share_with_all(app, &caller, ItemId(made.id)).await?;
    }
    say("5. The vault \"Azure\" with the strategy Azure External Keys, made the default");
    let vault = owner.create_vault(&step_five(&values)).await.map_err(refused)?;
    let mail = owner.create_item(&mail(&vault)).await.map_err(refused)?;
    share_with_all(app, &caller, ItemId(mail.id)).await?;
    import_sample(&owner, &vault, say).await?;
    let vaults = owner.vaults().await.map_err(refused)?;
    let file = DemoFile {
        url,
        workspace: WORKSPACE.into(),
        members,
        vaults: vaults.into_iter().map(described).collect(),
        azure: DemoAzure {
            client_id: values.client_id,
            tenant_id: values.tenant_id,
            client_secret: values.client_secret,
            vault_url: values.vault_url,
            vault_key_name: values.vault_key_name,
        },
        standin: reach(standin),
    };
    file.write(&options.dir)?;
    Ok(file)
}

/// Steps 1 to 4, as an administrator.
async fn set_up_azure(standin: &Standin, say: &(dyn Fn(&str) + Sync)) -> Result<Values> {
    let plan = Plan::new("Strongroom demo", "strongroom-demo", "strongroom-demo", "westeurope", "strongroom");
    let proxy = standin.proxy_url().parse().map_err(|_| unexpected("the stand-in's proxy has no URL"))?;
    let admin = standin.admin();
    let admin = Admin {
        tenant_id: admin.tenant_id.clone(),
        client_id: admin.client_id.clone(),
        client_secret: admin.client_secret.as_str().into(),
        subscription_id: admin.subscription_id.clone(),
    };
    let ca = standin.ca_pem().as_bytes();
    let administrator = Administrator::new(admin, Cloud::Public, Some(&proxy), Some(ca)).map_err(failed)?;
    azure_setup::set_up(&administrator, &plan, say).await.map_err(failed)
}

/// The Owner by the one-time link, the others by invitation, as people would.
async fn make_members(app: &Arc<App>, url: &str) -> Result<(Vec<DemoMember>, Caller)> {
    let origin = Origin { address: Ipv4Addr::LOCALHOST.into(), agent: "strongroom demo".into() };
    let link = app.setup_link().await?.ok_or_else(|| unexpected("there is a workspace already"))?;
    let mut members = Vec::new();
    let mut owner: Option<Caller> = None;
    for (role, email, name) in MEMBERS {
        let password = password(app.random.as_ref())?;
        let again = || SecretText::from(password.expose());
        match &owner {
            None => {
                let setup = Setup {
                    workspace: "Demo".into(),
                    slug: WORKSPACE.into(),
                    name: name.into(),
                    email: email.into(),
                    password: again(),
                };
                let session = app.open_setup(link.token.expose(), setup, &origin).await?;
                owner = Some(app.caller_by_session(session.token.expose()).await?);
            }
            Some(owner) => {
                let new = NewMember { email: email.into(), name: name.into(), role };
                let invitation = app.invite(owner, new).await?;
                let join = Join { name: name.into(), password: again() };
                app.join(invitation.link.token.expose(), join, &origin).await?;
            }
        }
        let token = sign_in(url, email, again()).await?;
        members.push(DemoMember { role: role.word().into(), email: email.into(), password, token });
    }
    let owner = owner.ok_or_else(|| unexpected("the demo made no Owner"))?;
    Ok((members, owner))
}

/// So that every role has something to see: the User may edit it, the others reveal it.
async fn share_with_all(app: &Arc<App>, owner: &Caller, item: ItemId) -> Result<()> {
    for member in app.members(owner).await?.into_iter().filter(|member| member.id != owner.member) {
        let role = if member.role == Role::User { ItemRole::Editor } else { ItemRole::Viewer };
        app.share_item(owner, item, member.id, role).await?;
    }
    Ok(())
}

async fn sign_in(url: &str, email: &str, password: SecretText) -> Result<SecretText> {
    let request = LoginRequest {
        workspace: Some(WORKSPACE.into()),
        email: email.into(),
        password,
        code: None,
        token_name: "Strongroom demo".into(),
    };
    let server = Server::new(url).map_err(refused)?;
    Ok(server.login(&request).await.map_err(refused)?.token)
}

fn client(url: &str, token: &SecretText) -> Result<Client> {
    let server = Server::new(url).map_err(refused)?;
    Ok(server.sign_in(WORKSPACE.into(), token.expose().into()))
}

fn step_five(values: &Values) -> CreateVault {
    CreateVault {
        name: "Azure".into(),
        strategy: Strategy::AzureExternalKeys,
        default: true,
        accept_warnings: AcceptWarnings::default(),
        azure: Some(AzureKey {
            client_id: values.client_id.clone(),
            tenant_id: values.tenant_id.clone(),
            client_secret: Some(values.client_secret.expose().into()),
            client_certificate: None,
            workload_identity: false,
            client_secret_expires: None,
            vault_url: values.vault_url.clone(),
            vault_key_name: values.vault_key_name.clone(),
        }),
    }
}

/// The item that the demo's commands read.
fn mail(vault: &Vault) -> CreateItem {
    let mut mail = CreateItem::new(ItemType::Account, "Mail".into());
    mail.vault_id = Some(vault.id);
    mail.urls = vec!["https://mail.example.com".into()];
    mail.usernames = vec!["olivia@example.com".into()];
    mail.fields = vec![
        field("Password", FieldKind::Password, "tide-and-lamp-8813"),
        field("One-time code", FieldKind::Totp, "otpauth://totp/Mail:olivia?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"),
    ];
    mail
}

fn field(name: &str, kind: FieldKind, value: &str) -> Field {
    Field { name: name.into(), kind, value: value.into() }
}

/// Three items of the Cloud vault, which stay readable while the other vault is dark.
fn samples_for_contrast() -> Vec<CreateItem> {
    let mut wifi = CreateItem::new(ItemType::Secret, "Office Wi-Fi".into());
    wifi.kind = Some(SecretKind::Text);
    wifi.fields = vec![
        field("Network", FieldKind::Text, "Lighthouse"),
        field("Password", FieldKind::Password, "tide-and-lamp-4471"),
    ];
    let mut printer = CreateItem::new(ItemType::Account, "Printer, second floor".into());
    printer.urls = vec!["https://printer.example.com".into()];
    printer.usernames = vec!["admin".into()];
    printer.fields = vec![field("Password", FieldKind::Password, "paper-jam-again")];
    let mut plan = CreateItem::new(ItemType::Secret, "Who to call when the key is dark".into());
    plan.kind = Some(SecretKind::Text);
    plan.fields = vec![field(
        "Notes",
        FieldKind::Notes,
        "Azure administrators: Ada, then Samir.\nThis note lies in the Cloud vault, so it can be read meanwhile.",
    )];
    vec![wifi, printer, plan]
}

async fn import_sample(owner: &Client, vault: &Vault, say: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let unreadable = |error: import::ImportError| unexpected(&error.to_string());
    let format = import::detect(SAMPLE).map_err(unreadable)?;
    let mut parsed = import::parse(SAMPLE, format).map_err(unreadable)?;
    parsed.remove_duplicates();
    let count = parsed.drafts.len();
    say(&format!("Importing {count} sample accounts into it"));
    stream::iter(parsed.drafts)
        .map(|draft| {
            let item = CreateItem { vault_id: Some(vault.id), ..draft.item };
            async move { owner.create_item(&item).await.map(|_| ()) }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await
        .map_err(refused)?;
    Ok(())
}

fn described(vault: Vault) -> DemoVault {
    DemoVault { id: vault.id.to_string(), name: vault.name, strategy: vault.strategy.word().into() }
}

fn reach(standin: &Standin) -> DemoStandin {
    let admin = standin.admin();
    DemoStandin {
        proxy: standin.proxy_url(),
        control: standin.control_url(),
        ca: standin.ca_path().map(|path| path.display().to_string()).unwrap_or_default(),
        admin: DemoAdmin {
            tenant_id: admin.tenant_id.clone(),
            client_id: admin.client_id.clone(),
            client_secret: admin.client_secret.as_str().into(),
            subscription_id: admin.subscription_id.clone(),
        },
    }
}

/// Sixteen letters and digits that nobody mistakes for each other: 80 bits.
fn password(random: &dyn Random) -> Result<SecretText> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0u8; 16];
    random.fill(&mut bytes).map_err(|_| Error::random())?;
    let text: String = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    Ok(text.into())
}

fn refused(error: ClientError) -> Error {
    unexpected(&error.to_string())
}

fn unexpected(what: &str) -> Error {
    Error::Setup { what: what.to_owned().into(), fix: "Start over with strongroom demo --fresh.".into() }
}
