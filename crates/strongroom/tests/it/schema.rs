//! Every schema that was ever released comes forward with all that is in it, and a newer one is refused.
//!
//! `tests/released/schema-N/` holds a small workspace as that schema had it: each row as JSON, the instance key, and a
//! session. `STRONGROOM_WRITE_RELEASE=1` writes the newest one, once; afterwards it and its migration stay as they are.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use serde_json::{Value, json};
use strongroom::{
    access::{ItemRole, Role},
    audit,
    clock::SystemClock,
    config::Config,
    item::Filter,
    server,
    store::SCHEMA,
};
use strongroom_envelope::{InstanceKey, InstanceKeys, SystemRandom, digest};

use crate::{
    azure::account,
    world::{Database, World, administer, on_each_database, origin, runtime, setup},
};

fn released(schema: i64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/released/schema-{schema}"))
}

/// The migration that makes this schema of the one before.
fn migration(schema: i64) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let begins = format!("{schema:04}_");
    let mut files = fs::read_dir(folder).expect("listed").map(|entry| entry.expect("an entry").path());
    let file = files.find(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begins)));
    fs::read_to_string(file.unwrap_or_else(|| panic!("there is no migration {schema}"))).expect("it is read")
}

fn read(schema: i64, name: &str) -> String {
    let file = released(schema).join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!("{}: {error}. A schema is released with a fixture: STRONGROOM_WRITE_RELEASE=1 makes it", file.display())
    })
}

/// A literal of either engine's SQL.
fn literal(value: &Value, kind: &str, sqlite: bool) -> String {
    let hex = |digits: &str| if sqlite { format!("X'{digits}'") } else { format!("'\\x{digits}'::bytea") };
    match (value, kind) {
        (Value::Null, _) => "NULL".to_owned(),
        (Value::Number(number), _) => number.to_string(),
        (Value::String(text), "BYTEA") => hex(text),
        (Value::String(text), "UUID") if sqlite => hex(text),
        (Value::String(text), "UUID") => format!("'{text}'::uuid"),
        (Value::String(text), _) => format!("'{}'", text.replace('\'', "''")),
        (other, _) => panic!("{other} is no field of a row"),
    }
}

/// The statements that make a database of a released schema, with its rows.
fn script(schema: i64, sqlite: bool) -> String {
    let mut sql: String = (1..=schema).map(migration).collect();
    for line in read(schema, "rows.jsonl").lines() {
        let table: Value = serde_json::from_str(line).expect("a line is JSON");
        let columns = table["columns"].as_array().expect("columns");
        let names: Vec<_> = columns.iter().map(|column| column[0].as_str().expect("a name")).collect();
        for row in table["rows"].as_array().expect("rows") {
            let kinds = columns.iter().map(|column| column[1].as_str().expect("a kind"));
            let values: Vec<_> = row.as_array().expect("fields").iter().zip(kinds).collect();
            let values: Vec<_> = values.into_iter().map(|(value, kind)| literal(value, kind, sqlite)).collect();
            let (name, names) = (table["table"].as_str().expect("a name"), names.join(", "));
            writeln!(sql, "INSERT INTO {name} ({names}) VALUES ({});", values.join(", ")).expect("a string takes it");
        }
    }
    sql
}

fn make(database: &Database, schema: i64) {
    match database {
        Database::Sqlite(_) => {
            let url = database.url();
            let file = rusqlite::Connection::open(url.trim_start_matches("sqlite:")).expect("a new file");
            file.execute_batch(&format!("BEGIN; {} COMMIT;", script(schema, true))).expect("the script runs");
        }
        // Tables that are made by hand are not those whose transactions the tests refuse at first.
        Database::Postgres { .. } => {
            administer(&database.url(), "DROP EVENT TRIGGER watch");
            administer(&database.url(), &script(schema, false));
        }
    }
}

fn keys(schema: i64) -> Arc<InstanceKeys> {
    Arc::new(InstanceKeys::parse_key_file(&read(schema, "instance.key")).expect("a key file"))
}

#[test]
fn each_released_schema_comes_forward_with_everything_in_it() {
    if std::env::var_os("STRONGROOM_WRITE_RELEASE").is_some() {
        runtime().block_on(write_release());
    }
    for schema in 1..=SCHEMA {
        on_each_database(|database| {
            make(&database, schema);
            let world = World::begin(database, keys(schema));
            runtime().block_on(async {
                let owner = world.app.caller_by_session(read(schema, "session").trim()).await.expect("still signed in");
                let found =
                    world.app.find_items(&owner, Filter { limit: 50, ..Filter::default() }).await.expect("a list");
                let mut titles: Vec<_> =
                    found.items.iter().map(|item| item.overview.title.expose().to_owned()).collect();
                titles.sort();
                assert_eq!(titles, ["Mail", "Printer"], "schema {schema}");
                let mail = found.items.iter().find(|item| item.overview.title.expose() == "Mail").expect("listed").id;
                let revealed = world.app.reveal_item(&owner, mail, None).await.expect("it opens");
                assert_eq!(revealed.1[0].value.expose(), "second", "schema {schema}");
                let keys = Arc::clone(&world.app.keys);
                let report = audit::verify(&world.app.store, keys, true).await.expect("both are read");
                assert!(report.is_sound(), "schema {schema}: {report}");
            });
        });
    }
}

#[test]
fn a_migration_that_was_released_stays_as_it_is() {
    for schema in 1..=SCHEMA {
        let (found, known) = (hex::encode(digest(migration(schema).as_bytes())), read(schema, "migration.sha256"));
        assert_eq!(found, known.trim(), "migration {schema} was released: what changes it is another migration");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_refuses_a_newer_schema_and_says_which() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let toml = format!("[database]\nurl = 'sqlite:{}'\n[instance]\nkey_file = '{}'\n", at("db"), at("key"));
    fs::write(at("strongroom.toml"), &toml).expect("written");
    let config = Config::parse(&toml, "test", Vec::new()).expect("a configuration");
    drop(server::open(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await.expect("a first start"));
    let newer = SCHEMA + 1;
    let change = format!("UPDATE meta SET value = '{newer}' WHERE name = 'schema'");
    rusqlite::Connection::open(at("db")).expect("opened").execute_batch(&change).expect("changed");
    let commands: [&[&str]; 7] = [
        &["serve"],
        &["doctor"],
        &["audit", "verify"],
        &["backup", "create", "now.srbk"],
        &["store", "migrate", "--from", "sqlite:db", "--to", "sqlite:other"],
        &["instance-key", "rotate"],
        &["admin", "reset-link", "ada@example.com"],
    ];
    for arguments in commands {
        let ran = Command::new(env!("CARGO_BIN_EXE_strongroom")).current_dir(&folder).args(arguments).output();
        let ran = ran.expect("the command runs");
        let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(!ran.status.success(), "{arguments:?}: {said}");
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [&format!("schema {newer}"), "made by a newer Strongroom", &format!("knows schema {SCHEMA}")] {
            assert!(said.contains(part), "{arguments:?} lacks {part:?}: {said}");
        }
    }
}

/// Makes a workspace with today's program, and keeps it as the newest schema's fixture. It replaces none.
async fn write_release() {
    let folder = released(SCHEMA);
    assert!(!folder.exists(), "schema {SCHEMA} was released already");
    let key = InstanceKey::generate(&SystemRandom::new()).expect("randomness").to_key_file();
    let keys = Arc::new(InstanceKeys::parse_key_file(&key).expect("our own"));
    let world = World::begin(Database::sqlite(), keys);
    world.app.open_log().await.expect("a log");
    let link = world.app.setup_link().await.expect("made").expect("an empty store");
    let session = world.app.open_setup(link.token.expose(), setup(), &origin()).await.expect("set up");
    let owner = world.app.caller_by_session(session.token.expose()).await.expect("signed in");
    let samir = world.member(&owner, "Samir", Role::User).await;
    let mail = world.app.create_item(&owner, None, account("Mail", "first")).await.expect("made").id;
    let mut content = account("Mail", "second");
    content.fields.truncate(1);
    let change = strongroom::item::Patch { fields: Some(content.fields), ..Default::default() };
    world.app.edit_item(&owner, mail, 1, change).await.expect("edited");
    world.app.create_item(&owner, None, account("Printer", "1234")).await.expect("made");
    let old = world.app.create_item(&owner, None, account("Old", "gone")).await.expect("made").id;
    world.app.trash_item(&owner, old, None).await.expect("into the trash");
    world.app.share_item(&owner, mail, samir.member, ItemRole::Editor).await.expect("shared");
    world.app.begin_code(&samir).await.expect("a second factor that is not confirmed");
    world.app.rest_log().await.expect("signed");
    let url = world.database.url();
    let rows = dump(&rusqlite::Connection::open(url.trim_start_matches("sqlite:")).expect("the same file"));
    fs::create_dir_all(&folder).expect("made");
    let keep = |name: &str, text: &str| fs::write(folder.join(name), text).expect("written");
    keep("rows.jsonl", &rows);
    keep("instance.key", &key);
    keep("session", &format!("{}\n", session.token.expose()));
    keep("migration.sha256", &format!("{}\n", hex::encode(digest(migration(SCHEMA).as_bytes()))));
}

/// Every row of every table, a table a line, in an order that foreign keys allow.
fn dump(file: &rusqlite::Connection) -> String {
    let names = |sql: &str| -> Vec<(String, String)> {
        let mut statement = file.prepare(sql).expect("a statement");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("run");
        rows.map(|row| row.expect("a row")).collect()
    };
    let tables = names("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY rowid");
    let mut text = String::new();
    for (table, _) in tables {
        let columns = names(&format!("SELECT name, type FROM pragma_table_info('{table}') ORDER BY cid"));
        let mut statement = file.prepare(&format!("SELECT * FROM {table}")).expect("a statement");
        let rows = statement.query_map([], |row| {
            let fields =
                (0..columns.len()).map(|index| row.get_ref(index).map(|field| json_of(field, &columns[index].1)));
            fields.collect::<rusqlite::Result<Vec<Value>>>()
        });
        let rows: Vec<_> = rows.expect("run").map(|row| row.expect("a row")).collect();
        if !rows.is_empty() {
            writeln!(text, "{}", json!({ "table": table, "columns": columns, "rows": rows }))
                .expect("a string takes it");
        }
    }
    text
}

fn json_of(field: rusqlite::types::ValueRef<'_>, kind: &str) -> Value {
    use rusqlite::types::ValueRef;
    match field {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) if kind == "UUID" || kind == "BYTEA" => hex::encode(bytes).into(),
        other => panic!("{other:?} is of no kind that a schema has"),
    }
}
