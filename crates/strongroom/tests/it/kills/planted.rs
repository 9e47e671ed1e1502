//! The verdict over kills and chaos can fail: losses that were planted are named, each.

use reqwest::Method;
use uuid::Uuid;

use super::{
    check_audit,
    evidence::{Ledger, Seen},
    model::{Content, Model},
    writers::id_of,
};
use crate::{
    child::{Api, Server},
    site::{Site, Wishes, close},
    world::{on_each_database, runtime},
};

async fn create(api: &Api, vault: Uuid, content: &Content) -> Uuid {
    let mut body = content.body();
    body["type"] = "secret".into();
    body["vault_id"] = vault.to_string().into();
    id_of(&api.try_send(Method::POST, "/items", None, &body).await.expect("an answer").expect(201).json())
}

#[test]
fn what_is_lost_changed_or_planted_is_named() {
    on_each_database(|database| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        runtime().block_on(async {
            let wishes =
                Wishes { folder: folder.path(), database: database.url(), owner_password: "correct horse battery" };
            let site = Site::build(wishes).await;
            let (vault, mut model) = (site.cloud_vault, Model::default());
            let server = Server::start(&site, "warn").await;
            let api = Api::of(&site);
            let mut ids = Vec::new();
            for name in ["kept", "lost", "changed", "unlogged", "planted"] {
                let content = Content { title: name.into(), value: format!("value of {name}") };
                let id = create(&api, vault, &content).await;
                let known = match name {
                    "changed" => Content { value: "what was acknowledged".into(), ..content },
                    _ => content,
                };
                if name != "planted" {
                    model.will_create(vault, known.clone());
                    model.created(id, vault, known);
                }
                ids.push(id);
            }
            server.ask_to_stop();
            assert!(server.ended().await.success());
            let [kept, lost, changed, unlogged, planted] = ids[..] else { panic!("five items") };

            let app = site.open().await;
            assert_eq!(check_audit(&app).await, Vec::<String>::new(), "nothing is wrong yet");
            app.store
                .write(move |tx| {
                    for table in ["item_roles", "data_keys"] {
                        tx.execute(&format!("DELETE FROM {table} WHERE item_id = $1"), &[lost.into()])?;
                    }
                    tx.execute("DELETE FROM items WHERE id = $1", &[lost.into()])?;
                    let sql = "DELETE FROM audit_events WHERE target_id = $1 AND action = 'item.create'";
                    tx.execute(sql, &[unlogged.into()]).map(drop)
                })
                .await
                .expect("the database lets it happen");
            let mut found = model.compare_rows(&Ledger::read(&app.store).await);
            let audit = check_audit(&app).await;
            assert!(!audit.is_empty(), "the log lacks an event");
            close(app).await;
            let server = Server::start(&site, "warn").await;
            for id in [kept, lost, changed] {
                found.extend(model.compare(&Seen::read(&api, id, &[]).await));
            }
            server.kill();
            let named = |id: Uuid| found.iter().any(|fault| fault.contains(&id.to_string()));
            assert!(!named(kept), "{found:?}");
            for id in [lost, changed, unlogged, planted] {
                assert!(named(id), "{id} is not among {found:?}");
            }
        });
    });
}
