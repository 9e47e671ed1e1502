//! What the crate promises, as sentences, through its public API only.

use strongroom_envelope::*;

fn place() -> ItemPlace {
    ItemPlace {
        workspace: [1; 16],
        vault: [2; 16],
        item: [3; 16],
        data_key: [4; 16],
        revision: 5,
    }
}

fn data_key() -> DataKey {
    DataKey::generate(&SystemRandom::new()).expect("the system has random bytes")
}

/// The fault of a call that must fail. `Plaintext` and keys have no `Debug`, so `unwrap_err` does not fit.
fn fault<T, E>(result: Result<T, E>) -> E {
    result.err().expect("this must not open")
}

#[test]
fn sealed_content_opens_in_its_place() {
    let key = data_key();
    let blob = seal(
        &key,
        &Context::Details(place()),
        b"hunter2",
        &SystemRandom::new(),
    )
    .unwrap();
    let opened = open(&key, &Context::Details(place()), &blob).unwrap();
    assert_eq!(&opened[..], b"hunter2");
    assert_eq!(blob.len(), 80 + 7);
}

#[test]
fn content_moved_to_another_slot_does_not_open() {
    let key = data_key();
    let blob = seal(
        &key,
        &Context::Details(place()),
        b"hunter2",
        &SystemRandom::new(),
    )
    .unwrap();
    let expected = OpenError::WrongKind {
        expected: Kind::Overview,
        found: Kind::Details,
    };
    assert_eq!(
        fault(open(&key, &Context::Overview(place()), &blob)),
        expected
    );
}
