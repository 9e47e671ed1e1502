//! `strongroom item`

mod trash;

use std::fs;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use zeroize::Zeroizing;

use super::console::{Console, Format, printable, secret_from_stdin};
use super::failure::{Exit, Failure, state_words};
use super::{lookup, moving};
use crate::client::Client;
use crate::http::api::types::{
    CreateItem, DarkVault, EditItem, Field, FieldKind, Item, ItemQuery, ItemType, Revealed, SearchItems, Vault,
};
use crate::secret_text::SecretText;

/// See and change accounts and secrets.
#[derive(Subcommand)]
pub enum Arguments {
    /// List the items that are shared with you; never their secrets
    #[command(after_help = "Examples:
  strongroom item list --search mail
  strongroom item list --vault Azure --type account --format json")]
    List(List),
    /// Show one item; its fields only with --reveal
    #[command(after_help = "Examples:
  strongroom item get Mail
  strongroom item get 0197c2f0-5f5e-7cc0-8a2b-3f0e7b1c9d11 --reveal --format json")]
    Get(Get),
    /// Create an account or a secret
    #[command(after_help = "Examples:
  strongroom item create Mail --url https://mail.example.com --username ada --field Password
  make-token | strongroom item create 'Build token' --type secret --field-stdin Token
  strongroom item create --from item.json")]
    Create(Create),
    /// Change an item; what is not named stays
    #[command(after_help = "Examples:
  strongroom item edit Mail --title 'Mail (old)'
  new-password | strongroom item edit Mail --field-stdin Password")]
    Edit(Edit),
    /// Move an item to the trash
    #[command(after_help = "Example:\n  strongroom item rm 'Mail (old)'")]
    Rm(Which),
    /// List what lies in the trash, and until when
    #[command(after_help = "Example:\n  strongroom item trash --format json")]
    Trash,
    /// Take an item out of the trash
    #[command(after_help = "Example:\n  strongroom item restore 'Mail (old)'")]
    Restore(trash::Restore),
    /// Delete items in the trash forever
    #[command(after_help = "Examples:
  strongroom item purge 'Mail (old)'
  strongroom item purge --all --yes")]
    Purge(trash::Purge),
    /// Move items to another vault: re-encrypted, with history and shares
    #[command(after_help = "Examples:
  strongroom item move Mail 'Build token' --to Azure --wait
  strongroom item move Mail --to Azure --dry-run")]
    Move(moving::ItemMove),
}

#[derive(Args)]
pub struct List {
    /// Only items of this vault, by name or id
    #[arg(long)]
    vault: Option<String>,
    /// Only items of this type
    #[arg(long = "type")]
    item_type: Option<TypeName>,
    /// Only items in whose title, usernames, URLs or labels this text stands
    #[arg(long)]
    search: Option<String>,
}

#[derive(Args)]
pub struct Which {
    /// Title or id
    item: String,
    /// The vault it is in, by name or id
    #[arg(long)]
    vault: Option<String>,
}

#[derive(Args)]
pub struct Get {
    #[command(flatten)]
    which: Which,
    /// Show the fields with their values; this is audited
    #[arg(long)]
    reveal: bool,
}

#[derive(Args)]
pub struct Create {
    /// What it is listed under
    #[arg(required_unless_present = "from")]
    title: Option<String>,
    /// The vault to create it in, by name or id; the default vault if absent
    #[arg(long)]
    vault: Option<String>,
    #[arg(long = "type", default_value = "account")]
    item_type: TypeName,
    /// What a secret is
    #[arg(long)]
    kind: Option<KindName>,
    /// The whole item as JSON, as in the REST API, from a file or, with -, from standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["title", "kind", "item_type", "Parts"])]
    from: Option<String>,
    #[command(flatten)]
    parts: Parts,
}

#[derive(Args)]
pub struct Edit {
    #[command(flatten)]
    which: Which,
    /// A new title
    #[arg(long)]
    title: Option<String>,
    /// Take a field out
    #[arg(long, value_name = "NAME")]
    remove_field: Vec<String>,
    #[command(flatten)]
    parts: Parts,
}

/// What create and edit have in common. Values of fields are never taken from the command line, where others on the
/// machine could read them.
#[derive(Args)]
pub struct Parts {
    /// A URL; may be repeated. In an edit they replace those there are, and so do --username and --label
    #[arg(long)]
    url: Vec<String>,
    /// A username; may be repeated
    #[arg(long)]
    username: Vec<String>,
    /// A label; may be repeated
    #[arg(long)]
    label: Vec<String>,
    /// A field whose value is asked for; may be repeated. Kinds: text, hidden, username, password, url, totp, notes,
    /// private_key
    #[arg(long, value_name = "NAME[:KIND]")]
    field: Vec<FieldName>,
    /// A field whose value is all of standard input
    #[arg(long, value_name = "NAME[:KIND]")]
    field_stdin: Option<FieldName>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TypeName {
    Account,
    Secret,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindName {
    Text,
    ApiKey,
    SshKey,
    Database,
    Card,
    Identity,
    Custom,
}

pub async fn run(arguments: Arguments, client: &Client, console: &Console) -> Result<(), Failure> {
    match arguments {
        Arguments::List(list) => self::list(list, client, console).await,
        Arguments::Get(get) => self::get(get, client, console).await,
        Arguments::Create(create) => self::create(create, client, console).await,
        Arguments::Edit(edit) => self::edit(edit, client, console).await,
        Arguments::Move(arguments) => moving::items(arguments, client, console).await,
        Arguments::Rm(which) => rm(which, client, console).await,
        Arguments::Trash => trash::list(client, console).await,
        Arguments::Restore(arguments) => trash::restore(arguments, client, console).await,
        Arguments::Purge(arguments) => trash::purge(arguments, client, console).await,
    }
}

async fn list(arguments: List, client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let within = arguments.vault.as_deref().map(|name| lookup::vault(&vaults, name)).transpose()?;
    let vault_id = within.map(|vault| vault.id);
    let item_type = arguments.item_type.map(ItemType::from);
    let query = arguments.search.map(SecretText::from);
    let (mut items, mut cursor) = (Vec::new(), None);
    let dark = loop {
        let limit = Some(200);
        let page = match &query {
            Some(query) => {
                let query = SecretText::from(query.expose());
                client.search(&SearchItems { query, item_type, vault_id, cursor, limit }).await?
            }
            None => client.items(&ItemQuery { item_type, vault_id, cursor, limit }).await?,
        };
        items.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            // Every page names all dark vaults; the last is the newest.
            break page.dark;
        }
    };
    if console.format == Format::Json {
        return console.json(&json!({ "items": items, "dark": dark }));
    }
    let first = |texts: &[SecretText]| texts.first().map(|text| text.expose().to_owned()).unwrap_or_default();
    let rows = items
        .iter()
        .map(|item| {
            vec![
                item.title.expose().to_owned(),
                type_name(item).to_owned(),
                first(&item.usernames),
                first(&item.urls),
                lookup::vault_name(&vaults, item.vault_id),
                item.id.to_string(),
            ]
        })
        .collect();
    console.table(&["Title", "Type", "Username", "URL", "Vault", "ID"], rows)?;
    note_dark(&dark, &vaults, console);
    Ok(())
}

async fn get(arguments: Get, client: &Client, console: &Console) -> Result<(), Failure> {
    let (item, vaults) = find(&arguments.which, client).await?;
    let revealed = if arguments.reveal { Some(client.reveal(item.id).await?) } else { None };
    if console.format == Format::Json {
        let mut answer = serde_json::to_value(&item).map_err(std::io::Error::from)?;
        if let Some(revealed) = &revealed {
            answer["fields"] = serde_json::to_value(&revealed.fields).map_err(std::io::Error::from)?;
        }
        return console.json(&answer);
    }
    let mut rows = vec![row("Title", item.title.expose()), row("Type", type_name(&item))];
    rows.extend(item.urls.iter().map(|url| row("URL", url.expose())));
    rows.extend(item.usernames.iter().map(|username| row("Username", username.expose())));
    rows.extend(item.labels.iter().map(|label| row("Label", label.expose())));
    for field in revealed.iter().flat_map(|revealed| &revealed.fields) {
        rows.push(row(field.name.expose(), field.value.expose()));
    }
    rows.push(row("Vault", &lookup::vault_name(&vaults, item.vault_id)));
    rows.push(row("Revision", &item.revision.to_string()));
    rows.push(row("Changed", &format!("{:.0}", item.updated_at)));
    rows.push(row("ID", &item.id.to_string()));
    console.table(&["Field", "Value"], rows)
}

async fn create(arguments: Create, client: &Client, console: &Console) -> Result<(), Failure> {
    let mut item = match &arguments.from {
        Some(path) => from_json(path)?,
        None => {
            let title = SecretText::from(arguments.title.unwrap_or_default());
            let mut item = CreateItem::new(arguments.item_type.into(), title);
            item.kind = arguments.kind.map(kind_of);
            item.urls = texts(arguments.parts.url);
            item.usernames = texts(arguments.parts.username);
            item.labels = texts(arguments.parts.label);
            item.fields = read_fields(arguments.parts.field, arguments.parts.field_stdin, console)?;
            item
        }
    };
    if let Some(name) = &arguments.vault {
        item.vault_id = Some(lookup::vault(&client.vaults().await?, name)?.id);
    }
    let created = client.create_item(&item).await?;
    report("Created", &created, console)
}

async fn edit(arguments: Edit, client: &Client, console: &Console) -> Result<(), Failure> {
    let (item, _) = find(&arguments.which, client).await?;
    let parts = arguments.parts;
    let replaced = |values: Vec<String>| if values.is_empty() { None } else { Some(texts(values)) };
    let mut request = EditItem {
        title: arguments.title.map(SecretText::from),
        urls: replaced(parts.url),
        usernames: replaced(parts.username),
        labels: replaced(parts.label),
        ..EditItem::default()
    };
    let mut revision = item.revision;
    let new_fields = read_fields(parts.field, parts.field_stdin, console)?;
    if !new_fields.is_empty() || !arguments.remove_field.is_empty() {
        // Fields are stored together, so changing one takes reading the others.
        let revealed = client.reveal(item.id).await?;
        revision = revealed.revision;
        request.fields = Some(merge(revealed, new_fields, &arguments.remove_field)?);
    }
    let edited = client.edit_item(item.id, revision, &request).await?;
    report("Changed", &edited, console)
}

async fn rm(which: Which, client: &Client, console: &Console) -> Result<(), Failure> {
    let (item, _) = find(&which, client).await?;
    client.trash_item(item.id).await?;
    match console.format {
        Format::Json => console.json(&json!({ "id": item.id, "trashed": true })),
        Format::Table => console.line(&format!("Moved {} ({}) to the trash.", printable(item.title.expose()), item.id)),
    }
}

async fn find(which: &Which, client: &Client) -> Result<(Item, Vec<Vault>), Failure> {
    let vaults = client.vaults().await?;
    let within = which.vault.as_deref().map(|name| lookup::vault(&vaults, name)).transpose()?;
    let item = lookup::item(client, &vaults, within, &which.item).await?;
    Ok((item, vaults))
}

fn report(done: &str, item: &Item, console: &Console) -> Result<(), Failure> {
    match console.format {
        Format::Json => console.json(item),
        Format::Table => console.line(&format!("{done} {} ({}).", printable(item.title.expose()), item.id)),
    }
}

/// What dark vaults keep back: counts and causes, no titles.
fn note_dark(dark: &[DarkVault], vaults: &[Vault], console: &Console) {
    for vault in dark {
        let name = lookup::vault_name(vaults, vault.vault_id);
        let since = vault.since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
        console.note(&format!(
            "vault {name} is dark{since}: {}: {} ({} items not shown)",
            state_words(&vault.state, vault.recoverable_until),
            vault.title,
            vault.count
        ));
    }
}

fn from_json(path: &str) -> Result<CreateItem, Failure> {
    let text = match path {
        "-" => secret_from_stdin()?,
        path => {
            let bytes = Zeroizing::new(fs::read(path).map_err(|error| {
                Failure::new(Exit::Other, "file.unreadable", format!("cannot read {path}: {error}"))
            })?);
            let text = std::str::from_utf8(&bytes).map_err(|_| Failure::usage(format!("{path} is not UTF-8")))?;
            SecretText::from(text)
        }
    };
    // Serde's message may repeat a value; its place is enough.
    serde_json::from_str(text.expose()).map_err(|error| {
        Failure::usage(format!("not an item in JSON, at line {}, column {}", error.line(), error.column()))
            .fix(r#"write it like {"type": "secret", "title": "…", "fields": [{"name": "…", "kind": "hidden", "value": "…"}]}"#)
    })
}

/// The name of a field and its kind, as typed: `PIN:hidden`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldName {
    name: String,
    kind: FieldKind,
}

impl std::str::FromStr for FieldName {
    type Err = String;

    /// Without a kind the name decides, and what it does not tell is hidden.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, kind) = match text.rsplit_once(':') {
            Some((name, kind)) => {
                let kind = serde_json::from_value(json!(kind))
                    .map_err(|_| format!("`{kind}` is not a kind of field; a name with a colon needs one after it"))?;
                (name, kind)
            }
            None => (text, kind_by_name(text)),
        };
        if name.is_empty() {
            return Err("a field needs a name".to_owned());
        }
        Ok(Self { name: name.to_owned(), kind })
    }
}

fn kind_by_name(name: &str) -> FieldKind {
    match name.to_lowercase().as_str() {
        "password" => FieldKind::Password,
        "notes" => FieldKind::Notes,
        "private key" => FieldKind::PrivateKey,
        "one-time password" | "totp" => FieldKind::Totp,
        _ => FieldKind::Hidden,
    }
}

fn read_fields(asked: Vec<FieldName>, piped: Option<FieldName>, console: &Console) -> Result<Vec<Field>, Failure> {
    let mut fields = Vec::new();
    for FieldName { name, kind } in asked {
        let instead = format!("pipe it in and say --field-stdin '{name}', or pass the whole item with --from -");
        let value = match kind {
            FieldKind::Text | FieldKind::Username | FieldKind::Url => {
                SecretText::from(console.ask(&printable(&name), &instead)?)
            }
            _ => console.ask_secret(&printable(&name), &instead)?,
        };
        fields.push(Field::new(&name, kind, value));
    }
    if let Some(FieldName { name, kind }) = piped {
        fields.push(Field::new(&name, kind, secret_from_stdin()?));
    }
    Ok(fields)
}

/// The fields there are, without those to remove, with new values in place and new fields at the end. A field that is
/// there keeps its kind.
fn merge(revealed: Revealed, new: Vec<Field>, removed: &[String]) -> Result<Vec<Field>, Failure> {
    let mut fields = revealed.fields;
    for name in removed {
        let before = fields.len();
        fields.retain(|field| field.name.expose() != name);
        if fields.len() == before {
            let title = format!("the item has no field `{}`", printable(name));
            return Err(Failure::new(Exit::NotFound, "field.not_found", title));
        }
    }
    for field in new {
        match fields.iter_mut().find(|known| known.name == field.name) {
            Some(known) => known.value = field.value,
            None => fields.push(field),
        }
    }
    Ok(fields)
}

fn row(name: &str, value: &str) -> Vec<String> {
    vec![name.to_owned(), value.to_owned()]
}

fn texts(values: Vec<String>) -> Vec<SecretText> {
    values.into_iter().map(SecretText::from).collect()
}

fn type_name(item: &Item) -> &'static str {
    use crate::http::api::types::SecretKind::{ApiKey, Card, Custom, Database, Identity, SshKey, Text};
    match (item.item_type, item.kind) {
        (ItemType::Account, _) => "account",
        (ItemType::Secret, None | Some(Custom)) => "secret",
        (ItemType::Secret, Some(Text)) => "text",
        (ItemType::Secret, Some(ApiKey)) => "API key",
        (ItemType::Secret, Some(SshKey)) => "SSH key",
        (ItemType::Secret, Some(Database)) => "database",
        (ItemType::Secret, Some(Card)) => "card",
        (ItemType::Secret, Some(Identity)) => "identity",
    }
}

impl From<TypeName> for ItemType {
    fn from(name: TypeName) -> Self {
        match name {
            TypeName::Account => Self::Account,
            TypeName::Secret => Self::Secret,
        }
    }
}

fn kind_of(name: KindName) -> crate::http::api::types::SecretKind {
    use crate::http::api::types::SecretKind;
    match name {
        KindName::Text => SecretKind::Text,
        KindName::ApiKey => SecretKind::ApiKey,
        KindName::SshKey => SecretKind::SshKey,
        KindName::Database => SecretKind::Database,
        KindName::Card => SecretKind::Card,
        KindName::Identity => SecretKind::Identity,
        KindName::Custom => SecretKind::Custom,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, FieldKind), String> {
        text.parse::<FieldName>().map(|field| (field.name, field.kind))
    }

    #[test]
    fn the_kind_of_a_field_is_named_or_told_by_its_name() {
        assert_eq!(parse("PIN:text"), Ok(("PIN".into(), FieldKind::Text)));
        assert_eq!(parse("Password"), Ok(("Password".into(), FieldKind::Password)));
        assert_eq!(parse("Token"), Ok(("Token".into(), FieldKind::Hidden)));
        assert_eq!(parse("a:b:private_key"), Ok(("a:b".into(), FieldKind::PrivateKey)));
        assert!(parse("Token:pasword").is_err());
        assert!(parse(":text").is_err());
    }

    #[test]
    fn an_edit_keeps_the_other_fields_and_their_kinds() {
        let field = |name: &str, kind, value: &str| Field::new(name, kind, SecretText::from(value));
        let revealed = Revealed {
            revision: 3,
            fields: vec![
                field("Password", FieldKind::Password, "old"),
                field("PIN", FieldKind::Text, "1"),
                field("Gone", FieldKind::Text, "x"),
            ],
        };
        let new = vec![field("PIN", FieldKind::Hidden, "2"), field("Code", FieldKind::Hidden, "3")];
        let merged = merge(revealed, new, &["Gone".to_owned()]).expect("merged");
        let seen: Vec<(&str, FieldKind, &str)> =
            merged.iter().map(|field| (field.name.expose(), field.kind, field.value.expose())).collect();
        assert_eq!(
            seen,
            [("Password", FieldKind::Password, "old"), ("PIN", FieldKind::Text, "2"), ("Code", FieldKind::Hidden, "3")]
        );
        let nothing = Revealed { revision: 3, fields: Vec::new() };
        assert_eq!(merge(nothing, Vec::new(), &["Gone".to_owned()]).err().expect("missing").exit, Exit::NotFound);
    }
}
