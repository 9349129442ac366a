//! Accounts alone: what is charged to users and given back, with nobody connected.

use super::*;

fn limits() -> Limits {
    Limits { connections: 2, streams: 3, slots: 10, ring_bytes: 100 }
}

fn refused(whose: Whose, what: Resource, asked: u64, left: u64, limit: u64) -> Refusal {
    Refusal::Quota { whose, what, asked, left, limit }
}

#[test]
fn a_users_charges_add_up_over_its_connections_and_come_back() {
    let accounts = Accounts::new(limits(), 10, 1000, []);
    let (one, same) = (accounts.of(7), accounts.of(7));
    for (what, limit) in [
        (Resource::Connections, 2),
        (Resource::Streams, 3),
        (Resource::Slots, 10),
        (Resource::RingBytes, 100),
    ] {
        let first = one.charge(what, limit - 1).unwrap();
        let refusal = same.charge(what, 2).unwrap_err();
        assert_eq!(refusal, refused(Whose::User, what, 2, 1, limit));
        // Another user has all of its own.
        let other = accounts.of(8).charge(what, limit).unwrap();
        let second = same.charge(what, 1).unwrap();
        drop((first, second, other));
        drop(one.charge(what, limit).unwrap());
    }
    assert_eq!(accounts.ring_bytes(), 0);
}

#[test]
fn all_users_together_have_a_limit_too() {
    let accounts = Accounts::new(limits(), 3, 150, []);
    let first = accounts.of(1).charge(Resource::RingBytes, 100).unwrap();
    let refusal = accounts.of(2).charge(Resource::RingBytes, 51).unwrap_err();
    assert_eq!(refusal, refused(Whose::Daemon, Resource::RingBytes, 51, 50, 150));
    // What was refused is charged to nobody.
    drop(first);
    drop(accounts.of(2).charge(Resource::RingBytes, 100).unwrap());
    let connections = [1, 1, 2].map(|uid| accounts.of(uid).charge(Resource::Connections, 1));
    let refusal = accounts.of(2).charge(Resource::Connections, 1).unwrap_err();
    assert_eq!(refusal, refused(Whose::Daemon, Resource::Connections, 1, 0, 3));
    drop(connections);
}

#[test]
fn memory_of_a_device_is_shared_by_users() {
    let accounts = Accounts::new(limits(), 10, 1000, [0, 400]);
    let (one, other) = (accounts.of(1), accounts.of(2));
    // No user gets all of it, though it comes back.
    assert!(one.charge_device(1, 301).is_none());
    drop(one.charge_device(1, 300).unwrap());
    let most = one.charge_device(1, 300).unwrap();
    assert!(one.charge_device(1, 1).is_none());
    assert!(other.charge_device(1, 101).is_none());
    let rest = other.charge_device(1, 100).unwrap();
    drop(most);
    assert!(other.charge_device(1, 201).is_none());
    drop((rest, other.charge_device(1, 200).unwrap()));
    assert_eq!(accounts.devices[1].taken(), 0);
    // One that has none, and one that there is not.
    assert!(one.charge_device(0, 1).is_none() && one.charge_device(2, 0).is_none());
}

#[test]
fn an_account_lives_as_long_as_what_was_taken_from_it() {
    let accounts = Accounts::new(limits(), 10, 1000, []);
    let charge = accounts.of(1).charge(Resource::Slots, 10).unwrap();
    assert!(accounts.of(1).charge(Resource::Slots, 1).is_err());
    drop(charge);
    drop(accounts.of(2));
    assert_eq!(accounts.users().known.len(), 1);
}

#[test]
fn limits_may_change_under_those_who_hold_something() {
    let accounts = Accounts::new(limits(), 10, 1000, []);
    let account = accounts.of(1);
    let charge = account.charge(Resource::Slots, 8).unwrap();
    accounts.set_limits(Limits { slots: 5, ..limits() }, 1000);
    let refusal = account.charge(Resource::Slots, 1).unwrap_err();
    assert_eq!(refusal, refused(Whose::User, Resource::Slots, 1, 0, 5));
    assert!(accounts.of(2).charge(Resource::Slots, 6).is_err());
    drop(charge);
    assert!(account.charge(Resource::Slots, 5).is_ok());
}

#[test]
fn more_than_the_machine_has_is_refused_whatever_the_limits() {
    let each = Limits { ring_bytes: u64::MAX, ..limits() };
    let accounts = Accounts::new(each, 10, u64::MAX, []);
    for asked in [1 << 60, u64::MAX] {
        let refusal = accounts.of(1).charge(Resource::RingBytes, asked).unwrap_err();
        assert!(matches!(refusal, Refusal::Quota { whose: Whose::Machine, .. }));
    }
    assert_eq!(accounts.ring_bytes(), 0);
}

#[test]
fn memory_is_on_its_way_until_it_is_allocated() {
    let accounts = Accounts::new(limits(), 10, 1000, []);
    let on_the_way = || *accounts.machine.on_the_way();
    let mut charge = accounts.of(1).charge(Resource::RingBytes, 50).unwrap();
    assert_eq!(on_the_way(), 50);
    charge.allocated();
    assert_eq!(on_the_way(), 0);
    drop(accounts.of(1).charge(Resource::RingBytes, 50).unwrap());
    assert_eq!(on_the_way(), 0);
    // What a limit refuses is not on its way either.
    assert!(accounts.of(1).charge(Resource::RingBytes, 51).is_err());
    assert_eq!(on_the_way(), 0);
}

#[test]
fn one_user_has_half_of_the_turns_at_the_most() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let accounts = Accounts::new(limits(), 10, 1000, []);
        let (one, other) = (accounts.of(1), accounts.of(2));
        let mut held = Vec::new();
        for _ in 0..TURNS {
            held.push(one.turn().await);
        }
        tokio::select! {
            biased;
            _ = one.turn() => panic!("one more than half"),
            turn = other.turn() => drop(turn),
        }
        held.pop();
        drop(accounts.of(1).turn().await);
    });
}

#[test]
fn who_was_lent_users_is_one() {
    let accounts = Accounts::new(limits(), 10, 1000, []);
    accounts.set_owners(Owners::of_lines("1000:100000:65536"));
    let [own, first, last] = [1000, 100_000, 165_535].map(|uid| accounts.of(uid));
    assert!(Arc::ptr_eq(&own, &first) && Arc::ptr_eq(&own, &last));
    // The fair queue takes it for one as well.
    assert_eq!(first.uid(), 1000);
    let charge = first.charge(Resource::Slots, 8).unwrap();
    let refusal = last.charge(Resource::Slots, 3).unwrap_err();
    assert_eq!(refusal, refused(Whose::User, Resource::Slots, 3, 2, 10));
    let other = accounts.of(165_536);
    assert!(!Arc::ptr_eq(&own, &other) && other.uid() == 165_536);
    // Those who come after it was said otherwise.
    accounts.set_owners(Owners::default());
    assert!(!Arc::ptr_eq(&own, &accounts.of(100_000)));
    drop((charge, other));
}

#[test]
fn a_place_is_charged_with_what_is_held_for_it_and_is_its_own_users() {
    let each = Limits { ring_bytes: 2 * UNREAD, connections: 10, ..limits() };
    let accounts = Accounts::new(each, 10, 3 * UNREAD, []);
    accounts.set_owners(Owners::of_lines("7:100:10"));
    let places = [7, 105].map(|uid| accounts.admit(uid, false).unwrap());
    assert_eq!(places.each_ref().map(Place::uid), [7, 105]);
    assert!(Arc::ptr_eq(places[0].account(), places[1].account()));
    let refusal = accounts.admit(7, false).unwrap_err();
    let bytes = Resource::RingBytes;
    assert_eq!(refusal, refused(Whose::User, bytes, UNREAD, 0, 2 * UNREAD));
    // It is no ring.
    assert_eq!(accounts.ring_bytes(), 0);
    let ring = accounts.of(8).charge(bytes, UNREAD).unwrap();
    assert_eq!(accounts.ring_bytes(), UNREAD);
    let refusal = accounts.admit(8, false).unwrap_err();
    assert_eq!(refusal, refused(Whose::Daemon, bytes, UNREAD, 0, 3 * UNREAD));
    drop((places, ring));
    assert_eq!((accounts.ring_bytes.taken(), accounts.connections.taken()), (0, 0));
}

#[test]
fn all_users_together_have_so_many_streams() {
    let accounts = Accounts::new(Limits { streams: 10, ..limits() }, 10, 1000, []);
    accounts.set_streams(10);
    let all = accounts.of(1).charge(Resource::Streams, 10).unwrap();
    let refusal = accounts.of(2).charge(Resource::Streams, 1).unwrap_err();
    assert_eq!(refusal, refused(Whose::Daemon, Resource::Streams, 1, 0, 10));
    drop(all);
    drop(accounts.of(2).charge(Resource::Streams, 10).unwrap());
}

#[test]
fn who_sees_all_is_let_in_where_others_have_all_memory_but_only_a_few_are() {
    let each = Limits { ring_bytes: u64::MAX, connections: 10, ..limits() };
    let accounts = Accounts::new(each, 10, 2 * UNREAD, []);
    let (bytes, spent) = (Resource::RingBytes, 2 * UNREAD - 1);
    let ring = accounts.of(8).charge(bytes, spent).unwrap();
    let refusal = refused(Whose::Daemon, bytes, UNREAD, 1, 2 * UNREAD);
    assert_eq!(accounts.admit(0, false).unwrap_err(), refusal);
    let mut places: Vec<_> = (0..OVERSEERS).map(|_| accounts.admit(0, true).unwrap()).collect();
    assert_eq!(accounts.admit(0, true).unwrap_err(), refusal);
    assert_eq!(accounts.ring_bytes(), spent);
    places.pop();
    places.push(accounts.admit(0, true).unwrap());
    drop((places, ring));
    // Charged as ever where there is memory.
    let place = accounts.admit(0, true).unwrap();
    assert_eq!((accounts.ring_bytes.taken(), accounts.overseers.taken()), (UNREAD, 0));
    drop(place);
    assert_eq!((accounts.ring_bytes.taken(), accounts.connections.taken()), (0, 0));
}

#[test]
fn of_two_who_read_whose_users_are_whose_the_last_to_begin_has_the_last_word() {
    let accounts = Accounts::new(limits(), 10, 1000, []);
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (set, is_set) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let accounts = &accounts;
        scope.spawn(move || {
            accounts.read_owners(|| {
                begun.send(()).unwrap();
                // Slow: whatever the other one does meanwhile is done.
                let _ = is_set.recv_timeout(std::time::Duration::from_millis(200));
                Owners::of_lines("1000:100000:65536")
            });
        });
        has_begun.recv().unwrap();
        accounts.read_owners(|| Owners::of_lines("2000:100000:65536"));
        let _ = set.send(());
    });
    assert_eq!(accounts.of(100_000).uid(), 2000);
}
