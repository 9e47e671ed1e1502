//! The vectors beside `docs/format.md`: every file in `tests/vectors/` is met, and this build still writes the same bytes.
//!
//! `STRONGROOM_WRITE_VECTORS=1 cargo test -p strongroom-envelope --test vectors` writes the files anew.

mod cases;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use strongroom_envelope::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    pub about: String,
    pub kind: String,
    pub key: String,
    pub place: BTreeMap<String, Value>,
    pub input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

#[test]
fn every_vector_file_is_met() {
    let files = vector_files();
    assert!(files.len() > 50, "only {} files", files.len());
    for (path, text) in files {
        let vector: Vector = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let hostile = path.parent().is_some_and(|parent| parent.ends_with("hostile"));
        assert_eq!(hostile, vector.fault.is_some(), "{}: hostile files fail, the others do not", path.display());
        let expected = match &vector.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        };
        assert_eq!(vector.check(), expected, "{}: {}", path.display(), vector.about);
    }
}

#[test]
fn sealing_again_with_the_salt_of_a_vector_gives_its_bytes() {
    for (path, text) in vector_files() {
        let vector: Vector = serde_json::from_str(&text).expect("checked by every_vector_file_is_met");
        if vector.fault.is_none() {
            assert!(vector.make(vector.salt()) == unhex(&vector.input), "{}", path.display());
        }
    }
}

#[test]
fn the_files_are_the_cases_and_no_others() {
    let cases: BTreeMap<PathBuf, String> = cases::all()
        .into_iter()
        .map(|(name, vector)| {
            let folder = if vector.fault.is_some() { "hostile" } else { "" };
            let text = serde_json::to_string_pretty(&vector).expect("plain data") + "\n";
            (root().join(folder).join(name).with_extension("json"), text)
        })
        .collect();
    if std::env::var_os("STRONGROOM_WRITE_VECTORS").is_some() {
        for (path, text) in &cases {
            std::fs::write(path, text).expect("the folder is writable");
        }
    }
    let files = vector_files();
    assert_eq!(files.keys().collect::<Vec<_>>(), cases.keys().collect::<Vec<_>>());
    for (path, text) in files {
        assert!(cases[&path] == text, "{} differs from what this build makes", path.display());
    }
}

/// Hands out the given bytes one after the other, so that keys and salts can be chosen.
struct Scripted(Mutex<Vec<u8>>);

impl Scripted {
    fn new(bytes: &[u8]) -> Self {
        Self(Mutex::new(bytes.to_vec()))
    }
}

impl Random for Scripted {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomFailed> {
        let mut bytes = self.0.lock().expect("no test panics while it holds the lock");
        if bytes.len() < out.len() {
            return Err(RandomFailed);
        }
        out.copy_from_slice(&bytes.drain(..out.len()).collect::<Vec<_>>());
        Ok(())
    }
}

/// A content key with a context, so that one arm serves both kinds of it.
enum Content {
    Item(DataKey, Context),
    Instance(InstanceKeys, InstanceContext),
}

impl Vector {
    /// Opens, unwraps or verifies `input`; checks that what comes out is `output`. The error is the fault's name.
    fn check(&self) -> Result<(), String> {
        let input = unhex(&self.input);
        let output = unhex(self.output.as_deref().unwrap_or_default());
        let came_out = match self.kind.as_str() {
            "data_key_wrap" => unwrap_data_key(&self.vault_key(), &self.data_key_place(), &input)
                .map_err(name)?
                .matches(&DataKey::generate(&Scripted::new(&output)).expect("32 bytes")),
            "cloud_kek_wrap" => unwrap_cloud_kek(&self.instance_keys(), &self.cloud_place(), &input)
                .map_err(name)?
                .matches(&CloudKek::generate(&Scripted::new(&output)).expect("32 bytes")),
            "log_key" => {
                open_log_key(&self.instance_keys(), &input).map_err(name)?.public()
                    == LogKey::generate(&Scripted::new(&output)).expect("32 bytes").public()
            }
            "vault_key_wrap" => {
                unwrap_record_under_cloud_kek(&self.cloud_kek(), &self.cloud_place(), &input).map_err(name)?[..]
                    == output
            }
            "wrap_record" => read_wrap_record(&input, &self.vault_key_place())
                .map_err(name)?
                .matches(&VaultKey::generate(&Scripted::new(&output)).expect("32 bytes")),
            kind if kind.starts_with("mac_") => {
                self.verify_mac(&Mac::from_bytes(&input).map_err(name)?).map_err(name)?;
                true
            }
            _ => match self.content() {
                Content::Item(key, context) => open(&key, &context, &input).map_err(name)?[..] == output,
                Content::Instance(keys, context) => open(&keys, &context, &input).map_err(name)?[..] == output,
            },
        };
        if came_out { Ok(()) } else { Err("another output".to_owned()) }
    }

    /// Makes `input` from `output` with the given salt; kinds without a salt ignore it.
    fn make(&self, salt: &[u8]) -> Vec<u8> {
        let random = Scripted::new(salt);
        let output = unhex(self.output.as_deref().unwrap_or_default());
        let made = match self.kind.as_str() {
            "data_key_wrap" => {
                let key = DataKey::generate(&Scripted::new(&output)).expect("32 bytes");
                wrap_data_key(&self.vault_key(), &self.data_key_place(), &key, &random)
            }
            "cloud_kek_wrap" => {
                let kek = CloudKek::generate(&Scripted::new(&output)).expect("32 bytes");
                wrap_cloud_kek(&self.instance_keys(), &self.cloud_place(), &kek, &random)
            }
            "log_key" => {
                let key = LogKey::generate(&Scripted::new(&output)).expect("32 bytes");
                seal_log_key(&self.instance_keys(), &key, &random)
            }
            "vault_key_wrap" => {
                let key = VaultKey::generate(&Scripted::new(&output[output.len() - 32..])).expect("32 bytes");
                let record = wrap_record(&cases::vault_key_place(), &key);
                wrap_record_under_cloud_kek(&self.cloud_kek(), &self.cloud_place(), &record, &random)
            }
            "wrap_record" => {
                let key = VaultKey::generate(&Scripted::new(&output)).expect("32 bytes");
                Ok(wrap_record(&self.vault_key_place(), &key).to_vec())
            }
            kind if kind.starts_with("mac_") => Ok(self.make_mac().to_bytes().to_vec()),
            _ => match self.content() {
                Content::Item(key, context) => seal(&key, &context, &output, &random),
                Content::Instance(keys, context) => seal(&keys, &context, &output, &random),
            },
        };
        made.expect("the salt is 24 bytes")
    }

    fn salt(&self) -> &'static [u8] {
        &cases::SALT
    }

    fn content(&self) -> Content {
        let place = || ItemPlace {
            workspace: self.id("workspace"),
            vault: self.id("vault"),
            item: self.id("item"),
            data_key: self.id("data_key"),
            revision: self.number("revision"),
        };
        let item =
            |context| Content::Item(DataKey::generate(&Scripted::new(&unhex(&self.key))).expect("32 bytes"), context);
        let instance = |context| Content::Instance(self.instance_keys(), context);
        match self.kind.as_str() {
            "overview" => item(Context::Overview(place())),
            "details" => item(Context::Details(place())),
            "attachment" => item(Context::Attachment { place: place(), attachment: self.id("attachment") }),
            "provider_credential" => instance(InstanceContext::ProviderCredential {
                workspace: self.id("workspace"),
                provider: self.id("provider"),
                credential: self.id("credential"),
            }),
            "member_credential" => instance(InstanceContext::MemberCredential {
                workspace: self.id("workspace"),
                member: self.id("member"),
            }),
            "notice_credential" => instance(InstanceContext::NoticeCredential {
                workspace: (!self.place["workspace"].is_null()).then(|| self.id("workspace")),
                channel: self.id("channel"),
            }),
            "backup" => instance(InstanceContext::Backup { backup: self.id("backup"), part: self.number("part") }),
            other => panic!("no such kind: {other}"),
        }
    }

    fn verify_mac(&self, mac: &Mac) -> Result<(), MacError> {
        let keys = self.instance_keys();
        let (algorithm, kid, wrap) = (self.text("algorithm"), self.text("kid"), self.bytes("wrap"));
        let values = self.named_values();
        let fields = fields_of(&values);
        match self.kind.as_str() {
            "mac_wrap_row" => verify_wrap_row(&keys, &self.wrap_row(&algorithm, &kid, &wrap), mac),
            "mac_vault_policy" => verify_vault_policy(&keys, &self.policy_row(&fields), mac),
            "mac_provider" => verify_provider_row(&keys, &self.provider_row(&fields), mac),
            "mac_job" => verify_job_row(&keys, &self.job_row(&fields), mac),
            "mac_audit" => verify_audit(&keys, &self.event_hash(), mac),
            token => {
                let all = token_macs_all_keys(&keys, token_kind(token), &self.bytes("token"));
                let found = all.iter().any(|candidate| candidate.to_bytes() == mac.to_bytes());
                if found { Ok(()) } else { Err(MacError::Mismatch) }
            }
        }
    }

    fn make_mac(&self) -> Mac {
        let keys = self.instance_keys();
        let (algorithm, kid, wrap) = (self.text("algorithm"), self.text("kid"), self.bytes("wrap"));
        let values = self.named_values();
        let fields = fields_of(&values);
        match self.kind.as_str() {
            "mac_wrap_row" => mac_wrap_row(&keys, &self.wrap_row(&algorithm, &kid, &wrap)),
            "mac_vault_policy" => mac_vault_policy(&keys, &self.policy_row(&fields)),
            "mac_provider" => mac_provider_row(&keys, &self.provider_row(&fields)),
            "mac_job" => mac_job_row(&keys, &self.job_row(&fields)),
            "mac_audit" => audit_mac(&keys, &self.event_hash()),
            token => token_mac(&keys, token_kind(token), &self.bytes("token")),
        }
    }

    fn wrap_row<'a>(&self, algorithm: &'a str, kid: &'a str, wrap: &'a [u8]) -> WrapRow<'a> {
        WrapRow {
            workspace: self.id("workspace"),
            vault: self.id("vault"),
            generation: self.generation(),
            provider: self.id("provider"),
            algorithm,
            kid,
            wrap,
        }
    }

    fn policy_row<'a>(&self, fields: &'a [Field<'a>]) -> VaultPolicyRow<'a> {
        VaultPolicyRow { workspace: self.id("workspace"), vault: self.id("vault"), fields }
    }

    fn provider_row<'a>(&self, fields: &'a [Field<'a>]) -> ProviderRow<'a> {
        ProviderRow { workspace: self.id("workspace"), provider: self.id("provider"), fields }
    }

    fn job_row<'a>(&self, fields: &'a [Field<'a>]) -> JobRow<'a> {
        JobRow { workspace: self.id("workspace"), job: self.id("job"), fields }
    }

    fn data_key_place(&self) -> DataKeyPlace {
        DataKeyPlace {
            workspace: self.id("workspace"),
            vault: self.id("vault"),
            generation: self.generation(),
            item: self.id("item"),
            data_key: self.id("data_key"),
        }
    }

    fn vault_key_place(&self) -> VaultKeyPlace {
        VaultKeyPlace { workspace: self.id("workspace"), vault: self.id("vault"), generation: self.generation() }
    }

    fn cloud_place(&self) -> CloudKekPlace {
        CloudKekPlace { workspace: self.id("workspace"), provider: self.id("provider"), kek: self.id("kek") }
    }

    fn vault_key(&self) -> VaultKey {
        VaultKey::generate(&Scripted::new(&unhex(&self.key))).expect("32 bytes")
    }

    fn cloud_kek(&self) -> CloudKek {
        CloudKek::generate(&Scripted::new(&unhex(&self.key))).expect("32 bytes")
    }

    fn instance_keys(&self) -> InstanceKeys {
        let key = InstanceKey::generate(&Scripted::new(&unhex(&self.key))).expect("32 bytes");
        InstanceKeys::new(key, Vec::new())
    }

    fn event_hash(&self) -> [u8; 32] {
        digest(&self.bytes("event"))
    }

    /// The members of `fields`, a list of `[name, hex or null]`.
    fn named_values(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let fields = self.place.get("fields").cloned().unwrap_or(Value::Array(Vec::new()));
        let fields: Vec<(String, Option<String>)> = serde_json::from_value(fields).expect("pairs");
        fields.into_iter().map(|(name, value)| (name, value.as_deref().map(unhex))).collect()
    }

    fn id(&self, name: &str) -> [u8; 16] {
        self.bytes(name).try_into().unwrap_or_else(|_| panic!("{name} is not an id in: {}", self.about))
    }

    fn generation(&self) -> u32 {
        self.number("generation").try_into().expect("32 bits")
    }

    fn number(&self, name: &str) -> u64 {
        self.place[name].as_u64().expect("a number")
    }

    fn text(&self, name: &str) -> String {
        self.place.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        unhex(&self.text(name))
    }
}

fn fields_of(values: &[(String, Option<Vec<u8>>)]) -> Vec<Field<'_>> {
    values.iter().map(|(name, value)| Field { name, value: value.as_deref() }).collect()
}

fn token_kind(kind: &str) -> TokenKind {
    match kind {
        "mac_session" => TokenKind::Session,
        "mac_api_token" => TokenKind::ApiToken,
        "mac_link" => TokenKind::Link,
        "mac_recovery_code" => TokenKind::RecoveryCode,
        other => panic!("no such kind: {other}"),
    }
}

/// `UnknownFormat(2)` is the fault `UnknownFormat`.
fn name(fault: impl std::fmt::Debug) -> String {
    format!("{fault:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).expect("vectors are in hex")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn vector_files() -> BTreeMap<PathBuf, String> {
    [root(), root().join("hostile")]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("the folder is there"))
        .map(|entry| entry.expect("the folder is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.clone(), std::fs::read_to_string(path).expect("the file is readable")))
        .collect()
}
