//! Chains: every event that was altered, removed, moved or planted is named.

use minicbor::Encoder;
use strongroom_envelope::{audit_mac, digest};

use super::*;
use crate::audit::{Entry, Place, bytes::encode};

#[tokio::test]
async fn an_untouched_log_is_sound_over_several_starts_and_pages() {
    let log = Log::new();
    log.views(1_101).await;
    let log = log.restarted();
    log.views(3).await;
    let report = log.report(false).await;
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.events, 1_104);
    let mut chains: Vec<_> = report.chains.iter().map(|chain| chain.events).collect();
    chains.sort_unstable();
    assert_eq!(chains, [3, 1_101]);
}

#[tokio::test]
async fn an_altered_event_is_named() {
    let log = Log::new();
    log.views(3).await;
    log.tamper(|tx| {
        let bytes: Vec<u8> = tx
            .first("SELECT bytes FROM audit_events WHERE sequence = 1", &[], |row| row.get(0))?
            .expect("it was written");
        // The count, the last byte of the last fact.
        let mut altered = bytes;
        *altered.last_mut().expect("an event has bytes") ^= 1;
        tx.execute("UPDATE audit_events SET bytes = $1 WHERE sequence = 1", &[Param::Bytes(&altered)])
    })
    .await;
    assert_eq!(log.faults().await, [(1, What::Forged)]);
}

#[tokio::test]
async fn removed_events_leave_a_gap_that_is_named() {
    let log = Log::new();
    log.views(1_200).await;
    log.tamper(|tx| tx.execute("DELETE FROM audit_events WHERE sequence IN (0, 499, 500, 501)", &[])).await;
    assert_eq!(log.faults().await, [(1, What::Gap { from: 0, to: 0 }), (502, What::Gap { from: 499, to: 501 })]);
}

#[tokio::test]
async fn reordered_events_are_named() {
    let log = Log::new();
    log.views(4).await;
    log.tamper(|tx| {
        tx.execute("UPDATE audit_events SET sequence = -1 WHERE sequence = 1", &[])?;
        tx.execute("UPDATE audit_events SET sequence = 1 WHERE sequence = 2", &[])?;
        tx.execute("UPDATE audit_events SET sequence = 2 WHERE sequence = -1", &[])
    })
    .await;
    let moved = || What::Columns { columns: vec!["sequence"] };
    assert_eq!(log.faults().await, [(1, moved()), (2, moved())]);
}

#[tokio::test]
async fn an_event_of_another_chain_is_named_where_it_was_put() {
    let log = Log::new();
    log.views(2).await;
    let first = log.report(false).await.chains[0].boot;
    let log = log.restarted();
    log.views(2).await;
    log.tamper(move |tx| {
        tx.execute(
            "UPDATE audit_events SET sequence = 2, boot = (SELECT boot FROM audit_events WHERE boot <> $1 LIMIT 1) \
             WHERE boot = $1 AND sequence = 1",
            &[first.0.into()],
        )
    })
    .await;
    assert_eq!(log.faults().await, [(2, What::Columns { columns: vec!["boot", "sequence"] })]);
}

#[tokio::test]
async fn a_whole_chain_under_another_instance_key_is_named_by_that_key() {
    let mut log = Log::new();
    log.views(2).await;
    let key = log.keys.current().id().to_string();
    log.keys = instance_keys();
    let unknown = || What::KeyNotLoaded { key: key.clone() };
    assert_eq!(log.faults().await, [(0, unknown()), (1, unknown())]);
}

#[tokio::test]
async fn a_planted_event_is_named() {
    let log = Log::new();
    log.views(2).await;
    let event = log.event("item.list", Target::Workspace(log.workspace), vec![("count", 9u64.into())]);
    let named = log.keys.current().id();
    log.tamper(move |tx| {
        let (node, boot, last): (Uuid, Uuid, Vec<u8>) = tx
            .first("SELECT node, boot, bytes FROM audit_events WHERE sequence = 1", &[], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .expect("it was written");
        let place = Place { node: NodeId(node), boot: BootId(boot), sequence: 2, previous: digest(&last) };
        let bytes = encode(&place, &event);
        // Everything fits but the key, which the planter does not have. He can name it, though.
        let mut mac = audit_mac(&instance_keys(), &digest(&bytes)).to_bytes();
        mac[..8].copy_from_slice(&named.0);
        tx.execute(
            "INSERT INTO audit_events (id, node, boot, sequence, workspace_id, actor_id, target_id, action, at, bytes, mac) \
             VALUES ($1, $2, $3, 2, $4, NULL, $4, 'item.list', $5, $6, $7)",
            &[
                event.id.0.into(),
                node.into(),
                boot.into(),
                event.workspace.map(|id| id.0).into(),
                event.at.into(),
                Param::Bytes(&bytes),
                Param::Bytes(&mac),
            ],
        )
    })
    .await;
    assert_eq!(log.faults().await, [(2, What::Forged)]);
}

#[tokio::test]
async fn columns_that_were_changed_are_named() {
    let log = Log::new();
    log.views(2).await;
    log.tamper(|tx| tx.execute("UPDATE audit_events SET action = 'item.view', at = 1 WHERE sequence = 0", &[])).await;
    assert_eq!(log.faults().await, [(0, What::Columns { columns: vec!["action", "at"] })]);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named_and_the_rest_is_still_verified() {
    let log = Log::new();
    log.views(3).await;
    log.tamper(|tx| {
        tx.execute("UPDATE audit_events SET mac = 'text' WHERE sequence = 0", &[])?;
        tx.execute("UPDATE audit_events SET action = 'item.view' WHERE sequence = 2", &[])
    })
    .await;
    let found: Vec<_> = log.faults().await.into_iter().map(|(_, what)| what).collect();
    let changed = What::Columns { columns: vec!["action"] };
    assert_eq!(found, [What::Unreadable, What::Gap { from: 0, to: 0 }, changed]);
}

#[test]
fn an_event_is_read_back_as_it_was_written() {
    let (place, event) = sample();
    let bytes = encode(&place, &event);
    let entry = Entry::decode(&bytes).expect("our own bytes");
    assert_eq!(entry.place, place);
    assert_eq!(entry.event.action, event.action);
    assert_eq!(entry.event.fact("overview"), event.fact("overview"));
    assert_eq!(encode(&entry.place, &entry.event), bytes);
}

#[test]
fn an_event_has_one_encoding() {
    let (place, event) = sample();
    let bytes = encode(&place, &event);
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Entry::decode(&longer).is_err(), "bytes after the end");
    for end in 0..bytes.len() {
        assert!(Entry::decode(&bytes[..end]).is_err(), "cut off at {end}");
    }
    // The array's head as two bytes: the same array to a lenient reader.
    let wide = [&[0x98, 14], &bytes[1..]].concat();
    assert!(Entry::decode(&wide).is_err(), "a head longer than needed");
    let another_format = [&[bytes[0], 2], &bytes[2..]].concat();
    assert!(Entry::decode(&another_format).is_err(), "an unknown format");
}

#[test]
fn facts_out_of_order_or_twice_are_refused() {
    let (place, event) = sample();
    let bytes = encode(&place, &Event { detail: Vec::new(), ..event });
    let with = |names: [&str; 2]| {
        let mut facts = Encoder::new(Vec::new());
        facts.map(2).expect("memory").str(names[0]).expect("memory").u8(1).expect("memory");
        facts.str(names[1]).expect("memory").u8(2).expect("memory");
        Entry::decode(&[&bytes[..bytes.len() - 1], &facts.into_writer()].concat())
    };
    assert!(with(["a", "b"]).is_ok());
    assert!(with(["z", "aa"]).is_ok(), "shorter names come first");
    assert!(with(["b", "a"]).is_err());
    assert!(with(["aa", "z"]).is_err());
    assert!(with(["a", "a"]).is_err());
}

#[test]
fn a_report_speaks_to_people_and_to_machines() {
    let mut report = Report { events: 2, ..Report::default() };
    let (boot, event) = (BootId(Uuid::from_u128(1)), EventId(Uuid::from_u128(2)));
    report.fault(ChainFault { boot, sequence: 7, event, what: What::Gap { from: 5, to: 6 } });
    let mut state = StateReport { rows: 1, ..StateReport::default() };
    state.fault("members", Uuid::from_u128(3), Wrong::Planted, "admin", "nothing");
    report.state = Some(state);
    assert!(!report.is_sound());
    insta::assert_snapshot!(report.to_string());
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).expect("a report serializes"));
}

fn sample() -> (Place, Event) {
    let id = Uuid::from_u128;
    let place = Place { node: NodeId(id(1)), boot: BootId(id(2)), sequence: 300, previous: [7; 32] };
    let event = Event {
        id: EventId(id(3)),
        at: Timestamp::from_millisecond(START).expect("in range"),
        workspace: Some(WorkspaceId(id(4))),
        actor: Actor::Session(MemberId(id(5)), SessionId(id(6))),
        action: "item.edit",
        target: Target::Item(ItemId(id(7))),
        detail: vec![
            ("vault", id(8).into()),
            ("revision", 2u64.into()),
            ("data_key", id(9).into()),
            ("overview", Fact::Bytes(vec![1; 32])),
            ("details", Fact::Bytes(vec![2; 32])),
        ],
    };
    (place, event)
}
