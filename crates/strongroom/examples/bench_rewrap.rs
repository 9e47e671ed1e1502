//! What `cargo xtask bench rewrap` runs: many vaults under one key of Azure's stand-in, with Azure's service limits, and
//! items in them. It makes a new version of the key, rewraps all vaults by jobs, and counts at the stand-in what that
//! took and in the database what it touched.
//!
//! `bench_rewrap FOLDER VAULTS ITEMS` prints one line of JSON.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is what it is for")]

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use azure_standin::{Standin, Stats, test_keys};
use serde_json::json;
use strongroom::{
    app::{App, Caller},
    audit::{self, Actor, Event, Target},
    azure_setup::{self, Admin, Client, Plan, Values},
    clock::SystemClock,
    config::Config,
    id::{EventId, ProviderId, VaultId},
    item::{Content, ItemType},
    keyring::{HeldCredential, KeyRecord, Policy, ProviderRow, Strategy, VaultState, connect, wrap_mac},
    member::{Origin, Setup},
    server,
    store::Tx,
    vault::{Accepted, AzureRequest, CredentialText, KeyRequest, VaultRequest},
};
use strongroom_envelope::{SystemRandom, VaultKey, VaultKeyPlace, seal, wrap_record};
use strongroom_keys::{INTERACTIVE, azure::Cloud};

type Done<T> = Result<T, Box<dyn Error>>;

/// Half of what Azure grants an RSA-4096 key, which is all that jobs may take.
const OPERATIONS_A_SECOND: f64 = 25.0;
/// Longest that the jobs may take, in bounds.
const PATIENCE: f64 = 4.0;

#[tokio::main]
async fn main() -> Done<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, vaults, items] = arguments.as_slice() else { return Err("bench_rewrap FOLDER VAULTS ITEMS".into()) };
    let (folder, vaults, items): (PathBuf, usize, usize) = (folder.into(), vaults.parse()?, items.parse()?);

    let standin = start(&folder, None).await?;
    let plan = Plan::new("Strongroom", "rg", "bench-keys", "westeurope", "strongroom");
    let values = azure_setup::set_up(&administrator(&standin)?, &plan, &|_| ()).await?;
    let app = open(&folder, &standin, vaults).await?;
    let session = make_owner(&app).await?;
    let owner = app.caller_by_session(&session).await?;
    fill(&app, &owner, &values, vaults, items).await?;
    count_touched_rows(&app).await?;
    let kid = azure_setup::status(&administrator(&standin)?, &values.vault_url, &values.vault_key_name).await?.0;
    close(app).await;
    standin.shutdown().await;

    // The same Azure, with its service limits on.
    let standin = start(&folder, Some(1.0)).await?;
    let app = open(&folder, &standin, vaults).await?;
    let owner = app.caller_by_session(&session).await?;
    let newest = azure_setup::rotate(&administrator(&standin)?, &values.vault_url, &values.vault_key_name).await?;
    let seconds = rewrap(&app, &owner, vaults).await?;
    let report = report(&app, &standin.stats(), (&kid, &newest), (vaults, items), seconds).await?;
    println!("{report}");
    Ok(())
}

/// Rewraps every vault; returns how many seconds that took from the request to the last job's end.
async fn rewrap(app: &Arc<App>, owner: &Caller, vaults: usize) -> Done<f64> {
    let began = Instant::now();
    let jobs = tokio::spawn(Arc::clone(app).run_jobs(Default::default()));
    let started = app.rewrap_all(owner, false).await?;
    eprintln!("{} jobs started after {:.1} s", started.len(), began.elapsed().as_secs_f64());
    for (_, change) in started {
        change?;
    }
    let bound = (vaults * 3) as f64 / OPERATIONS_A_SECOND;
    let patience = Duration::from_secs_f64(bound * PATIENCE + 60.0);
    loop {
        let sql = "SELECT COUNT(*) FROM jobs WHERE state = 'running'";
        let left = app.store.read(move |tx| tx.count(sql, &[])).await?;
        if left == 0 {
            break;
        }
        eprintln!("{left} left after {:.0} s", began.elapsed().as_secs_f64());
        if began.elapsed() > patience {
            return Err(format!("{left} jobs are not done after {patience:?}").into());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    jobs.abort();
    Ok(began.elapsed().as_secs_f64())
}

async fn report(
    app: &Arc<App>,
    stats: &Stats,
    (kid, newest): (&str, &str),
    (vaults, items): (usize, usize),
    seconds: f64,
) -> Done<serde_json::Value> {
    let count = |sql: &'static str| app.store.read(move |tx| tx.count(sql, &[]));
    let touched = count("SELECT touched FROM bench").await?;
    let behind = count("SELECT COUNT(*) FROM generations g JOIN vaults v ON v.id = g.vault_id \
                        WHERE v.strategy <> 'cloud' AND g.kid NOT IN (SELECT kid FROM wraps WHERE superseded_at IS NULL)")
    .await?;
    let (old, new) = (stats.operations_on(kid, "unwrapkey"), stats.operations_on(newest, "unwrapkey"));
    let wraps = stats.operations("wrapkey");
    let throttled: u64 = stats.operations.values().filter_map(|by| by.get(&429)).sum();
    let verified = audit::verify(&app.store, Arc::clone(&app.keys), true).await?;
    let operations = wraps + stats.operations("unwrapkey");
    Ok(json!({
        "case": "rewrap", "engine": app.store.engine_name(), "vaults": vaults, "items": items,
        "operations": { "unwrap_old": old, "wrap": wraps, "unwrap_new": new, "describe": stats.operations("get") },
        "operations_per_vault_key": operations as f64 / vaults as f64,
        "throttled": throttled, "item_rows_touched": touched, "vault_keys_behind": behind,
        "seconds": seconds, "bound_seconds": operations as f64 / OPERATIONS_A_SECOND,
        "state_verified": verified.is_sound(),
    }))
}

async fn start(folder: &Path, service_limits: Option<f64>) -> Done<Standin> {
    let settings = azure_standin::Settings { service_limits, ..azure_standin::Settings::default() };
    let data = Some(folder.join("azure"));
    Ok(Standin::start(azure_standin::Config { data, rsa_pool: test_keys(), settings, ..Default::default() }).await?)
}

fn administrator(standin: &Standin) -> Done<Client> {
    let admin = standin.admin().clone();
    let admin = Admin {
        tenant_id: admin.tenant_id,
        client_id: admin.client_id,
        client_secret: admin.client_secret.as_str().into(),
        subscription_id: admin.subscription_id,
    };
    let proxy = standin.proxy_url().parse()?;
    Ok(Client::new(admin, Cloud::Public, Some(&proxy), Some(standin.ca_pem().as_bytes()))?)
}

async fn open(folder: &Path, standin: &Standin, vaults: usize) -> Done<Arc<App>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    std::fs::write(folder.join("ca.pem"), standin.ca_pem())?;
    let text = format!(
        "[database]\nurl = {:?}\n\n[instance]\nkey_file = {:?}\n\n[azure]\nproxy = {:?}\nca_file = {:?}\n\n\
         [vaults]\nmax_per_provider = {}\n",
        format!("sqlite:{}", folder.join("strongroom.db").display()),
        folder.join("strongroom.key"),
        standin.proxy_url(),
        folder.join("ca.pem"),
        vaults.min(1000),
    );
    let config = Config::parse(&text, "the bench", Vec::new())?;
    Ok(server::open(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await?.app)
}

/// Waits until the last task has let go of the database.
async fn close(app: Arc<App>) {
    let store = Arc::downgrade(&app.store);
    drop(app);
    while store.strong_count() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns the token of the Owner's session.
async fn make_owner(app: &Arc<App>) -> Done<String> {
    let link = app.setup_link().await?.ok_or("the store is not empty")?;
    let setup = Setup {
        workspace: "Bench".into(),
        slug: "bench".into(),
        name: "Olivia Owner".into(),
        email: "owner@example.com".into(),
        password: "correct horse battery".into(),
    };
    let origin = Origin { address: std::net::Ipv4Addr::LOCALHOST.into(), agent: "bench".into() };
    let session = app.open_setup(link.token.expose(), setup, &origin).await?;
    Ok(session.token.expose().to_owned())
}

/// One vault by step 5, the others like it without its checks, and as many items in each.
async fn fill(app: &Arc<App>, owner: &Caller, values: &Values, vaults: usize, items: usize) -> Done<()> {
    let began = Instant::now();
    let key = KeyRequest::Azure(AzureRequest {
        client_id: values.client_id.clone(),
        tenant_id: values.tenant_id.clone(),
        credential: CredentialText::Secret(values.client_secret.expose().into()),
        credential_expires: None,
        vault_url: values.vault_url.clone(),
        vault_key_name: values.vault_key_name.clone(),
    });
    let request = VaultRequest { name: "Azure 1".into(), make_default: true, accept_warnings: Accepted::All, key };
    let first = app.create_vault(owner, request).await?.id;
    let (row, _) = app.keyring.provider_row(first, 1).await?;
    let mut all = vec![first];
    for number in 2..=vaults {
        all.push(another_vault(app, &row, number).await?);
    }
    eprintln!("{vaults} vaults after {:.0} s", began.elapsed().as_secs_f64());
    let mut made = 0;
    for (index, vault) in all.into_iter().enumerate() {
        let count = items * (index + 1) / vaults - made;
        for batch in (0..count).collect::<Vec<_>>().chunks(500) {
            let contents = || batch.iter().map(|number| secret(made + number)).collect();
            // Each vault is cold: the first hundreds use up what Azure allows, and the others wait.
            let outcomes = loop {
                match app.create_items(owner, Some(vault), contents()).await {
                    Err(strongroom::error::Error::KeyUnavailable(why)) if why.code == "azure.throttled" => {}
                    other => break other?,
                }
            };
            for outcome in outcomes {
                outcome?;
            }
        }
        made += count;
    }
    eprintln!("{made} items after {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// A vault with a key of its own under the KEK of `like`, as making one would leave it.
async fn another_vault(app: &Arc<App>, like: &ProviderRow, number: usize) -> Done<VaultId> {
    let (now, random) = (app.clock.now(), app.random.as_ref());
    let (id, vault) = (ProviderId::generate(now, random)?, VaultId::generate(now, random)?);
    let mut row = ProviderRow { id, vault, ..like.clone() };
    let credential = ProviderId::generate(now, random)?.0;
    let sealed = {
        let text = like.opened(&like.credential, &app.keys)?;
        seal(app.keys.as_ref(), &row.credential_place(credential), text.text().as_bytes(), random)?
    };
    row.credential = HeldCredential { id: credential, sealed, ..like.credential.clone() };
    let place = VaultKeyPlace { workspace: row.workspace.bytes(), vault: vault.bytes(), generation: 1 };
    let provider = connect(&row, &app.azure, &app.keys, &app.random)?;
    let wrapped = provider.wrap_key(&wrap_record(&place, &VaultKey::generate(random)?), INTERACTIVE).await?;
    let policy = Policy {
        workspace: row.workspace,
        vault,
        strategy: Strategy::AzureExternalKeys,
        state: VaultState::Active,
        lease_seconds: app.settings.lease_seconds,
        generation: 1,
        provider: id,
        may_leave: false,
    };
    let record = KeyRecord {
        workspace: row.workspace,
        vault,
        vault_name: format!("Azure {number}"),
        generation: 1,
        kid: wrapped.kid,
        algorithm: wrapped.algorithm.into(),
        wrapped: wrapped.bytes,
        policy,
        provider: row,
    };
    let event = |action, detail| -> Done<Event> {
        let id = EventId::generate(now, random)?;
        let (workspace, target) = (Some(record.workspace), Target::Vault(vault));
        Ok(Event { id, at: now, workspace, actor: Actor::System, action, target, detail })
    };
    let made = vec![
        ("strategy", record.policy.strategy.word().into()),
        ("provider", id.0.into()),
        ("generation", 1u32.into()),
        ("policy_digest", record.policy.digest(&app.keys)),
    ];
    let events = [event("vault.create", made)?, event("key.create", record.facts())?];
    let keys = Arc::clone(&app.keys);
    app.store
        .write(move |tx| {
            insert(tx, &record, &keys, now)?;
            events.iter().try_for_each(|event| tx.record(event))
        })
        .await?;
    Ok(vault)
}

fn insert(
    tx: &mut Tx<'_>,
    record: &KeyRecord,
    keys: &strongroom_envelope::InstanceKeys,
    now: jiff::Timestamp,
) -> strongroom::error::Result<()> {
    let (policy, kid) = (&record.policy, record.kid.to_string());
    tx.execute(
        "INSERT INTO vaults (id, workspace_id, name, name_key, strategy, state, lease_seconds, generation, provider_id, \
                             may_leave, created_at, revision, policy_mac) \
         VALUES ($1, $2, $3, $3, $4, 'active', $5, 1, $6, 0, $7, 1, $8)",
        &[
            record.vault.0.into(),
            record.workspace.0.into(),
            (&record.vault_name).into(),
            policy.strategy.word().into(),
            i64::from(policy.lease_seconds).into(),
            policy.provider.0.into(),
            now.into(),
            policy.mac(keys).to_bytes().as_slice().into(),
        ],
    )?;
    record.provider.insert(tx, keys, now)?;
    tx.execute(
        "INSERT INTO generations (vault_id, generation, kid, created_at) VALUES ($1, 1, $2, $3)",
        &[record.vault.0.into(), (&kid).into(), now.into()],
    )?;
    tx.execute(
        "INSERT INTO wraps (vault_id, generation, kid, provider_id, algorithm, wrapped, created_at, row_mac) \
         VALUES ($1, 1, $2, $3, $4, $5, $6, $7)",
        &[
            record.vault.0.into(),
            (&kid).into(),
            record.provider.id.0.into(),
            (&record.algorithm).into(),
            (&record.wrapped).into(),
            now.into(),
            wrap_mac(keys, record).to_bytes().as_slice().into(),
        ],
    )?;
    Ok(())
}

fn secret(number: usize) -> Content {
    Content {
        item_type: ItemType::Account,
        kind: None,
        title: format!("Account {number}").into(),
        urls: vec![],
        usernames: vec![format!("user-{number}@example.com").into()],
        labels: vec![],
        fields: vec![],
    }
}

/// Lets the database itself count every row of an item that is changed or goes from now on.
async fn count_touched_rows(app: &Arc<App>) -> Done<()> {
    let tables = ["items", "data_keys", "item_revisions", "item_roles"];
    app.store
        .write(move |tx| {
            tx.execute("CREATE TABLE bench (touched BIGINT NOT NULL)", &[])?;
            tx.execute("INSERT INTO bench (touched) VALUES (0)", &[])?;
            for table in tables {
                for (name, what) in [("changed", "UPDATE"), ("gone", "DELETE"), ("came", "INSERT")] {
                    tx.execute(
                        &format!(
                            "CREATE TRIGGER {table}_{name} AFTER {what} ON {table} BEGIN \
                             UPDATE bench SET touched = touched + 1; END"
                        ),
                        &[],
                    )?;
                }
            }
            Ok(())
        })
        .await?;
    Ok(())
}
