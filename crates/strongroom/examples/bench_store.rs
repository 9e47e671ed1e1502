//! What `cargo xtask bench` measures on: Azure's stand-in with a key, and a database with items in an Azure vault.
//!
//! `bench_store FOLDER ITEMS` makes both in the folder, prints one line of JSON (`url`, `slug`, `token`, `items`: ids)
//! and goes on being the stand-in until its standard input ends.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

#[path = "../tests/it/site.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod site;

use std::{env, error::Error, io::Read};

use serde_json::json;
use strongroom::{
    app::App,
    id::VaultId,
    item::{Content, Field, FieldKind, ItemType},
};
use uuid::Uuid;

use site::{SLUG, Site, Wishes, close};

/// Items of one write.
const BATCH: usize = 500;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, items] = arguments.as_slice() else { return Err("bench_store FOLDER ITEMS".into()) };
    let database = format!("sqlite:{folder}/strongroom.db");
    let wishes = Wishes { folder: folder.as_ref(), database, owner_password: "correct horse battery" };
    let site = Site::build(wishes).await;
    let app = site.open().await;
    let ids = fill(&app, &site, items.parse()?).await?;
    close(app).await;
    println!("{}", json!({"url": site.url, "slug": SLUG, "token": site.token.expose(), "items": ids}));
    // The stand-in answers on the other threads meanwhile.
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

async fn fill(app: &App, site: &Site, count: usize) -> Result<Vec<Uuid>, Box<dyn Error>> {
    let caller = app.caller_by_token(site.token.expose()).await?;
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        let first = ids.len();
        let contents = (first..count.min(first + BATCH)).map(account).collect();
        for made in app.create_items(&caller, Some(VaultId(site.azure_vault)), contents).await? {
            ids.push(made?.0);
        }
    }
    Ok(ids)
}

/// An account as people have them; a reveal answers a bit more than 1 KiB.
fn account(number: usize) -> Content {
    let field = |name: &str, kind, value: String| Field::new(name, kind, value.into());
    Content {
        item_type: ItemType::Account,
        kind: None,
        title: format!("Account {number}").into(),
        urls: vec![format!("https://service-{number}.example.com/sign-in").into()],
        usernames: vec![format!("user-{number}@example.com").into()],
        labels: vec![],
        fields: vec![
            field("Password", FieldKind::Password, format!("correct horse battery staple {number}")),
            field("One-time code", FieldKind::Totp, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP".into()),
            field("Notes", FieldKind::Notes, "What one writes down beside a password. ".repeat(20)),
        ],
    }
}
