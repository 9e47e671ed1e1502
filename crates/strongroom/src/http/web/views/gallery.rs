//! Every page with sample data: rendered by a test, and served on loopback to be looked at:
//! `cargo test -p strongroom --lib gallery_on_loopback -- --ignored` then <http://127.0.0.1:8499/>.

mod samples;

use std::collections::BTreeMap;

use samples::*;

use super::{error::*, items::*, members::*, profile::*, settings::*, sign_in::*, *};
use crate::error::Unavailable;

#[test]
fn every_page_renders_without_inline_style_or_script() {
    for (name, html) in pages() {
        assert!(html.starts_with("<!doctype html>"), "{name}");
        assert!(!html.contains(" style="), "{name} has an inline style");
        assert!(!html.contains("<style"), "{name} has an inline style sheet");
        assert_eq!(html.matches("<script").count(), 1, "{name} has exactly the one script");
        assert!(html.contains(r#"<script src="/assets/"#), "{name}");
        assert!(!html.contains(" onclick="), "{name}");
        assert_eq!(html.matches("<h1").count(), 1, "{name} has one heading of the first rank");
        assert_eq!(html.matches("<main").count(), 1, "{name} has one main landmark");
    }
}

#[test]
fn every_id_on_a_page_is_unique() {
    let id = regex::Regex::new(r#" id="([^"]+)""#).expect("valid");
    for (name, html) in pages() {
        let mut seen = std::collections::BTreeSet::new();
        for found in id.captures_iter(&html) {
            assert!(seen.insert(found[1].to_owned()), "{name} has two elements with the id {}", &found[1]);
        }
    }
}

/// The strings of step 5 of "Set up an Azure Key Vault integration", to the letter and in its order.
#[test]
fn step_5_reads_as_the_article_does() {
    let pages: BTreeMap<_, _> = pages().into_iter().collect();
    let in_order = |page: &str, strings: &[&str]| {
        let mut rest = pages[page].as_str();
        for string in strings {
            let needle = format!(">{string}<");
            let at = rest.find(&needle).unwrap_or_else(|| panic!("{page} lacks {string:?} here"));
            rest = &rest[at + 1..];
        }
    };
    assert!(pages["dashboard"].contains("Settings</a>"));
    in_order("settings", &["Workspace Configuration", "Privacy and Security"]);
    in_order("privacy", &["Workspace Configuration", "Privacy and Security", "Vault management", "Create new vault"]);
    in_order(
        "new-vault",
        &["Create new vault", "Vault name", "Strategy", "Azure External Keys", "Set as default vault", "Next"],
    );
    in_order(
        "azure-vault",
        &[
            "Configure the Azure vault",
            "Client ID",
            "Tenant ID",
            "Client Secret",
            "Vault URL",
            "Vault Key Name",
            "Create vault",
        ],
    );
}

#[test]
fn a_dark_item_shows_no_title() {
    let pages: BTreeMap<_, _> = pages().into_iter().collect();
    assert!(pages["item"].contains("Payroll portal"));
    assert!(!pages["item-dark"].contains("Payroll portal"));
}

#[tokio::test]
#[ignore = "serves until it is ended; for looking at the pages"]
async fn gallery_on_loopback() {
    use axum::{Router, extract::Path, response::Html, routing::get};
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    let list = pages().iter().map(|(name, _)| format!("<li><a href=/{name}>{name}</a>")).collect::<String>();
    let page = |Path(name): Path<String>| async move {
        let page = pages().into_iter().find(|(known, _)| *known == name);
        ([("content-security-policy", POLICY)], Html(page.map_or_else(String::new, |(_, html)| html)))
    };
    let app = Router::new()
        .route("/", get(move || async { Html(list) }))
        .route("/assets/{hash}/{name}", get(crate::http::web::assets::serve))
        .route("/{name}", get(page));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8499").await.expect("port 8499 is free");
    axum::serve(listener, app).await.expect("serves");
}

fn pages() -> Vec<(&'static str, String)> {
    let mut pages: Vec<(&'static str, Box<dyn askama::DynTemplate>)> = Vec::new();
    pages.extend(outside_pages());
    pages.extend(item_pages());
    pages.extend(settings_pages());
    pages.extend(people_pages());
    pages.extend(error_pages());
    pages.into_iter().map(|(name, page)| (name, page.dyn_render().expect("renders"))).collect()
}

type Pages = Vec<(&'static str, Box<dyn askama::DynTemplate>)>;

fn outside_pages() -> Pages {
    vec![
        (
            "signin",
            Box::new(SignInPage {
                outside: outside("Sign in"),
                email: Field::default(),
                password_error: None,
                next: "/".into(),
            }),
        ),
        (
            "signin-wrong",
            Box::new(SignInPage {
                outside: outside("Sign in"),
                email: Field::of("ada@contoso.example"),
                password_error: Some("That e-mail address and password do not belong together.".into()),
                next: "/".into(),
            }),
        ),
        (
            "signin-code",
            Box::new(SignInCodePage {
                outside: outside("Second step"),
                email: "ada@contoso.example".into(),
                code_error: Some("That code is wrong or was used already.".into()),
                next: "/".into(),
            }),
        ),
        (
            "setup",
            Box::new(SetupPage {
                outside: outside("Set up"),
                token: "t".into(),
                workspace: Field::default(),
                name: Field::default(),
                email: Field::wrong("ada@", "An e-mail address looks like name@example.com."),
                password_error: None,
            }),
        ),
        (
            "join",
            Box::new(NewPasswordPage {
                outside: outside("Join"),
                action: "/join/t".into(),
                workspace: "Contoso".into(),
                email: "grace@contoso.example".into(),
                name: Some(Field::of("Grace Hopper")),
                invited_by: Some("Ada Lovelace".into()),
                password_error: None,
            }),
        ),
        (
            "signin-again",
            Box::new(SignInAgainPage {
                shell: shell("Sign in again", Section::Settings),
                needs_code: true,
                error: None,
                next: "/settings".into(),
                reason: "To create a vault".into(),
            }),
        ),
    ]
}

fn item_pages() -> Pages {
    let mut dark_shell = shell("Items", Section::Items);
    dark_shell.vaults[1].state = VaultState::Stopped(disabled());
    let mut dashboard_dark = dark_shell.clone();
    dashboard_dark.section = Section::Dashboard;
    vec![
        ("dashboard", Box::new(dashboard(shell("Dashboard", Section::Dashboard), Vec::new()))),
        ("dashboard-dark", Box::new(dashboard(dashboard_dark, vec![panel(disabled(), true)]))),
        ("items", Box::new(items(shell("Items", Section::Items), rows(), Vec::new(), None))),
        ("items-dark", Box::new(items(dark_shell.clone(), rows().split_off(9), vec![panel(disabled(), false)], None))),
        (
            "items-folded",
            Box::new(items(
                dark_shell.clone(),
                rows().split_off(9),
                vec![
                    panel(Cause::new(Unavailable::Dark, "key.access_removed"), true),
                    panel(Cause::new(Unavailable::Outage, "azure.unreachable"), true),
                    panel(Cause::new(Unavailable::Fault, "fault.wrong_kid"), true),
                ],
                None,
            )),
        ),
        (
            "items-outage",
            Box::new(items(
                dark_shell.clone(),
                Vec::new(),
                vec![panel(Cause::new(Unavailable::Outage, "azure.throttled"), false)],
                None,
            )),
        ),
        ("search", Box::new(items(searching(), rows().split_off(7), Vec::new(), Some(5)))),
        ("items-empty", Box::new(items(shell("Items", Section::Items), Vec::new(), Vec::new(), None))),
        ("item", Box::new(item(sealed()))),
        ("item-revealed", Box::new(item(revealed()))),
        (
            "item-dark",
            Box::new(DarkItemPage {
                shell: dark_shell,
                kind: ItemKind::Account,
                role: ItemRole::Owner,
                panel: DarkPanel { items: 1, ..panel(disabled(), false) },
            }),
        ),
        ("history", Box::new(history())),
        ("sharing", Box::new(sharing())),
        ("new-account", Box::new(form(ItemKind::Account, None))),
        ("new-database", Box::new(form(ItemKind::Database, None))),
        ("edit", Box::new(form(ItemKind::Account, Some(Editing { id: "0198".into(), revision: 4 })))),
        (
            "trash",
            Box::new(TrashPage {
                shell: shell("Trash", Section::Trash),
                rows: rows().into_iter().take(3).map(|item| TrashRow { item, trashed: trashed() }).collect(),
                dark: vec![panel(disabled(), true)],
                keep_days: 30,
            }),
        ),
        (
            "take-over",
            Box::new(TakeOverPage {
                shell: shell("Take over", Section::Members),
                id: "0198c2f4-7d1e-7c3a-9f10-3a5b8c2d4e6f".into(),
                kind: ItemKind::Account,
                vault: vault_ref(1),
                owners: vec!["Grace Hopper".into()],
                reason: Field::default(),
            }),
        ),
    ]
}

fn settings_pages() -> Pages {
    let settings = || shell("Privacy and Security", Section::Settings);
    let mut created = settings();
    created.notice = Some(Notice::success("The vault Payments was created and is the default vault."));
    vec![
        (
            "settings",
            Box::new(GeneralPage {
                shell: settings(),
                tab: SettingsTab::General,
                name: Field::of("Contoso"),
                slug: "contoso".into(),
                created: at("12 Oct 2026"),
                require_two_step: false,
                external_keys: true,
                can_edit: true,
            }),
        ),
        ("privacy", Box::new(privacy(created, VaultState::Healthy))),
        ("privacy-dark", Box::new(privacy(settings(), VaultState::Stopped(disabled())))),
        (
            "new-vault",
            Box::new(NewVaultPage {
                shell: settings(),
                name: Field::default(),
                strategies: vec![
                    Choice::new("azure_external_keys", "Azure External Keys", true),
                    Choice::new("cloud", "Cloud vault", false),
                ],
                strategy_error: None,
                default: false,
            }),
        ),
        ("azure-vault", Box::new(azure_vault(settings(), Vec::new()))),
        ("azure-vault-failed", Box::new(azure_vault(settings(), failed_checks()))),
        ("vault", Box::new(vault(settings(), VaultState::Healthy))),
        (
            "vault-dark",
            Box::new(vault(settings(), VaultState::Stopped(Cause::new(Unavailable::Dark, "credential.expired")))),
        ),
        (
            "cloud-vault",
            Box::new(CloudVaultPage { shell: settings(), name: "Office".into(), default: true, problem: None }),
        ),
    ]
}

fn people_pages() -> Pages {
    let members = || shell("Members", Section::Members);
    vec![
        (
            "members",
            Box::new(MembersPage {
                shell: members(),
                rows: PEOPLE.iter().enumerate().map(|(n, p)| member(n, p)).collect(),
                can_transfer: true,
            }),
        ),
        (
            "invite",
            Box::new(InvitePage {
                shell: members(),
                name: Field::default(),
                email: Field::default(),
                roles: ["Admin", "User", "Guest"].map(|role| Choice::new(role, role, role == "User")).into(),
                problem: None,
            }),
        ),
        (
            "invited",
            Box::new(LinkPage {
                shell: members(),
                name: "Grace Hopper".into(),
                email: "grace@contoso.example".into(),
                link: "https://strongroom.contoso.example/join/9vQb2mXo0sT7eK4wRzYhPqLdUfJcNa".into(),
                expires: at("Tuesday, 14:03"),
                invitation: true,
            }),
        ),
        (
            "member",
            Box::new(MemberPage {
                shell: members(),
                member: member(2, &PEOPLE[2]),
                joined: Some(at("12 Oct 2026")),
                roles: vec![Choice::new("admin", "Admin", true), Choice::new("user", "User", false)],
                role_error: None,
                can_remove: true,
            }),
        ),
        (
            "remove",
            Box::new(RemovePage {
                shell: members(),
                id: "1".into(),
                name: "Katherine Johnson".into(),
                owns: 12,
                heirs: vec![Choice::new("1", "Ada Lovelace", true)],
                problem: None,
            }),
        ),
        (
            "transfer",
            Box::new(TransferPage {
                shell: members(),
                candidates: vec![Choice::new("1", "Grace Hopper", true)],
                problem: None,
            }),
        ),
        ("profile", Box::new(profile(TwoStep::Off { required: true }))),
        ("profile-on", Box::new(profile(TwoStep::On { since: at("12 Oct 2026"), recovery_codes_left: 8 }))),
        (
            "two-step",
            Box::new(TwoStepPage {
                shell: shell("Second step", Section::Profile),
                qr: Qr::of("otpauth://totp/Strongroom:ada%40contoso.example?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Strongroom").expect("short"),
                secret: "JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP".into(),
                otpauth: "otpauth://totp/…".into(),
                code_error: None,
            }),
        ),
        (
            "recovery-codes",
            Box::new(RecoveryCodesPage {
                shell: shell("Recovery codes", Section::Profile),
                codes: (0..10).map(|n| format!("k7f{n}-9xq2-mz4{n}")).collect(),
            }),
        ),
        (
            "new-token",
            Box::new(NewTokenPage {
                shell: shell("New token", Section::Profile),
                name: Field::default(),
                scopes: vec![Choice::new("read", "Read items", true), Choice::new("write", "Read and change items", false)],
                lifetimes: vec![Choice::new("30", "in 30 days", true)],
                problem: None,
            }),
        ),
        (
            "token",
            Box::new(TokenPage {
                shell: shell("Token", Section::Profile),
                name: "deploy pipeline".into(),
                token: "srm_5Jp8Xv2QmWc9TzR4yKfB7nHsLdG3aEuV6tYx7Qa".into(),
                expires: at("23 Dec 2026"),
                server_url: "http://127.0.0.1:8470".into(),
            }),
        ),
        ("activity", Box::new(activity())),
    ]
}

fn error_pages() -> Pages {
    let mut pages: Pages = Vec::new();
    for (name, status) in [
        ("error-403", 403),
        ("error-404", 404),
        ("error-412", 412),
        ("error-413", 413),
        ("error-422", 422),
        ("error-429", 429),
        ("error-500", 500),
        ("error-503", 503),
    ] {
        pages.push((name, Box::new(ErrorPage::of(status, "0198c2f4-7d1e"))));
    }
    let dark = ErrorPage { dark: Some(panel(disabled(), false)), ..ErrorPage::of(423, "0198c2f4-7d1e") };
    pages.push(("error-423", Box::new(dark)));
    pages
}
