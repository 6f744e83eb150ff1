//! What is known of circuits while several claims, changes and reads are under way.

use super::*;

const POLICY: CircuitPolicy = CircuitPolicy {
    failures: 5,
    pause: chrono::Duration::minutes(5),
    cap: chrono::Duration::hours(1),
};

const MAIL: Channel = Channel::Email;

fn at(time: &str) -> Timestamp {
    format!("2026-03-02T{time}Z").parse().expect("an instant")
}

/// One that opened at noon, and is to be probed from five past.
fn open() -> Circuit {
    Circuit::new(MAIL).opened(CircuitCause::Failures, "it fails", &POLICY, at("12:00:00"))
}

fn circuits(known: Circuit) -> Circuits {
    let circuits = Circuits::new(POLICY);
    circuits.note(known);
    circuits
}

#[test]
fn when_a_probe_came_to_nothing_the_channel_is_no_freer_than_before() {
    let circuits = circuits(open());
    assert_eq!(circuits.enter(MAIL, at("12:05:00")), Entry::Probe);
    assert_eq!(circuits.enter(MAIL, at("12:05:00")), Entry::Wait);
    circuits.forget_probe(MAIL);
    assert_eq!(circuits.known().read_at, None, "it is to be read");
    assert_eq!(circuits.stopped_until(MAIL, at("12:05:00")), Some(at("12:05:00")));
    assert!(!circuits.judge(MAIL, ChannelHealth::Misconfigured), "it is open");
    assert_eq!(circuits.enter(MAIL, at("12:05:00")), Entry::Probe);
    assert_eq!(circuits.enter(MAIL, at("12:05:00")), Entry::Wait);
}

#[test]
fn a_probe_that_came_to_nothing_takes_no_other_with_it() {
    let circuits = circuits(open());
    assert_eq!(circuits.enter(MAIL, at("12:05:00")), Entry::Probe);
    let since = Instant::now().checked_sub(PATIENCE);
    circuits
        .known()
        .channels
        .entry(MAIL)
        .and_modify(|seen| seen.probing = since);
    // Another claim is faster.
    assert_eq!(circuits.enter(MAIL, at("12:05:02")), Entry::Probe);
    circuits.note(open().probing(at("12:06:00"), at("12:05:02")));
    circuits.forget_probe(MAIL);
    assert_eq!(circuits.enter(MAIL, at("12:05:02")), Entry::Wait);
    assert!(circuits.stopped(at("12:05:02")).is_empty(), "it is waited for");
}

#[test]
fn a_change_that_lost_is_gone_by_until_what_is_stored_is_read() {
    let stale = Instant::now()
        .checked_sub(Duration::from_millis(1))
        .expect("an instant");
    let circuits = circuits(open());
    let before = || circuits.enter(MAIL, at("12:04:00"));
    circuits.known().doubt(MAIL);
    assert_eq!(before(), Entry::Wait);
    // It began before, so it says nothing about what is stored now.
    circuits.known().read(Vec::new(), stale);
    assert_eq!((before(), circuits.known().read_at), (Entry::Wait, None));
    // Others had opened it and closed it, or it never was stored.
    circuits.known().read(Vec::new(), Instant::now());
    assert_eq!(before(), Entry::Free);
    assert!(circuits.known().read_at.is_some());

    // Somebody else's change of the same number counts.
    let won = Circuit::new(MAIL).opened(CircuitCause::Misconfigured, "bad login", &POLICY, at("11:00:00"));
    circuits.note(open());
    circuits.known().doubt(MAIL);
    circuits.known().read(vec![won.clone()], Instant::now());
    assert_eq!(circuits.not_closed(), [won]);
}
