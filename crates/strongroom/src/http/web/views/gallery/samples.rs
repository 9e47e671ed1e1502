//! The sample data of the gallery: one small company, its items, its two vaults and its people.

use strongroom_keys::Code;

use super::super::{activity::*, home::*, items::*, members::*, profile::*, settings::*, sign_in::*, vaults::*, *};
use crate::error::Unavailable;

pub(super) fn at(text: &str) -> Moment {
    Moment { iso: "2026-11-23T14:03:22Z".into(), text: text.into() }
}

pub(super) fn outside(title: &str) -> Outside {
    Outside { title: title.into(), theme: Theme::System, notice: None, path: "/signin".into() }
}

pub(super) fn shell(title: &str, section: Section) -> Shell {
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

pub(super) fn searching() -> Shell {
    Shell { query: "post".into(), ..shell("Search", Section::Items) }
}

pub(super) fn vault_ref(number: usize) -> VaultRef {
    VaultRef { id: format!("v{number}"), name: ["Cloud vault", "Payments"][number].into() }
}

pub(super) const COMMAND: &str = "az keyvault key set-attributes --vault-name contoso-kv --name strongroom-kek --version 4f1c9a7be2d84c0f9b3e5d6a7c8b9e0f --enabled true";

pub(super) fn disabled() -> Cause {
    Cause::new(Unavailable::Dark, "key.disabled")
}

pub(super) fn panel(cause: Cause, folded: bool) -> DarkPanel {
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

pub(super) fn rows() -> Vec<ItemRow> {
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

pub(super) fn dashboard(shell: Shell, dark: Vec<DarkPanel>) -> DashboardPage {
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

pub(super) fn items(shell: Shell, rows: Vec<ItemRow>, dark: Vec<DarkPanel>, found: Option<u64>) -> ItemsPage {
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

pub(super) fn head() -> ItemHead {
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

pub(super) fn trashed() -> Trashed {
    Trashed { at: at("2 days ago"), by: "Grace Hopper".into(), gone: at("in 28 days") }
}

pub(super) fn sealed() -> Content {
    Content::Sealed { names: ["Password", "One-time code", "Security question", "Notes"].map(str::to_owned).into() }
}

pub(super) fn revealed() -> Content {
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

pub(super) fn item(content: Content) -> ItemPage {
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

pub(super) fn history() -> HistoryPage {
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

pub(super) fn sharing() -> SharingPage {
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

pub(super) fn form(kind: ItemKind, editing: Option<Editing>) -> ItemForm {
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

pub(super) fn privacy(shell: Shell, state: VaultState) -> PrivacyPage {
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

pub(super) fn failed_checks() -> Vec<CheckRow> {
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

pub(super) fn azure_vault(shell: Shell, checks: Vec<CheckRow>) -> AzureVaultPage {
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

pub(super) fn vault(shell: Shell, state: VaultState) -> VaultPage {
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

pub(super) const PEOPLE: [(&str, &str, &str); 5] = [
    ("Ada Lovelace", "ada@contoso.example", "Owner"),
    ("Grace Hopper", "grace@contoso.example", "Super Admin"),
    ("Katherine Johnson", "katherine@contoso.example", "Admin"),
    ("Margaret Hamilton", "margaret@contoso.example", "User"),
    ("Tim Berners-Lee", "tim@partner.example", "Guest"),
];

pub(super) fn member(n: usize, (name, email, role): &(&str, &str, &str)) -> MemberRow {
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

pub(super) fn profile(two_step: TwoStep) -> ProfilePage {
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

pub(super) fn activity() -> ActivityPage {
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
