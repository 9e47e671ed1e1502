//! A real PostgreSQL with TLS: the server reaches it in no other way than by a certificate that it can prove.

use std::{
    fs,
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::{
    child::{Server, log_file},
    site::{Site, Wishes},
    world::{administer, on_postgres, runtime},
};

/// A root, and a certificate for an address, with its key; all as PEM.
struct Certificates {
    root: String,
    leaf: String,
    key: String,
}

fn certificates(address: &str) -> Certificates {
    let root_key = KeyPair::generate().expect("a key");
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).expect("a root").pem();
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec![address.to_owned()]).expect("an address");
    let leaf = leaf.signed_by(&key, &issuer).expect("signed").pem();
    Certificates { root: root_pem, leaf, key: key.serialize_pem() }
}

/// Lets the test run's own PostgreSQL speak TLS with these, beside connections without.
fn speak_tls(server: &str, certificates: &Certificates) {
    for (file, text) in [("test.crt", &certificates.leaf), ("test.key", &certificates.key)] {
        let text = BASE64_STANDARD.encode(text);
        // Its own process writes them into its own folder: only so the key is the database user's.
        administer(server, &format!("COPY (SELECT '{text}') TO PROGRAM 'umask 077; base64 -d > {file}'"));
    }
    for setting in ["ssl_cert_file = 'test.crt'", "ssl_key_file = 'test.key'", "ssl = on"] {
        administer(server, &format!("ALTER SYSTEM SET {setting}"));
    }
    administer(server, "SELECT pg_reload_conf()");
}

fn serve(site: &Site, ca: Option<&str>) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(["serve", "--config"]).arg(site.config_file()).current_dir(&site.folder).stdin(Stdio::null());
    if let Some(ca) = ca {
        command.env("SSL_CERT_FILE", ca);
    }
    command.output().expect("it runs")
}

#[test]
fn a_postgresql_over_tls_is_served_from_if_its_certificate_is_proven_and_else_refused() {
    on_postgres(|database| {
        let (url, ours, others) = (database.url(), certificates("127.0.0.1"), certificates("127.0.0.1"));
        speak_tls(&url, &ours);
        let folder = tempfile::tempdir().expect("a temporary folder");
        runtime().block_on(async {
            let wishes =
                Wishes { folder: folder.path(), database: url.clone(), owner_password: "correct horse battery" };
            let site = Site::build(wishes).await;
            let plain = fs::read_to_string(site.config_file()).expect("ours");
            fs::write(site.config_file(), plain.replace(&url, &format!("{url}?sslmode=require"))).expect("ours");
            let file = |name: &str, pem: &str| {
                let path = site.folder.join(name);
                fs::write(&path, pem).expect("ours");
                path.display().to_string()
            };
            let (root, other) = (file("root.pem", &ours.root), file("other.pem", &others.root));

            for (ca, whose) in [(None, "a CA that nobody named"), (Some(other.as_str()), "another CA")] {
                let refused = serve(&site, ca);
                let said = String::from_utf8_lossy(&refused.stderr).into_owned();
                assert!(!refused.status.success(), "{whose}: {said}");
                assert!(said.contains("database cannot be reached") && said.contains("ertificate"), "{whose}: {said}");
            }

            let server = Server::start_with(&site, &[("STRONGROOM_LOG", "warn"), ("SSL_CERT_FILE", &root)]).await;
            let name = url.rsplit('/').next().expect("a name");
            let sessions = format!(
                "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE ssl AND datname = '{name}') OR EXISTS (SELECT 1 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE NOT ssl AND datname = '{name}' AND pid <> pg_backend_pid()) THEN RAISE 'in the clear'; END IF; END $$"
            );
            administer(&url, &sessions);
            server.ask_to_stop();
            let said = fs::read_to_string(log_file(&site.folder)).unwrap_or_default();
            assert!(server.ended().await.success(), "{said}");
        });
    });
}
