//! Every page with sample data: rendered by a test, and served on loopback to be looked at:
//! `cargo test -p strongroom --lib gallery_on_loopback -- --ignored` then <http://127.0.0.1:8499/>.

use std::collections::BTreeMap;

use strongroom_keys::Code;

use super::{activity::*, error::*, home::*, items::*, members::*, profile::*, settings::*, sign_in::*, vaults::*, *};
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

fn at(text: &str) -> Moment {
    Moment { iso: "2026-11-23T14:03:22Z".into(), text: text.into() }
}

fn outside(title: &str) -> Outside {
    Outside { title: title.into(), theme: Theme::System, notice: None, path: "/signin".into() }
}

fn shell(title: &str, section: Section) -> Shell {
    let vault =
        |id: &str, name: &str, items| NavVault { id: id.into(), name: name.into(), items, state: VaultState::Healthy };
    Shell {
        title: title.into(),
        section,
        workspace: "Contoso".into(),
        me: Me { name: "Ada Lovelace".into(), email: "ada@contoso.example".into(), role: "Owner".into() },
        can: Can { create_items: true, manage_members: true, manage_vaults: true, read_activity: true },
        theme: Theme::System,
        vaults: vec![vault("v0", "Cloud vault", 3), vault("v1", "Payments", 412)],
        notice: None,
        refresh: Some(Refresh { seconds: 10, url: "/items".into() }),
        query: String::new(),
        path: "/items".into(),
    }
}

fn searching() -> Shell {
    Shell { query: "post".into(), ..shell("Search", Section::Items) }
}

fn vault_ref(number: usize) -> VaultRef {
    VaultRef { id: format!("v{number}"), name: ["Cloud vault", "Payments"][number].into() }
}

const COMMAND: &str = "az keyvault key set-attributes --vault-name contoso-kv --name strongroom-kek --version 4f1c9a7be2d84c0f9b3e5d6a7c8b9e0f --enabled true";

fn disabled() -> Cause {
    Cause::new(Unavailable::Dark, "key.disabled")
}

fn panel(cause: Cause, folded: bool) -> DarkPanel {
    let code = cause.code.expect("a known code");
    DarkPanel {
        vault_id: "v1".into(),
        vault_name: "Payments".into(),
        items: 412,
        cause,
        title: code.title().into(),
        detail: "Operation unwrapKey is not allowed on a disabled key.".into(),
        fix: if code == Code::KeyDisabled { COMMAND.into() } else { code.fix().into() },
        since: at("14:03:22, 40 seconds ago"),
        azure_request_id: Some("b1d7c0a2-5e3f-4c8d-9a61-7f2e4b0c9d35".into()),
        folded,
        can_manage: true,
    }
}

fn rows() -> Vec<ItemRow> {
    const ROWS: [(&str, &str, ItemKind, usize, u64, &str); 14] = [
        ("Payroll portal", "finance@contoso.example", ItemKind::Account, 1, 3, "3 minutes ago"),
        ("Stripe live key", "API key", ItemKind::ApiKey, 1, 0, "1 hour ago"),
        ("GitHub organisation", "contoso-bot", ItemKind::Account, 1, 12, "2 hours ago"),
        ("Production database", "Database", ItemKind::Database, 1, 4, "yesterday"),
        ("AWS root account", "root@contoso.example", ItemKind::Account, 1, 1, "yesterday"),
        ("Deploy key, storefront", "SSH key", ItemKind::SshKey, 1, 2, "18 Nov"),
        (
            "Company registration number and the very long title that somebody typed",
            "Text",
            ItemKind::Text,
            1,
            0,
            "17 Nov",
        ),
        ("Figma", "design@contoso.example", ItemKind::Account, 1, 22, "12 Nov"),
        ("DHL business customer portal", "contoso-logistics", ItemKind::Account, 1, 5, "9 Nov"),
        ("LinkedIn company page", "marketing@contoso.example", ItemKind::Account, 0, 2, "3 Nov"),
        ("Office Wi-Fi", "Free fields", ItemKind::Free, 0, 40, "21 Oct"),
        ("PostHog", "dev@contoso.example", ItemKind::Account, 0, 0, "20 Oct"),
        ("Zendesk", "support@contoso.example", ItemKind::Account, 0, 7, "19 Oct"),
        ("Überweisungen Hausbank", "contoso-gmbh", ItemKind::Account, 0, 1, "12 Oct"),
    ];
    ROWS.iter()
        .enumerate()
        .map(|(n, (title, subtitle, kind, vault, shared_with, when))| ItemRow {
            id: format!("i{n}"),
            title: (*title).into(),
            subtitle: (*subtitle).into(),
            kind: *kind,
            vault: vault_ref(*vault),
            role: ItemRole::Owner,
            shared_with: *shared_with,
            updated: at(when),
        })
        .collect()
}

fn dashboard(shell: Shell, dark: Vec<DarkPanel>) -> DashboardPage {
    let recent = if dark.is_empty() { rows().into_iter().take(8).collect() } else { rows().split_off(9) };
    let health = shell
        .vaults
        .iter()
        .enumerate()
        .map(|(n, vault)| Health {
            vault: vault.clone(),
            is_default: n == 1,
            key: ["this server’s instance key", "strongroom-kek in contoso-kv"][n].into(),
            checked: ["no check needed", "checked 3 s ago, 41 ms"][n].into(),
        })
        .collect();
    DashboardPage {
        shell,
        counts: Counts { accounts: 371, secrets: 44, shared_with_me: 28, members: 17 },
        todo: vec![
            Todo {
                icon: "shield-check",
                title: "Set up your second step".into(),
                why: "You manage this workspace with a password alone.".into(),
                action: "Set it up".into(),
                url: "/profile#two-step".into(),
                urgent: true,
            },
            Todo {
                icon: "clock",
                title: "Client secret expires in 12 days".into(),
                why: "Payments would turn dark on 5 Dec 2026.".into(),
                action: "Replace it".into(),
                url: "/settings/vaults/v1".into(),
                urgent: false,
            },
        ],
        dark,
        recent,
        health,
    }
}

fn items(shell: Shell, rows: Vec<ItemRow>, dark: Vec<DarkPanel>, found: Option<u64>) -> ItemsPage {
    let range = if rows.is_empty() { String::new() } else { "1–14 of 415".into() };
    ItemsPage {
        shell,
        rows,
        dark,
        filter: ItemFilter {
            kinds: vec![Choice::new("", "All", true), Choice::new("account", "Accounts", false)],
            vaults: vec![Choice::new("", "All", true), Choice::new("v1", "Payments", false)],
            sorts: vec![Choice::new("changed", "Last changed", true), Choice::new("title", "Title", false)],
            active: false,
        },
        pager: Pager { range, previous: None, next: Some("/items?page=2".into()) },
        found,
    }
}

fn head() -> ItemHead {
    ItemHead {
        id: "0198c2f4-7d1e-7c3a-9f10-3a5b8c2d4e6f".into(),
        title: "Payroll portal".into(),
        kind: ItemKind::Account,
        vault: vault_ref(1),
        role: ItemRole::Owner,
        revision: 4,
        revisions: 4,
        people: 3,
        created: at("12 Oct 2026"),
        created_by: "Ada Lovelace".into(),
        updated: at("3 minutes ago"),
        updated_by: "Grace Hopper".into(),
        trashed: None,
    }
}

fn trashed() -> Trashed {
    Trashed { at: at("2 days ago"), by: "Grace Hopper".into(), gone: at("in 28 days") }
}

fn sealed() -> Content {
    Content::Sealed { names: ["Password", "One-time code", "Security question", "Notes"].map(str::to_owned).into() }
}

fn revealed() -> Content {
    let field =
        |name: &str, kind, value: &str| RevealedField { name: name.into(), kind, value: value.into(), totp: None };
    Content::Revealed {
        at: at("at 14:03:22"),
        fields: vec![
            field("Password", FieldKind::Hidden, "correct-Horse7-battery!staple"),
            RevealedField {
                totp: Some(TotpCode { code: "492039".into(), seconds_left: 19, period: 30 }),
                ..field("One-time code", FieldKind::Totp, "")
            },
            field("Security question", FieldKind::Text, "First pet: Ada’s analytical cat"),
            field(
                "Private key",
                FieldKind::Multiline,
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACB\n-----END OPENSSH PRIVATE KEY-----",
            ),
        ],
        notes: Some(
            "Ring Martha in accounting before changing anything.\nThe portal is closed on the last day of the month."
                .into(),
        ),
    }
}

fn item(content: Content) -> ItemPage {
    ItemPage {
        shell: shell("Payroll portal", Section::Items),
        item: head(),
        tab: ItemTab::Overview,
        usernames: vec!["finance@contoso.example".into()],
        urls: vec!["https://payroll.example.com/login".into(), "javascript:alert(1)".into()],
        content,
        chain: KeyChain {
            data_key: "01d7-9c3e".into(),
            generation: 1,
            strategy: "Azure External Keys".into(),
            kek: "strongroom-kek".into(),
            key_vault: "contoso-kv".into(),
            key_version: "4f1c9a7b".into(),
        },
    }
}

fn history() -> HistoryPage {
    let row = |revision, who: &str, what: &str, when| RevisionRow {
        revision,
        who: who.into(),
        at: at(when),
        what: what.into(),
        current: revision == 4,
    };
    HistoryPage {
        shell: shell("History", Section::Items),
        item: head(),
        tab: ItemTab::History,
        revisions: vec![
            row(4, "Grace Hopper", "Edited", "3 minutes ago"),
            row(3, "Ada Lovelace", "Restored revision 1", "yesterday"),
            row(2, "Grace Hopper", "Edited", "2 Nov 2026"),
            row(1, "Ada Lovelace", "Created", "12 Oct 2026"),
        ],
    }
}

fn sharing() -> SharingPage {
    let grant = |n: usize, role, fixed| Grant {
        member_id: format!("m{n}"),
        name: PEOPLE[n].0.into(),
        email: PEOPLE[n].1.into(),
        role,
        is_me: n == 0,
        fixed,
    };
    SharingPage {
        shell: shell("Sharing", Section::Items),
        item: head(),
        tab: ItemTab::Sharing,
        people: vec![
            grant(0, ItemRole::Owner, true),
            grant(1, ItemRole::Editor, false),
            grant(3, ItemRole::Viewer, false),
        ],
        candidates: vec![Choice::new("m2", "Katherine Johnson", false)],
        problem: None,
    }
}

fn form(kind: ItemKind, editing: Option<Editing>) -> ItemForm {
    let filled = editing.is_some();
    let text = |value: &str| if filled { Field::of(value) } else { Field::default() };
    let mut fields = kind.starting_fields();
    if kind.is_account() {
        fields.push(FieldInput::new("", FieldKind::Text, ""));
    }
    ItemForm {
        shell: Shell { refresh: None, ..shell("New item", Section::Items) },
        editing,
        kind,
        title: if filled { Field::wrong("Payroll portal", "A title has at most 500 characters.") } else { text("") },
        vaults: vec![Choice::new("v1", "Payments (default)", true), Choice::new("v0", "Cloud vault", false)],
        vault_error: None,
        usernames: text("finance@contoso.example"),
        urls: text("https://payroll.example.com/login"),
        password: text("correct-Horse7-battery!staple"),
        totp: text(""),
        notes: text("Ring Martha before changing anything."),
        fields,
        problem: filled.then(|| {
            Notice::problem(
                "Grace Hopper saved revision 5 while you were editing.",
                "Your text is still here. Open the item in another tab, compare, and save again to write revision 6.",
            )
        }),
    }
}

fn privacy(shell: Shell, state: VaultState) -> PrivacyPage {
    let vault = |n: usize, strategy: &str, key: &str, key_version: &str, state, items| VaultRow {
        id: format!("v{n}"),
        name: vault_ref(n).name,
        is_default: n == 1,
        strategy: strategy.into(),
        key: key.into(),
        key_version: key_version.into(),
        state,
        items,
        created: at("12 Oct 2026"),
        credential_expires: (n == 1).then(|| at("in 12 days")),
    };
    PrivacyPage {
        shell,
        tab: SettingsTab::PrivacyAndSecurity,
        external_keys: true,
        vaults: vec![
            vault(1, "Azure External Keys", "contoso-kv / strongroom-kek", "4f1c9a7b", state, 412),
            vault(0, "Cloud vault", "Instance key", "", VaultState::Healthy, 3),
        ],
        full: None,
    }
}

fn failed_checks() -> Vec<CheckRow> {
    let check = |code: &str, label: &str, status| CheckRow {
        code: code.into(),
        label: label.into(),
        status,
        cause: None,
        fix: None,
        command: None,
        ms: (status != CheckStatus::Skipped).then_some(87),
        azure_request_id: None,
    };
    vec![
        check("url", "The address is a Key Vault’s", CheckStatus::Pass),
        check("token", "The service principal signs in", CheckStatus::Pass),
        CheckRow {
            cause: Some(Code::AccessRemoved.title().into()),
            fix: Some(Code::AccessRemoved.fix().into()),
            command: Some(COMMAND.into()),
            azure_request_id: Some("b1d7c0a2-5e3f-4c8d-9a61-7f2e4b0c9d35".into()),
            ..check("key.read", "The key can be read", CheckStatus::Fail)
        },
        check("key.type", "RSA, 4096 bits", CheckStatus::Skipped),
        check("key.wrap", "A probe wraps and unwraps", CheckStatus::Skipped),
        CheckRow {
            cause: Some("The role does not allow reading the Key Vault’s own settings.".into()),
            ..check("key_vault.purge_protection", "Purge protection", CheckStatus::Warn)
        },
    ]
}

fn azure_vault(shell: Shell, checks: Vec<CheckRow>) -> AzureVaultPage {
    let wrong = !checks.is_empty();
    let field = |value: &str| if wrong { Field::of(value) } else { Field::default() };
    AzureVaultPage {
        shell,
        name: "Payments".into(),
        default: true,
        client_id: field("7d3f0a4e-52c1-4b7a-9a86-0f4d2c9be1a3"),
        tenant_id: field("c1f2b8e0-90aa-4c57-8f3e-2b6d5a7e9c04"),
        client_secret_error: wrong.then(|| "Please enter it again: it is never sent back to the page.".into()),
        vault_url: field("https://contoso-kv.vault.azure.net"),
        key_name: field("strongroom-kek"),
        problem: wrong.then(|| "The vault was not created: one check failed.".into()),
        checks,
    }
}

fn vault(shell: Shell, state: VaultState) -> VaultPage {
    let version = |key_version: &str, current, wraps| KeyVersionRow {
        key_version: key_version.into(),
        current,
        status: "Enabled".into(),
        wraps,
        first_seen: at("12 Oct 2026"),
        safe_to_disable: wraps == 0,
    };
    VaultPage {
        shell,
        id: "v1".into(),
        name: "Payments".into(),
        is_default: true,
        strategy: "Azure External Keys".into(),
        state,
        items: 412,
        created: at("12 Oct 2026"),
        created_by: "Ada Lovelace".into(),
        generation: 1,
        dark: state.stopped().map(|cause| panel(cause, false)),
        azure: Some(AzureKey {
            vault_url: "https://contoso-kv.vault.azure.net".into(),
            key_name: "strongroom-kek".into(),
            key_type: "RSA 4096".into(),
            client_id: "7d3f0a4e-52c1-4b7a-9a86-0f4d2c9be1a3".into(),
            tenant_id: "c1f2b8e0-90aa-4c57-8f3e-2b6d5a7e9c04".into(),
            secret_set: at("12 Oct 2026"),
            secret_expires: Some(at("in 12 days")),
            versions: vec![
                version("4f1c9a7be2d84c0f9b3e5d6a7c8b9e0f", true, 1),
                version("00aa17be2d84c0f9b3e5d6a7c8b9e0f1", false, 0),
            ],
            new_secret: Field::default(),
        }),
        lease: Lease {
            until: state.stopped().is_none().then(|| at("14:08:22")),
            seconds: 300,
            last_use: Some(at("3 s ago")),
            last_check: Some(at("2 s ago")),
            last_check_ms: Some(41),
            last_azure_request_id: Some("b1d7c0a2-5e3f-4c8d-9a61-7f2e4b0c9d35".into()),
        },
        checks: Vec::new(),
    }
}

const PEOPLE: [(&str, &str, &str); 5] = [
    ("Ada Lovelace", "ada@contoso.example", "Owner"),
    ("Grace Hopper", "grace@contoso.example", "Super Admin"),
    ("Katherine Johnson", "katherine@contoso.example", "Admin"),
    ("Margaret Hamilton", "margaret@contoso.example", "User"),
    ("Tim Berners-Lee", "tim@partner.example", "Guest"),
];

fn member(n: usize, (name, email, role): &(&str, &str, &str)) -> MemberRow {
    MemberRow {
        id: format!("m{n}"),
        name: (*name).into(),
        email: (*email).into(),
        role: (*role).into(),
        is_me: n == 0,
        two_step: n < 3,
        status: [
            MemberStatus::Active,
            MemberStatus::Active,
            MemberStatus::Active,
            MemberStatus::Invited,
            MemberStatus::InvitationExpired,
        ][n],
        last_seen: (n < 3).then(|| at("2 hours ago")),
        owns: 12,
        can_change: n > 0,
    }
}

fn profile(two_step: TwoStep) -> ProfilePage {
    let session = |id: &str, browser: &str, current| SessionRow {
        id: id.into(),
        browser: browser.into(),
        address: "203.0.113.7".into(),
        started: at("8 hours ago"),
        last_seen: at("just now"),
        current,
    };
    ProfilePage {
        shell: shell("My profile", Section::Profile),
        name: Field::of("Ada Lovelace"),
        two_step,
        sessions: vec![session("s1", "Firefox on Linux", true), session("s2", "Safari on iPhone", false)],
        tokens: vec![TokenRow {
            id: "t1".into(),
            name: "deploy pipeline".into(),
            hint: "srm_…x7Qa".into(),
            scope: "Read items".into(),
            created: at("12 Oct 2026"),
            last_used: Some(at("2 hours ago")),
            expires: at("23 Dec 2026"),
            expired: false,
        }],
        current_password_error: None,
        new_password_error: None,
    }
}

fn activity() -> ActivityPage {
    let event = |actor: &str, what: &str, action: &str, icon, tone, target: Option<&str>, azure: bool| EventRow {
        id: "e".into(),
        at: at("14:03:22, today"),
        actor: actor.into(),
        what: what.into(),
        action: action.into(),
        icon,
        tone,
        target: target.map(|text| Target { text: text.into(), url: Some("/items/i1".into()) }),
        address: (actor != "Strongroom").then(|| "203.0.113.7".into()),
        azure_request_id: azure.then(|| "b1d7c0a2-5e3f-4c8d-9a61-7f2e4b0c9d35".into()),
    };
    ActivityPage {
        shell: shell("Activity", Section::Activity),
        rows: vec![
            event(
                "Strongroom",
                "saw the key answer again and opened the vault",
                "vault.opened",
                "lock-open",
                Tone::Ok,
                Some("Payments"),
                true,
            ),
            event(
                "Strongroom",
                "was refused the key; the vault is dark: Key disabled",
                "vault.dark",
                "moon",
                Tone::Night,
                Some("Payments"),
                true,
            ),
            event("Ada Lovelace", "revealed", "item.reveal", "eye", Tone::Plain, Some("Payroll portal"), false),
            event(
                "Strongroom",
                "unwrapped the vault key of",
                "key.unwrap",
                "key-round",
                Tone::Plain,
                Some("Payments"),
                true,
            ),
            event(
                "Grace Hopper",
                "shared with Tim Berners-Lee as viewer",
                "item.share",
                "share-2",
                Tone::Plain,
                Some("Office Wi-Fi"),
                false,
            ),
            event("Ada Lovelace", "created the vault", "vault.create", "vault", Tone::Plain, Some("Payments"), true),
            event(
                "Someone not signed in",
                "failed to sign in 12 times as",
                "session.refused",
                "log-in",
                Tone::Warn,
                Some("ada@contoso.example"),
                false,
            ),
        ],
        actors: vec![Choice::new("", "Everyone", true)],
        actions: vec![Choice::new("", "Everything", true)],
        vaults: vec![Choice::new("", "All", true)],
        from: String::new(),
        to: String::new(),
        pager: Pager { range: "1–7 of 1,204".into(), previous: None, next: Some("/activity?after=x".into()) },
        filtered: false,
    }
}
