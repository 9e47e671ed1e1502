//! Ids of requests to Azure that only this instance can have made: whoever reads the customer's Key Vault log can tell
//! them from others, with the instance key and without any list.
//!
//! ```text
//! mac  = HMAC-SHA-256(subkey("mac/azure-request"), fields: key id(8), `azure-request`, random(8), target, node)
//! id   = UUIDv8 (RFC 9562, section 5.8): its 122 free bits are random(64) ‖ the first 58 bits of mac
//! ```

use crate::instance_key::{InstanceKey, InstanceKeys};
use crate::mac::request_mac;

/// What a request is made for.
#[derive(Debug, Clone, Copy)]
pub struct RequestPlace<'a> {
    /// Host and path in lower case, as in `contoso.vault.azure.net/keys/kek/0123…/unwrapkey`.
    pub target: &'a str,
    /// The node that sends it.
    pub node: [u8; 16],
}

/// The id of a request, under the current instance key. `random` is never used twice.
pub fn request_id(keys: &InstanceKeys, random: u64, place: &RequestPlace<'_>) -> [u8; 16] {
    id_of(keys.current(), random, place)
}

/// Whether a loaded instance key made this id for this place.
pub fn is_request_id(keys: &InstanceKeys, id: &[u8; 16], place: &RequestPlace<'_>) -> bool {
    request_random(id).is_some_and(|random| keys.iter().any(|key| id_of(key, random, place) == *id))
}

/// The random part of an id; None for what is no UUIDv8. It proves nothing.
pub fn request_random(id: &[u8; 16]) -> Option<u64> {
    let id = u128::from_be_bytes(*id);
    let marked = (id >> 76) & 0xf == VERSION && (id >> 62) & 0x3 == VARIANT;
    let free = ((id >> 80) << 74) | (((id >> 64) & 0xfff) << 62) | (id & LOW_62);
    marked.then(|| u64::try_from(free >> 58).expect("122 bits less 58 are 64"))
}

/// RFC 9562's field of that name: 8, for custom layouts.
const VERSION: u128 = 8;
const VARIANT: u128 = 0b10;
const LOW_62: u128 = (1 << 62) - 1;

fn id_of(key: &InstanceKey, random: u64, place: &RequestPlace<'_>) -> [u8; 16] {
    let mac = request_mac(key, random, place.target, &place.node);
    let first = u64::from_be_bytes(*mac.first_chunk().expect("a MAC has 32 bytes"));
    let free = (u128::from(random) << 58) | u128::from(first >> 6);
    let (a, b, c) = (free >> 74, (free >> 62) & 0xfff, free & LOW_62);
    ((a << 80) | (VERSION << 76) | (b << 64) | (VARIANT << 62) | c).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn an_id_is_this_instances_for_its_place_and_for_no_other() {
        let random = SystemRandom::new();
        let keys = || InstanceKeys::new(InstanceKey::generate(&random).expect("randomness"), Vec::new());
        let (ours, theirs) = (keys(), keys());
        let place = RequestPlace { target: "contoso.vault.azure.net/keys/kek/01/unwrapkey", node: [7; 16] };
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let id = request_id(&ours, number, &place);
            assert_eq!((id[6] >> 4, id[8] >> 6), (8, 0b10), "a UUIDv8");
            assert_eq!(request_random(&id), Some(number));
            assert!(is_request_id(&ours, &id, &place));
            assert!(!is_request_id(&theirs, &id, &place));
            assert!(!is_request_id(&ours, &id, &RequestPlace { node: [8; 16], ..place }));
            let other = RequestPlace { target: "contoso.vault.azure.net/keys/kek/02/unwrapkey", ..place };
            assert!(!is_request_id(&ours, &id, &other));
            for bit in 0..128 {
                let mut changed = id;
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(!is_request_id(&ours, &changed, &place), "bit {bit}");
            }
        }
        assert_eq!(request_random(&[0x44; 16]), None, "a UUIDv4");
    }
}
