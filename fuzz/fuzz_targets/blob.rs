//! Header, chunks and every other part of a sealed value: bytes of strangers never open, and a sealed value opens as it was
//! sealed, in its place, and no other way.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use strongroom_envelope::{
    Context, DataKey, InstanceContext, InstanceKey, InstanceKeys, ItemPlace, SystemRandom, VaultKeyPlace, commitment,
    open, read_wrap_record, seal,
};

static KEY: LazyLock<DataKey> = LazyLock::new(|| DataKey::generate(&SystemRandom::new()).expect("random"));
static KEYS: LazyLock<InstanceKeys> =
    LazyLock::new(|| InstanceKeys::new(InstanceKey::generate(&SystemRandom::new()).expect("random"), Vec::new()));

fuzz_target!(|data: &[u8]| {
    foreign(data);
    let [how, at, to, plaintext @ ..] = data else { return };
    let (context, wrong) = (Context::Details(place(1)), Context::Details(place(2)));
    // Some longer than a chunk of 16 KiB, and some exactly as long.
    let plaintext = match how % 4 {
        0 => plaintext.repeat(1 + usize::from(*at) * 8),
        1 => [plaintext, &vec![0; 16_384_usize.saturating_sub(plaintext.len())]].concat(),
        _ => plaintext.to_vec(),
    };
    let mut blob = seal(&*KEY, &context, &plaintext, &SystemRandom::new()).expect("it can be sealed");
    assert!(open(&*KEY, &context, &blob).is_ok_and(|opened| opened[..] == plaintext[..]));
    assert!(open(&*KEY, &wrong, &blob).is_err());
    let place = usize::from(*at) * 257 % blob.len();
    match how % 5 {
        0 => blob[place] ^= to.max(&1),
        1 => blob.truncate(place),
        2 => blob.extend_from_slice(&[*to, *at]),
        3 => {
            blob.remove(place);
        }
        _ => blob.insert(place, *to),
    }
    assert!(open(&*KEY, &context, &blob).is_err(), "a changed value opened");
    let _ = commitment(&blob);
});

/// Without the key nobody makes what opens.
fn foreign(data: &[u8]) {
    assert!(open(&*KEY, &Context::Details(place(1)), data).is_err());
    let credential = InstanceContext::ProviderCredential { workspace: [1; 16], provider: [2; 16], credential: [3; 16] };
    assert!(open(&*KEYS, &credential, data).is_err());
    let _ = commitment(data);
    // A record is no secret's proof: whoever has the key may write one. It must not be read as another place's.
    let place = VaultKeyPlace { workspace: [1; 16], vault: [2; 16], generation: 3 };
    let other = VaultKeyPlace { generation: 4, ..place };
    assert!(read_wrap_record(data, &place).is_err() || read_wrap_record(data, &other).is_err());
}

fn place(revision: u64) -> ItemPlace {
    ItemPlace { workspace: [1; 16], vault: [2; 16], item: [3; 16], data_key: [4; 16], revision }
}
