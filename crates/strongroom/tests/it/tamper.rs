//! A hostile hand in the database: each change is refused, none opens.

use strongroom::{
    error::{Error, Result, Unavailable},
    id::{ItemId, VaultId},
    item::Patch,
    store::{Param, Tx},
    vault::{Health, VaultEdit},
};
use strongroom_envelope::{SystemRandom, VaultKey, VaultKeyPlace, wrap_record};

use crate::azure::AzureWorld;

#[tokio::test(flavor = "multi_thread")]
async fn two_ciphertexts_swapped_do_not_open() {
    let (world, one, two) = two_accounts().await;
    sql(&world, swap(one, two, "sealed_details")).await;
    refused(world.password(one).await);
    refused(world.password(two).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_wrapped_data_keys_swapped_do_not_open() {
    let (world, one, two) = two_accounts().await;
    sql(&world, move |tx| {
        let key = |tx: &mut Tx<'_>, item: ItemId| {
            let found = tx.first("SELECT wrapped FROM data_keys WHERE item_id = $1", &[item.0.into()], |row| {
                row.get::<Vec<u8>>(0)
            });
            found.map(|key| key.expect("a key"))
        };
        let (first, second) = (key(tx, one)?, key(tx, two)?);
        for (item, key) in [(one, second), (two, first)] {
            tx.execute("UPDATE data_keys SET wrapped = $2 WHERE item_id = $1", &[item.0.into(), (&key).into()])?;
        }
        Ok(())
    })
    .await;
    refused(world.password(one).await);
    refused(world.password(two).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_vaults_wraps_swapped_are_refused_before_azure_is_asked() {
    let (world, one, _) = two_accounts().await;
    let other = world.app.vaults(&world.owner).await.expect("vaults");
    let cloud = other.iter().find(|vault| vault.id != world.vault).expect("the built-in vault").id;
    let azure = world.vault;
    sql(&world, move |tx| {
        let wrap = |tx: &mut Tx<'_>, vault: VaultId| {
            let found = tx
                .first("SELECT wrapped FROM wraps WHERE vault_id = $1", &[vault.0.into()], |row| row.get::<Vec<u8>>(0));
            found.map(|wrap| wrap.expect("a wrap"))
        };
        let (first, second) = (wrap(tx, azure)?, wrap(tx, cloud)?);
        for (vault, wrap) in [(azure, second), (cloud, first)] {
            tx.execute("UPDATE wraps SET wrapped = $2 WHERE vault_id = $1", &[vault.0.into(), (&wrap).into()])?;
        }
        Ok(())
    })
    .await;
    refused_without_azure(&world, one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrap_made_with_the_public_key_alone_is_refused_before_azure_is_asked() {
    let (world, one, _) = two_accounts().await;
    let place = VaultKeyPlace { workspace: world.owner.workspace.bytes(), vault: world.vault.bytes(), generation: 1 };
    let known = VaultKey::generate(&SystemRandom::new()).expect("random");
    let forged = wrap_with_public_key(&world, &wrap_record(&place, &known)).await;
    let vault = world.vault;
    sql(&world, move |tx| {
        tx.execute("UPDATE wraps SET wrapped = $2 WHERE vault_id = $1", &[vault.0.into(), (&forged).into()])?;
        Ok(())
    })
    .await;
    refused_without_azure(&world, one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrap_that_names_another_key_version_is_refused_before_azure_is_asked() {
    let (world, one, _) = two_accounts().await;
    let kid = world.kid.replace(&world.kid[world.kid.len() - 4..], "0000");
    let vault = world.vault;
    sql(&world, move |tx| {
        tx.execute("UPDATE wraps SET kid = $2 WHERE vault_id = $1", &[vault.0.into(), (&kid).into()])?;
        tx.execute("UPDATE generations SET kid = $2 WHERE vault_id = $1", &[vault.0.into(), (&kid).into()])?;
        Ok(())
    })
    .await;
    refused_without_azure(&world, one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lengthened_lease_and_a_redirected_provider_are_refused() {
    for change in [
        "UPDATE vaults SET lease_seconds = 31536000 WHERE id = $1",
        "UPDATE vaults SET strategy = 'cloud' WHERE id = $1",
        "UPDATE providers SET vault_url = 'https://mallory.vault.azure.net' WHERE vault_id = $1",
        "UPDATE providers SET credential_kind = 'workload_identity' WHERE vault_id = $1",
        "UPDATE providers SET credential_expires = 1 WHERE vault_id = $1",
        "UPDATE providers SET client_id = '00000000-0000-0000-0000-000000000000' WHERE vault_id = $1",
    ] {
        let (world, one, _) = two_accounts().await;
        let vault = world.vault;
        sql(&world, move |tx| tx.execute(change, &[vault.0.into()]).map(|_| ())).await;
        refused_without_azure(&world, one).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_checks_tell_of_changed_rows_and_show_nothing_that_was_planted() {
    for change in [
        "UPDATE providers SET vault_url = 'https://mallory.vault.azure.net' WHERE vault_id = $1",
        "UPDATE providers SET key_name = 'mallory' WHERE vault_id = $1",
        "UPDATE providers SET client_id = '00000000-0000-0000-0000-000000000000' WHERE vault_id = $1",
        "UPDATE providers SET tenant_id = '00000000-0000-0000-0000-000000000000' WHERE vault_id = $1",
        "UPDATE providers SET credential_expires = 32503680000000 WHERE vault_id = $1",
        "UPDATE generations SET kid = 'https://mallory.vault.azure.net/keys/k/1' WHERE vault_id = $1",
        "UPDATE vaults SET lease_seconds = 31536000 WHERE id = $1",
        "DELETE FROM providers WHERE vault_id = $1",
    ] {
        let world = AzureWorld::start(None).await;
        let (vault, asked) = (world.vault, world.standin.stats());
        sql(&world, move |tx| tx.execute(change, &[vault.0.into()]).map(|_| ())).await;

        let listed = world.app.vaults(&world.owner).await.expect("the others are listed all the same");
        let seen = listed.iter().find(|listed| listed.id == vault).expect("it is not hidden either");
        let Health::Unavailable(why) = &seen.health else { panic!("{change} passed for healthy") };
        assert_eq!((why.class, why.code.as_str()), (Unavailable::Fault, "integrity.row"), "{change}");
        assert!(seen.azure.is_none() && seen.kid.is_empty(), "{change}");
        assert!(matches!(listed.iter().find(|other| other.id != vault).expect("Cloud").health, Health::Healthy(_)));

        refused(world.app.check_vault(&world.owner, vault, &|_| ()).await);
        assert_eq!(format!("{:?}", world.standin.stats()), format!("{asked:?}"), "nobody was asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renaming_a_vault_does_not_sign_what_somebody_planted_in_its_row() {
    let (world, one, _) = two_accounts().await;
    let vault = world.vault;
    let planted = "UPDATE vaults SET lease_seconds = 31536000 WHERE id = $1";
    sql(&world, move |tx| tx.execute(planted, &[vault.0.into()]).map(|_| ())).await;
    let rename = VaultEdit { name: Some("Renamed".into()), ..VaultEdit::default() };
    refused(world.app.edit_vault(&world.owner, vault, None, rename).await);
    refused_without_azure(&world, one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overview_and_details_of_different_revisions_do_not_open_together() {
    let (world, one, _) = two_accounts().await;
    let patch = Patch { title: Some("Mail, new".into()), ..Patch::default() };
    world.app.edit_item(&world.owner, one, 1, patch).await.expect("edited");
    sql(&world, move |tx| {
        tx.execute(
            "UPDATE items SET sealed_details = \
             (SELECT sealed_details FROM item_revisions WHERE item_id = $1 AND revision = 1) WHERE id = $1",
            &[one.0.into()],
        )?;
        Ok(())
    })
    .await;
    refused(world.password(one).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_blob_does_not_open() {
    let (world, one, _) = two_accounts().await;
    change_blob(&world, one, "sealed_details", |blob| blob.truncate(blob.len() - 1)).await;
    refused(world.password(one).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_each_header_field_does_not_open() {
    let (world, one, _) = two_accounts().await;
    // Magic, format, suite, kind, flags, salt, commitment, ciphertext.
    for place in [0, 3, 4, 5, 6, 7, 8, 31, 32, 63, 64, 100] {
        for column in ["sealed_overview", "sealed_details"] {
            change_blob(&world, one, column, move |blob| blob[place] ^= 1).await;
            refused(world.password(one).await);
            change_blob(&world, one, column, move |blob| blob[place] ^= 1).await;
        }
    }
    assert!(world.password(one).await.is_ok(), "put back as it was, it opens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_session_lets_nobody_in() {
    let (world, _, _) = two_accounts().await;
    let member = world.owner.member;
    let planted = strongroom_envelope::digest(b"srs_planted").to_vec();
    sql(&world, move |tx| {
        let now = jiff::Timestamp::now();
        let later = now + jiff::SignedDuration::from_hours(1);
        tx.execute(
            "INSERT INTO sessions (id, token_mac, member_id, created_at, signed_in_at, last_seen_at, expires_at, address, agent) \
             VALUES ($1, $2, $1, $3, $3, $3, $4, '', '')",
            &[member.0.into(), Param::Bytes(&planted), now.into(), later.into()],
        )?;
        Ok(())
    })
    .await;
    let refused = world.app.caller_by_session("srs_planted").await;
    assert!(matches!(refused, Err(Error::NotSignedIn { .. })));
}

async fn two_accounts() -> (AzureWorld, ItemId, ItemId) {
    let world = AzureWorld::start(None).await;
    let one = world.account("Mail", "tide-and-lamp").await;
    let two = world.account("Bank", "oar-and-anchor").await;
    (world, one, two)
}

async fn sql(world: &AzureWorld, change: impl Fn(&mut Tx<'_>) -> Result<()> + Send + 'static) {
    world.app.store.write(change).await.expect("the database writer has their way");
}

fn swap(one: ItemId, two: ItemId, column: &'static str) -> impl Fn(&mut Tx<'_>) -> Result<()> + Send + 'static {
    move |tx| {
        let read = format!("SELECT {column} FROM items WHERE id = $1");
        let write = format!("UPDATE items SET {column} = $2 WHERE id = $1");
        let blob = |tx: &mut Tx<'_>, item: ItemId| {
            tx.first(&read, &[item.0.into()], |row| row.get::<Vec<u8>>(0)).map(|blob| blob.expect("an item"))
        };
        let (first, second) = (blob(tx, one)?, blob(tx, two)?);
        tx.execute(&write, &[one.0.into(), (&second).into()])?;
        tx.execute(&write, &[two.0.into(), (&first).into()])?;
        Ok(())
    }
}

async fn change_blob(
    world: &AzureWorld,
    item: ItemId,
    column: &'static str,
    change: impl Fn(&mut Vec<u8>) + Send + 'static,
) {
    sql(world, move |tx| {
        let read = format!("SELECT {column} FROM items WHERE id = $1");
        let mut blob = tx.first(&read, &[item.0.into()], |row| row.get::<Vec<u8>>(0))?.expect("an item");
        change(&mut blob);
        let write = format!("UPDATE items SET {column} = $2 WHERE id = $1");
        tx.execute(&write, &[item.0.into(), (&blob).into()])?;
        Ok(())
    })
    .await;
}

/// What somebody with no more than the key's public half can do.
async fn wrap_with_public_key(world: &AzureWorld, record: &[u8]) -> Vec<u8> {
    use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let path = format!("/keys/{}?api-version=7.4", world.values.vault_key_name);
    let target = strongroom::azure_setup::Target::KeyVault(&world.values.vault_url);
    let key = world.administrator.send(target, "GET", &path, None).await.expect("the administrator may read it");
    let part = |name: &str| {
        let text = key["key"][name].as_str().expect("an RSA key");
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    };
    let components = aws_lc_rs::rsa::PublicKeyComponents { n: part("n"), e: part("e") };
    let encrypting: PublicEncryptingKey = components.try_into().expect("an RSA public key");
    let oaep = OaepPublicEncryptingKey::new(encrypting).expect("long enough");
    let mut out = vec![0; oaep.ciphertext_size()];
    oaep.encrypt(&OAEP_SHA256_MGF1SHA256, record, &mut out, None).expect("it fits").to_vec()
}

async fn refused_without_azure(world: &AzureWorld, item: ItemId) {
    world.app.keyring.purge_all();
    let before = world.unwraps();
    refused(world.password(item).await);
    assert_eq!(world.unwraps(), before, "the MAC is checked before Azure is asked");
}

fn refused<T>(result: Result<T>) {
    match result {
        Err(Error::Integrity { .. } | Error::KeyUnavailable(_) | Error::NotFound("vault key")) => {}
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("it opened"),
    }
}
