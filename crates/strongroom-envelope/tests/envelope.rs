//! What the crate promises, as sentences, through its public API only.

use proptest::prelude::*;
use strongroom_envelope::*;

#[test]
fn sealed_content_opens_in_its_place() {
    let key = data_key();
    for context in [
        Context::Overview(place()),
        Context::Details(place()),
        Context::Attachment { place: place(), attachment: [6; 16] },
    ] {
        let blob = seal(&key, &context, b"hunter2", &system()).unwrap();
        assert_eq!(&open(&key, &context, &blob).ok().unwrap()[..], b"hunter2");
    }
}

#[test]
fn every_length_around_a_chunk_comes_back() {
    let (key, context) = (data_key(), Context::Details(place()));
    for len in [0, 1, 255, 256, 16_383, 16_384, 16_385, 32_768, 100_000] {
        let plaintext: Vec<u8> = (0..len).map(|i| (i % 253) as u8).collect();
        let blob = seal(&key, &context, &plaintext, &system()).unwrap();
        assert_eq!(blob.len(), 80 + len + 16 * (len / 16_384), "{len}");
        assert!(open(&key, &context, &blob).ok().unwrap()[..] == plaintext, "{len}");
    }
}

#[test]
fn moved_ciphertext_does_not_open() {
    let key = data_key();
    let blob = seal(&key, &Context::Details(place()), b"hunter2", &system()).unwrap();
    for elsewhere in [
        ItemPlace { workspace: [9; 16], ..place() },
        ItemPlace { vault: [9; 16], ..place() },
        ItemPlace { item: [9; 16], ..place() },
        ItemPlace { data_key: [9; 16], ..place() },
        ItemPlace { revision: 4, ..place() },
    ] {
        let refused = fault(open(&key, &Context::Details(elsewhere), &blob));
        assert_eq!(refused, OpenError::CommitmentMismatch);
    }
    let refused = fault(open(&key, &Context::Overview(place()), &blob));
    assert_eq!(refused, OpenError::WrongKind { expected: Kind::Overview, found: Kind::Details });
}

#[test]
fn no_single_bit_of_a_blob_can_change() {
    let (key, context) = (data_key(), Context::Details(place()));
    let blob = seal(&key, &context, b"hunter2", &system()).unwrap();
    for bit in 0..blob.len() * 8 {
        let mut changed = blob.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&key, &context, &changed).is_err(), "bit {bit}");
    }
}

#[test]
fn no_cut_of_a_blob_opens() {
    let (key, context) = (data_key(), Context::Details(place()));
    let blob = seal(&key, &context, &[7; 300], &system()).unwrap();
    for len in 0..blob.len() {
        assert!(open(&key, &context, &blob[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn another_data_key_does_not_open() {
    let blob = seal(&data_key(), &Context::Details(place()), b"hunter2", &system()).unwrap();
    let refused = fault(open(&data_key(), &Context::Details(place()), &blob));
    assert_eq!(refused, OpenError::CommitmentMismatch);
}

#[test]
fn two_seals_of_the_same_content_share_nothing_but_the_header() {
    let (key, context) = (data_key(), Context::Details(place()));
    let one = seal(&key, &context, &[0; 256], &system()).unwrap();
    let two = seal(&key, &context, &[0; 256], &system()).unwrap();
    let equal = one.iter().zip(&two).skip(8).filter(|(a, b)| a == b).count();
    assert!(equal < 16, "{equal} of 328 bytes are equal; chance gives one or two");
    assert_ne!(commitment(&one), commitment(&two));
}

#[test]
fn a_commitment_is_read_without_a_key() {
    let blob = seal(&data_key(), &Context::Details(place()), b"x", &system()).unwrap();
    let read = commitment(&blob).unwrap();
    assert_eq!(read.0, blob[32..64]);
    assert_eq!(read.to_string(), hex::encode(read.0));
    let keys = InstanceKeys::new(instance_key(), Vec::new());
    let under_instance = seal(&keys, &credential(), b"x", &system()).unwrap();
    assert_eq!(commitment(&under_instance).unwrap().0, under_instance[40..72]);
    assert_eq!(commitment(&blob[..63]), Err(OpenError::TooShort { found: 63 }));
    assert_eq!(commitment(b"something else"), Err(OpenError::BadMagic));
}

#[test]
fn nothing_is_sealed_when_the_random_source_fails() {
    struct Broken;
    impl Random for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), RandomFailed> {
            Err(RandomFailed)
        }
    }
    assert_eq!(seal(&data_key(), &Context::Details(place()), b"x", &Broken), Err(RandomFailed));
    assert_eq!(fault(VaultKey::generate(&Broken)), RandomFailed);
}

#[test]
fn a_wrapped_data_key_unwraps_in_its_place_only() {
    let (vault_key, key) = (vault_key(), data_key());
    let place = DataKeyPlace { workspace: [1; 16], vault: [2; 16], generation: 3, item: [4; 16], data_key: [5; 16] };
    let wrap = wrap_data_key(&vault_key, &place, &key, &system()).unwrap();
    assert_eq!(wrap.len(), 112);
    assert!(unwrap_data_key(&vault_key, &place, &wrap).unwrap().matches(&key));
    for elsewhere in [
        DataKeyPlace { workspace: [9; 16], ..place },
        DataKeyPlace { vault: [9; 16], ..place },
        DataKeyPlace { generation: 4, ..place },
        DataKeyPlace { item: [9; 16], ..place },
        DataKeyPlace { data_key: [9; 16], ..place },
    ] {
        assert_eq!(fault(unwrap_data_key(&vault_key, &elsewhere, &wrap)), OpenError::CommitmentMismatch);
    }
    assert_eq!(fault(unwrap_data_key(&self::vault_key(), &place, &wrap)), OpenError::CommitmentMismatch);
}

#[test]
fn a_record_gives_its_vault_key_in_its_place_only() {
    let key = vault_key();
    let record = wrap_record(&vault_key_place(), &key);
    assert_eq!(record.len(), WRAP_RECORD_LEN);
    assert!(read_wrap_record(&record, &vault_key_place()).unwrap().matches(&key));
    assert!(!read_wrap_record(&record, &vault_key_place()).unwrap().matches(&vault_key()));
    for (elsewhere, expected) in [
        (VaultKeyPlace { workspace: [9; 16], ..vault_key_place() }, RecordError::Workspace),
        (VaultKeyPlace { vault: [9; 16], ..vault_key_place() }, RecordError::Vault),
        (VaultKeyPlace { generation: 9, ..vault_key_place() }, RecordError::Generation),
    ] {
        assert_eq!(fault(read_wrap_record(&record, &elsewhere)), expected);
    }
}

#[test]
fn a_cloud_vault_opens_from_the_instance_key_down() {
    let keys = InstanceKeys::new(instance_key(), Vec::new());
    let place = CloudKekPlace { workspace: [1; 16], provider: [2; 16], kek: [3; 16] };
    let (kek, key) = (CloudKek::generate(&system()).unwrap(), vault_key());
    let wrapped_kek = wrap_cloud_kek(&keys, &place, &kek, &system()).unwrap();
    let record = wrap_record(&vault_key_place(), &key);
    let wrap = wrap_record_under_cloud_kek(&kek, &place, &record, &system()).unwrap();
    assert_eq!((wrapped_kek.len(), wrap.len()), (120, 153));

    let kek = unwrap_cloud_kek(&keys, &place, &wrapped_kek).unwrap();
    let record = unwrap_record_under_cloud_kek(&kek, &place, &wrap).ok().unwrap();
    assert!(read_wrap_record(&record, &vault_key_place()).unwrap().matches(&key));
    let elsewhere = CloudKekPlace { kek: [9; 16], ..place };
    assert_eq!(fault(unwrap_cloud_kek(&keys, &elsewhere, &wrapped_kek)), OpenError::CommitmentMismatch);
    assert_eq!(fault(unwrap_record_under_cloud_kek(&kek, &elsewhere, &wrap)), OpenError::CommitmentMismatch);
}

#[test]
fn after_an_instance_key_rotation_the_old_still_opens_and_the_new_seals() {
    let (old, new) = (instance_key(), instance_key());
    let (old_id, new_id) = (old.id(), new.id());
    let (old_file, new_file) = (old.to_key_file(), new.to_key_file());
    let before = InstanceKeys::new(old, Vec::new());
    let secret = seal(&before, &credential(), b"client secret", &system()).unwrap();
    let mac = mac_wrap_row(&before, &wrap_row());
    let token = token_mac(&before, TokenKind::Session, b"token");

    let both = InstanceKeys::parse_key_file(&format!("# new, then old\n{}\n{}", *new_file, *old_file)).unwrap();
    assert_eq!(both.current().id(), new_id);
    assert_eq!(both.iter().map(InstanceKey::id).collect::<Vec<_>>(), [new_id, old_id]);
    assert_eq!(&open(&both, &credential(), &secret).ok().unwrap()[..], b"client secret");
    assert_eq!(verify_wrap_row(&both, &wrap_row(), &mac), Ok(()));
    assert_eq!(mac_wrap_row(&both, &wrap_row()).instance_key(), new_id);
    let candidates = token_macs_all_keys(&both, TokenKind::Session, b"token");
    assert_eq!(candidates[1].to_bytes(), token.to_bytes());
    assert_eq!(candidates[0].instance_key(), new_id);

    let after = InstanceKeys::parse_key_file(&new_file).unwrap();
    assert_eq!(fault(open(&after, &credential(), &secret)), OpenError::UnknownInstanceKey(old_id));
    assert_eq!(verify_wrap_row(&after, &wrap_row(), &mac), Err(MacError::UnknownInstanceKey(old_id)));
}

#[test]
fn an_instance_key_comes_back_from_its_file() {
    let key = instance_key();
    let text = key.to_key_file();
    assert_eq!(InstanceKey::parse_key_file(&text).unwrap().to_key_file(), text);
    assert_eq!(InstanceKey::parse_key_file(&format!("  {}\r\n\n", text.trim())).unwrap().id(), key.id());
}

#[test]
fn a_key_given_twice_counts_once() {
    let text = instance_key().to_key_file();
    let keys = InstanceKeys::parse_key_file(&text.repeat(3)).unwrap();
    assert_eq!(keys.iter().count(), 1);
}

#[test]
fn a_mistyped_key_file_is_named_with_its_line() {
    let text = instance_key().to_key_file();
    let line = text.trim();
    let parse = |text: &str| fault(InstanceKey::parse_key_file(text));
    assert_eq!(parse(""), KeyFileError::Empty);
    assert_eq!(parse("# only a comment\n"), KeyFileError::Empty);
    assert_eq!(parse(&format!("\n{}", &line[1..])), KeyFileError::Prefix { line: 2 });
    assert_eq!(parse(&line[..87]), KeyFileError::Length { line: 1, found: 87 });
    assert_eq!(parse(&format!("{}x", &line[..87])), KeyFileError::Character { line: 1, column: 88 });
    assert_eq!(parse(&text.repeat(2)), KeyFileError::SecondKey { line: 2 });
    for column in (7..23).chain(24..88) {
        let other = if &line[column..=column] == "0" { "1" } else { "0" };
        let mistyped = format!("{}{other}{}", &line[..column], &line[column + 1..]);
        assert_eq!(parse(&mistyped), KeyFileError::Checksum { line: 1 }, "column {column}");
    }
}

#[test]
fn macs_of_one_kind_of_row_do_not_fit_another() {
    let keys = InstanceKeys::new(instance_key(), Vec::new());
    let policy = VaultPolicyRow { workspace: [1; 16], vault: [2; 16], fields: &[] };
    let provider = ProviderRow { workspace: [1; 16], provider: [2; 16], fields: &[] };
    let mac = mac_vault_policy(&keys, &policy);
    assert_eq!(verify_vault_policy(&keys, &policy, &mac), Ok(()));
    assert_eq!(verify_provider_row(&keys, &provider, &mac), Err(MacError::Mismatch));
}

#[test]
fn a_mac_comes_back_from_its_bytes() {
    let keys = InstanceKeys::new(instance_key(), Vec::new());
    let hash = digest(b"an event");
    let stored = audit_mac(&keys, &hash).to_bytes();
    let read = Mac::from_bytes(&stored).unwrap();
    assert_eq!(verify_audit(&keys, &hash, &read), Ok(()));
    assert_eq!(verify_audit(&keys, &digest(b"another"), &read), Err(MacError::Mismatch));
    for len in [0, 8, 39] {
        assert_eq!(fault(Mac::from_bytes(&stored[..len])), MacError::Length { found: len });
    }
}

#[test]
fn padding_hides_the_length_and_is_checked() {
    for (len, padded_len) in [(0, 256), (1, 256), (256, 256), (257, 512)] {
        let padded = pad_256(vec![7; len]);
        assert_eq!(padded.len(), padded_len);
        assert!(padded[..len].iter().all(|byte| *byte == 7));
        assert_eq!(check_padding(&padded[len..]), if len == 0 { Err(PaddingError) } else { Ok(()) });
    }
    assert_eq!(check_padding(&[0, 0, 1]), Err(PaddingError));
    assert_eq!(check_padding(&[0; 256]), Err(PaddingError));
    assert_eq!(check_padding(&[]), Ok(()));
}

#[test]
fn debug_prints_nothing_of_a_secret() {
    struct Pattern;
    impl Random for Pattern {
        fn fill(&self, out: &mut [u8]) -> Result<(), RandomFailed> {
            out.fill(0xa5);
            Ok(())
        }
    }
    let instance = InstanceKey::generate(&Pattern).unwrap();
    let id = instance.id();
    assert_eq!(format!("{:?}", VaultKey::generate(&Pattern).unwrap()), "VaultKey(..)");
    assert_eq!(format!("{:?}", DataKey::generate(&Pattern).unwrap()), "DataKey(..)");
    assert_eq!(format!("{:#?}", CloudKek::generate(&Pattern).unwrap()), "CloudKek(..)");
    assert_eq!(format!("{instance:?}"), format!("InstanceKey({id}, ..)"));
    let keys = format!("{:?}", InstanceKeys::new(instance, Vec::new()));
    assert!(!keys.contains("a5a5") && !keys.contains("165, 165"), "{keys}");
}

/// Fails to compile if the type has the trait: then both impls fit and the call is ambiguous.
macro_rules! assert_lacks {
    ($($type:ty: $($bound:path),+;)+) => {$($({
        trait Ambiguous<A> {
            fn lacks() {}
        }
        impl<T: ?Sized> Ambiguous<()> for T {}
        struct HasTrait;
        impl<T: ?Sized + $bound> Ambiguous<HasTrait> for T {}
        <$type as Ambiguous<_>>::lacks();
    })+)+};
}

#[test]
fn secrets_can_be_neither_cloned_nor_serialised_nor_printed() {
    use serde::Serialize;
    use std::fmt::{Debug, Display};
    assert_lacks! {
        VaultKey: Clone, Serialize, Display, AsRef<[u8]>;
        DataKey: Clone, Serialize, Display, AsRef<[u8]>;
        CloudKek: Clone, Serialize, Display, AsRef<[u8]>;
        InstanceKey: Clone, Serialize, Display, AsRef<[u8]>;
        InstanceKeys: Clone, Serialize, Display, AsRef<[u8]>;
        Plaintext: Clone, Serialize, Display, Debug;
        WrapRecord: Clone, Serialize, Display, Debug;
    }
}

#[test]
fn keys_that_wrap_seal_no_content() {
    assert_lacks! {
        VaultKey: ContentKey;
        CloudKek: ContentKey;
        InstanceKey: ContentKey;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_sealed_opens(
        plaintext in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..600),
            proptest::collection::vec(any::<u8>(), 16_000..50_000),
        ],
        place in any_place(),
    ) {
        let (key, context) = (data_key(), Context::Details(place));
        let blob = seal(&key, &context, &plaintext, &system()).unwrap();
        prop_assert!(open(&key, &context, &blob).ok().unwrap()[..] == plaintext);
    }

    #[test]
    fn two_places_share_no_blob(sealed_for in any_place(), opened_as in any_place()) {
        let key = data_key();
        let blob = seal(&key, &Context::Overview(sealed_for), b"title", &system()).unwrap();
        let opens = open(&key, &Context::Overview(opened_as), &blob).is_ok();
        prop_assert_eq!(opens, sealed_for == opened_as);
    }

    #[test]
    fn foreign_bytes_never_open_and_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        like_a_blob in any::<bool>(),
    ) {
        if like_a_blob && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(b"SRME\x01\x01\x02\x00");
        }
        let keys = InstanceKeys::new(instance_key(), Vec::new());
        prop_assert!(open(&data_key(), &Context::Details(place()), &bytes).is_err());
        prop_assert!(open(&keys, &credential(), &bytes).is_err());
        prop_assert!(read_wrap_record(&bytes, &vault_key_place()).is_err());
        let _ = commitment(&bytes);
    }

    #[test]
    fn foreign_text_is_no_key_file_and_never_panics(text in "(srmik1-)?[0-9a-fé -]{0,100}\n?") {
        prop_assert!(InstanceKeys::parse_key_file(&text).is_err());
    }

    #[test]
    fn fields_cannot_be_shifted_between_each_other(a in ".{0,8}", b in ".{0,8}", c in ".{0,8}", d in ".{0,8}") {
        let keys = InstanceKeys::new(instance_key(), Vec::new());
        let one = WrapRow { algorithm: &a, kid: &b, ..wrap_row() };
        let two = WrapRow { algorithm: &c, kid: &d, ..wrap_row() };
        let fits = verify_wrap_row(&keys, &two, &mac_wrap_row(&keys, &one)).is_ok();
        prop_assert_eq!(fits, a == c && b == d);
    }
}

fn system() -> SystemRandom {
    SystemRandom::new()
}

fn data_key() -> DataKey {
    DataKey::generate(&system()).expect("the system has random bytes")
}

fn vault_key() -> VaultKey {
    VaultKey::generate(&system()).expect("the system has random bytes")
}

fn instance_key() -> InstanceKey {
    InstanceKey::generate(&system()).expect("the system has random bytes")
}

fn place() -> ItemPlace {
    ItemPlace { workspace: [1; 16], vault: [2; 16], item: [3; 16], data_key: [4; 16], revision: 5 }
}

/// Few values a field, so that places are often equal or differ in one field only.
fn any_place() -> impl Strategy<Value = ItemPlace> {
    (0..2u8, 0..2u8, 0..2u8, 0..2u8, 0..2u64).prop_map(|(workspace, vault, item, data_key, revision)| ItemPlace {
        workspace: [workspace; 16],
        vault: [vault; 16],
        item: [item; 16],
        data_key: [data_key; 16],
        revision,
    })
}

fn vault_key_place() -> VaultKeyPlace {
    VaultKeyPlace { workspace: [1; 16], vault: [2; 16], generation: 3 }
}

fn credential() -> InstanceContext {
    InstanceContext::ProviderCredential { workspace: [1; 16], provider: [2; 16], credential: [3; 16] }
}

fn wrap_row() -> WrapRow<'static> {
    WrapRow {
        workspace: [1; 16],
        vault: [2; 16],
        generation: 3,
        provider: [4; 16],
        algorithm: "RSA-OAEP-256",
        kid: "https://contoso.vault.azure.net/keys/strongroom/0123456789abcdef0123456789abcdef",
        wrap: &[5; 512],
    }
}

/// The fault of a call that must fail; content and records have no `Debug`, as `unwrap_err` needs.
fn fault<T, E>(result: Result<T, E>) -> E {
    result.err().expect("this must fail")
}
