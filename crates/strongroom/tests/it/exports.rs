//! Exports: what is in the file and what is not, who may, what is recorded, and what stops one in the middle.

use futures_util::StreamExt as _;
use strongroom::{
    access::{ItemRole, Role},
    app::Caller,
    error::{Error, Result},
    export::ExportFormat,
    http::api::types::CreateItem,
    import::{Format, parse, unlock},
    item::{Content, ExportRequest, Field, FieldKind, ItemType, SecretKind},
    secret_text::SecretText,
};
use strongroom_keys::TokenUse;

use crate::{
    azure::{AzureWorld, account},
    moves::{cloud_vault, on_both_engines},
    world::{refusal, wrong_fields},
};

const PASSPHRASE: &str = "tide and lamp and six";

#[test]
fn an_export_comes_back_by_import_with_every_field_label_and_code() {
    on_both_engines(|world| async move {
        let (app, owner) = (&world.app, &world.owner);
        let mut mail = account("Mail", "p\"ä,\n");
        mail.labels = vec!["Work".into(), "Second".into()];
        mail.usernames.push("ada2".into());
        mail.fields.push(Field::new("One-time password", FieldKind::Totp, "otpauth://totp/x?secret=GEZDGNBV".into()));
        mail.fields.push(Field::new("PIN", FieldKind::Hidden, "0815".into()));
        let token = Content {
            item_type: ItemType::Secret,
            kind: Some(SecretKind::ApiKey),
            title: "Token".into(),
            urls: vec!["https://api.example.com".into()],
            usernames: vec![],
            labels: vec![],
            fields: vec![Field::new("Key", FieldKind::PrivateKey, "-----".into())],
        };
        for content in [mail, token] {
            app.create_item(owner, None, content).await.expect("created");
        }
        let file = whole(&world, owner, encrypted()).await.expect("exported");
        assert!(!String::from_utf8_lossy(&file).contains("Mail"));
        let mut drafts = imported(&file);
        drafts.sort_by(|one, other| one.title.expose().cmp(other.title.expose()));
        let first = &drafts[0];
        let texts = |list: &[SecretText]| list.iter().map(|text| text.expose().to_owned()).collect::<Vec<_>>();
        assert_eq!((first.title.expose(), texts(&first.labels)), ("Mail", vec!["Work".into(), "Second".into()]));
        assert_eq!(texts(&first.usernames), ["ada@example.com", "ada2"]);
        let fields: Vec<_> = first.fields.iter().map(|field| (field.name.expose(), field.kind)).collect();
        assert_eq!(
            fields,
            [("Password", FieldKind::Password), ("One-time password", FieldKind::Totp), ("PIN", FieldKind::Hidden)]
        );
        assert_eq!(first.fields[0].value.expose(), "p\"ä,\n");
        assert_eq!(
            (drafts[1].kind, texts(&drafts[1].urls)),
            (Some(SecretKind::ApiKey), vec!["https://api.example.com".to_owned()])
        );
        let CreateItem { item_type, kind, title, urls, usernames, labels, fields, .. } = drafts.remove(0);
        let content = Content { item_type, kind, title, urls, usernames, labels, fields };
        let again = app.create_item(owner, None, content).await.expect("imported again");
        let (_, fields) = app.reveal_item(owner, again.id, None).await.expect("revealed");
        assert_eq!(fields[2].value.expose(), "0815");
    });
}

#[test]
fn an_export_holds_what_its_maker_may_reveal_and_each_item_has_its_event() {
    on_both_engines(|world| async move {
        let (app, owner) = (&world.app, &world.owner);
        let shared = world.account("Shared", "one").await;
        world.account("Mine", "two").await;
        let trashed = world.account("Trashed", "three").await;
        app.trash_item(owner, trashed, None).await.expect("trashed");
        let greta = world.member("Greta", Role::Guest).await;
        assert_eq!(refusal(whole(&world, &greta, encrypted()).await), "export.nothing");
        app.share_item(owner, shared, greta.member, ItemRole::Viewer).await.expect("shared");
        assert_eq!(titles(&imported(&whole(&world, &greta, encrypted()).await.expect("exported"))), ["Shared"]);
        let plan = app.plan_export(owner, None, ExportFormat::EncryptedJson).await.expect("a plan");
        assert_eq!((plan.items, plan.trashed, plan.vaults.len(), plan.dark.len()), (2, 1, 1, 0));
        assert_eq!(world.events("export.start").await, 1, "a plan opens nothing");
        let vault = cloud_vault(&world).await;
        app.create_item(owner, Some(vault), account("Cloud", "four")).await.expect("created");
        let of_one = ExportRequest { vault: Some(vault), ..encrypted() };
        assert_eq!(titles(&imported(&whole(&world, owner, of_one).await.expect("exported"))), ["Cloud"]);
        assert_eq!(imported(&whole(&world, owner, encrypted()).await.expect("exported")).len(), 3);
        // Greta's, the Cloud vault's, and the last in each of two vaults.
        assert_eq!(world.events("export.start").await, 4);
        assert_eq!(world.events("item.export").await, 5);
        assert_eq!((world.events("export.finish").await, world.events("export.stop").await), (3, 0));
        let nowhere = ExportRequest { vault: Some(strongroom::id::VaultId(uuid::Uuid::now_v7())), ..encrypted() };
        assert_eq!(refusal(whole(&world, owner, nowhere).await), "not_found");
    });
}

#[test]
fn an_export_needs_a_fresh_sign_in_and_a_readable_one_tells_all_admins() {
    on_both_engines(|world| async move {
        world.account("Mail", "tide-and-lamp").await;
        let readable = |format| ExportRequest { vault: None, format, passphrase: None };
        let csv = whole(&world, &world.owner, readable(ExportFormat::Csv)).await.expect("exported");
        let csv = String::from_utf8(csv).expect("text");
        assert!(csv.starts_with("folder,favorite,type,name,") && csv.contains("tide-and-lamp"), "{csv}");
        let told = "SELECT COUNT(*) FROM notices WHERE kind = 'export.readable'";
        let count = || world.app.store.read(move |tx| tx.count(told, &[]));
        assert_eq!(count().await.expect("counted"), 1);
        whole(&world, &world.owner, encrypted()).await.expect("exported");
        assert_eq!(count().await.expect("counted"), 1, "of an encrypted one nobody is told");
        world.clock.advance(std::time::Duration::from_secs(16 * 60));
        let stolen = whole(&world, &world.owner, encrypted()).await;
        assert_eq!(refusal(stolen), "signin.fresh_required", "a passphrase of the thief's own is none");
        for format in [ExportFormat::Json, ExportFormat::Csv] {
            assert_eq!(refusal(whole(&world, &world.owner, readable(format)).await), "signin.fresh_required");
        }
        for (format, passphrase) in [
            (ExportFormat::EncryptedJson, None),
            (ExportFormat::EncryptedJson, Some("short")),
            (ExportFormat::Json, Some(PASSPHRASE)),
        ] {
            let request = ExportRequest { vault: None, format, passphrase: passphrase.map(SecretText::from) };
            assert_eq!(wrong_fields(whole(&world, &world.owner, request).await), ["passphrase"]);
        }
    });
}

#[test]
fn a_withdrawal_in_the_middle_stops_an_export_and_leaves_no_whole_file() {
    on_both_engines(|world| async move {
        many(&world, 100).await;
        let export = world.app.export(&world.owner, encrypted()).await.expect("started");
        let (mut file, mut got) = (export.file, Vec::new());
        for _ in 0..10 {
            got.extend_from_slice(&file.next().await.expect("more").expect("a piece"));
        }
        let recorded = world.events("item.export").await;
        assert!((1..=40).contains(&recorded), "items are opened as they are read: {recorded}");
        world.enable_key(false).await;
        world.app.keyring.canary_round(TokenUse::Cached).await.expect("a round");
        match file.next().await {
            Some(Err(Error::KeyUnavailable(why))) => assert_eq!(why.code, "key.disabled"),
            Some(Ok(_)) => panic!("what was opened before the denial was served after it"),
            other => panic!("no word of the denial: {:?}", other.map(|piece| piece.err())),
        }
        assert!(file.next().await.is_none(), "nothing comes after it");
        assert_eq!(world.events("item.export").await, recorded);
        assert_eq!((world.events("export.stop").await, world.events("export.finish").await), (1, 0));
        assert!(unlock(&got, &PASSPHRASE.into()).is_err(), "a part is no file");
        let plan = world.app.plan_export(&world.owner, None, ExportFormat::EncryptedJson).await.expect("a plan");
        assert_eq!((plan.items, plan.dark.len(), plan.dark[0].count), (0, 1, 100));
        let dark = ExportRequest { vault: Some(world.vault), ..encrypted() };
        assert_eq!(refusal(whole(&world, &world.owner, dark).await), "key.disabled");
        world.enable_key(true).await;
        world.app.keyring.canary_round(TokenUse::Cached).await.expect("a round");
        assert_eq!(imported(&whole(&world, &world.owner, encrypted()).await.expect("exported")).len(), 100);
    });
}

#[test]
fn who_loses_a_share_or_their_sign_in_in_the_middle_gets_no_more_of_it() {
    on_both_engines(|world| async move {
        let (app, owner) = (&world.app, &world.owner);
        let items = many(&world, 70).await;
        let ada = world.member("Ada", Role::User).await;
        for item in &items {
            app.share_item(owner, *item, ada.member, ItemRole::Viewer).await.expect("shared");
        }
        let mut export = app.export(&ada, encrypted()).await.expect("started");
        let mut got = Vec::new();
        got.extend_from_slice(&export.file.next().await.expect("more").expect("a piece"));
        app.unshare_item(owner, items[69], ada.member).await.expect("unshared");
        while let Some(piece) = export.file.next().await {
            got.extend_from_slice(&piece.expect("it goes on without that item"));
        }
        assert_eq!(imported(&got).len(), 69);
        let mut export = app.export(&ada, encrypted()).await.expect("started");
        export.file.next().await.expect("more").expect("a piece");
        let session = ada.session().expect("a session");
        app.revoke_session(&ada, session).await.expect("signed out");
        let mut end = None;
        while let Some(piece) = export.file.next().await {
            end = piece.err();
        }
        assert_eq!(end.expect("stopped").code(), "signin.expired");
        drop(app.export(owner, encrypted()).await.expect("started").file);
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while world.events("export.stop").await < 2 {
            assert!(std::time::Instant::now() < patience, "a reader who leaves is not recorded");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn a_slow_reader_outlives_a_lease_but_not_an_outage_of_the_key() {
    on_both_engines(|world| async move {
        many(&world, 40).await;
        let mut export = world.app.export(&world.owner, encrypted()).await.expect("started");
        for _ in 0..5 {
            export.file.next().await.expect("more").expect("a piece");
        }
        world.clock.advance(std::time::Duration::from_secs(301));
        export.file.next().await.expect("more").expect("the key was asked again");
        world.enable_key(false).await;
        world.clock.advance(std::time::Duration::from_secs(301));
        let end = export.file.next().await.expect("a word of it");
        assert!(matches!(end, Err(Error::KeyUnavailable(_))));
    });
}

#[test]
fn an_item_that_was_changed_behind_the_server_s_back_is_left_out_and_counted() {
    on_both_engines(|world| async move {
        world.account("Sound", "one").await;
        let spoiled = world.account("Spoiled", "two").await;
        let spoil = move |tx: &mut strongroom::store::Tx<'_>| {
            tx.execute("UPDATE items SET sealed_details = sealed_overview WHERE id = $1", &[spoiled.0.into()])
        };
        world.app.store.write(spoil).await.expect("spoiled");
        let file = whole(&world, &world.owner, encrypted()).await.expect("exported");
        assert_eq!(titles(&imported(&file)), ["Sound"]);
        let opened = unlock(&file, &PASSPHRASE.into()).unwrap_or_else(|error| panic!("{error}"));
        let value: serde_json::Value = serde_json::from_slice(&opened).expect("JSON");
        assert_eq!(value["strongroom"], serde_json::json!({"items": 1, "damaged": 1, "gone": 0}));
        assert_eq!(world.events("item.reveal_failed").await, 1);
    });
}

fn encrypted() -> ExportRequest {
    ExportRequest { vault: None, format: ExportFormat::EncryptedJson, passphrase: Some(PASSPHRASE.into()) }
}

/// All of the file.
async fn whole(world: &AzureWorld, caller: &Caller, request: ExportRequest) -> Result<Vec<u8>> {
    let mut export = world.app.export(caller, request).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = export.file.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

fn imported(file: &[u8]) -> Vec<CreateItem> {
    let opened = unlock(file, &PASSPHRASE.into()).unwrap_or_else(|error| panic!("{error}"));
    let parsed = parse(&opened, Format::Bitwarden).unwrap_or_else(|error| panic!("{error}"));
    assert!(parsed.refused.is_empty() && parsed.left_out.is_empty());
    parsed.drafts.into_iter().map(|draft| draft.item).collect()
}

fn titles(items: &[CreateItem]) -> Vec<&str> {
    items.iter().map(|item| item.title.expose()).collect()
}

async fn many(world: &AzureWorld, count: usize) -> Vec<strongroom::id::ItemId> {
    let contents = (0..count).map(|number| account(&format!("Item {number}"), "tide-and-lamp")).collect();
    let made = world.app.create_items(&world.owner, Some(world.vault), contents).await.expect("created");
    made.into_iter().map(|id| id.expect("sound")).collect()
}
