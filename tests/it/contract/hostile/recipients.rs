//! Hostile calls about who must not be written to, who is erased, and circuits.

use campaign_automation::proto::campaign::v1 as pb;
use pb::list_suppressions_request::Recipient as Listed;
use pb::suppress_recipient_request::Recipient;
use tonic::Code;

use super::{Case, Told, case, fields};

/// Texts that are no reason.
fn bad_reasons() -> Vec<String> {
    let blank = ["", "  ", "\u{a0}"];
    let forbidden = ["a\nb", "a\0b", "a\u{7f}", "a\u{85}b", "a\u{2028}b", "a\u{202e}b"];
    let lines = blank.into_iter().chain(forbidden).map(str::to_owned);
    lines.chain([501, 100_000].map(|count| "x".repeat(count))).collect()
}

/// Texts that are no id of a request.
fn bad_ids() -> Vec<String> {
    let bad = ["a b", " ", "\0", "a\n", "é"].map(str::to_owned);
    bad.into_iter().chain(["x".repeat(65)]).collect()
}

/// Numbers of channels by which nobody is written to at an address.
const NO_ADDRESS: [i32; 7] = [0, 4, 5, 6, -1, i32::MIN, i32::MAX];

/// Texts that are no mail address, and no phone number either.
fn bad_addresses() -> Vec<String> {
    let bad = [
        "",
        "anna",
        "anna@",
        "anna@localhost",
        "a b@example.com",
        "4155552671",
        "+0155",
        "+1 415",
    ];
    let hostile = [
        "anna@example.com\r\nBcc: b@example.com",
        "anna@example.com\0",
        "+14155552671\n",
        "ä@example.com",
    ];
    let bad = bad.into_iter().chain(hostile).map(str::to_owned);
    bad.chain(["x".repeat(250) + "@example.com"]).collect()
}

/// Ids that no customer has.
const BAD_CUSTOMERS: [&str; 6] = ["", ".", "..", "a b", "a\0", "a\u{202e}"];

fn suppress(what: impl Into<String>, told: Told, change: impl FnOnce(&mut pb::SuppressRecipientRequest)) -> Case {
    let mut request = pb::SuppressRecipientRequest {
        channel: pb::Channel::Email.into(),
        recipient: Some(Recipient::CustomerId("anna".to_owned())),
        ..Default::default()
    };
    change(&mut request);
    case(what, "SuppressRecipient", &request, told)
}

fn list(what: impl Into<String>, told: Told, change: impl FnOnce(&mut pb::ListSuppressionsRequest)) -> Case {
    let mut request = pb::ListSuppressionsRequest::default();
    change(&mut request);
    case(what, "ListSuppressions", &request, told)
}

fn lift(what: impl Into<String>, told: Told, change: impl FnOnce(&mut pb::LiftSuppressionRequest)) -> Case {
    let mut request = pb::LiftSuppressionRequest {
        suppression_id: 1,
        reason: "why".to_owned(),
        ..Default::default()
    };
    change(&mut request);
    case(what, "LiftSuppression", &request, told)
}

pub(super) fn suppressions() -> Vec<Case> {
    let not_found = |reason| Told::Error(Code::NotFound, reason);
    let mut cases = vec![
        suppress("nothing at all", fields(&["channel", "recipient"]), |it| {
            *it = pb::SuppressRecipientRequest::default();
        }),
        suppress(
            "all of it wrong",
            fields(&["channel", "customer_id", "scope", "reason", "detail", "request_id"]),
            |it| {
                it.channel = 99;
                it.recipient = Some(Recipient::CustomerId("a b".to_owned()));
                it.scope = 99;
                it.reason = 99;
                it.detail = "a\nb".to_owned();
                it.request_id = "a b".to_owned();
            },
        ),
        suppress(
            "an address that is none, and all else",
            fields(&["address", "scope", "reason", "detail"]),
            |it| {
                it.recipient = Some(Recipient::Address("+14155552671".to_owned()));
                it.scope = -1;
                it.reason = -1;
                it.detail = "x".repeat(501);
            },
        ),
        suppress("nobody", not_found("CUSTOMER_NOT_FOUND"), |it| {
            it.recipient = Some(Recipient::CustomerId("nobody".to_owned()));
        }),
        suppress(
            "somebody without an address",
            Told::Error(Code::FailedPrecondition, "ADDRESS_MISSING"),
            |it| it.recipient = Some(Recipient::CustomerId("carl".to_owned())),
        ),
        suppress("a mail address for SMS", fields(&["address"]), |it| {
            it.channel = pb::Channel::Sms.into();
            it.recipient = Some(Recipient::Address("anna@example.com".to_owned()));
        }),
        lift("nothing at all", fields(&["suppression_id", "reason"]), |it| {
            *it = pb::LiftSuppressionRequest::default();
        }),
        lift(
            "all of it wrong",
            fields(&["suppression_id", "reason", "request_id"]),
            |it| {
                it.suppression_id = i64::MIN;
                it.reason = "\0".to_owned();
                it.request_id = "\0".to_owned();
            },
        ),
        lift("what never was", not_found("SUPPRESSION_NOT_FOUND"), |it| {
            it.suppression_id = i64::MAX;
        }),
        list(
            "all of it wrong",
            fields(&["channel", "customer_id", "page_size", "page_token"]),
            |it| {
                it.channel = 99;
                it.recipient = Some(Listed::CustomerId("a b".to_owned()));
                it.page_size = i32::MIN;
                it.page_token = "\0".to_owned();
            },
        ),
        list("no address, on no channel", fields(&["channel", "address"]), |it| {
            it.channel = pb::Channel::Wait.into();
            it.recipient = Some(Listed::Address("anna".to_owned()));
        }),
        list("nobody", not_found("CUSTOMER_NOT_FOUND"), |it| {
            it.recipient = Some(Listed::CustomerId("nobody".to_owned()));
        }),
    ];
    for channel in NO_ADDRESS {
        cases.push(suppress("a channel without addresses", fields(&["channel"]), |it| {
            it.channel = channel;
        }));
        if channel != 0 {
            cases.push(list("a channel without addresses", fields(&["channel"]), |it| {
                it.channel = channel;
            }));
        }
    }
    for id in BAD_CUSTOMERS {
        cases.push(suppress(id, fields(&["customer_id"]), |it| {
            it.recipient = Some(Recipient::CustomerId(id.to_owned()));
        }));
        cases.push(list(id, fields(&["customer_id"]), |it| {
            it.recipient = Some(Listed::CustomerId(id.to_owned()));
        }));
    }
    for address in bad_addresses() {
        for channel in [pb::Channel::Email, pb::Channel::Sms, pb::Channel::Phone] {
            cases.push(suppress(&address, fields(&["address"]), |it| {
                it.channel = channel.into();
                it.recipient = Some(Recipient::Address(address.clone()));
            }));
        }
        cases.push(list(&address, fields(&["address"]), |it| {
            it.recipient = Some(Listed::Address(address.clone()));
        }));
    }
    for number in [3, -1, i32::MIN, i32::MAX] {
        cases.push(suppress("an unknown scope", fields(&["scope"]), |it| it.scope = number));
    }
    for number in [9, -1, i32::MIN, i32::MAX] {
        cases.push(suppress("an unknown reason", fields(&["reason"]), |it| {
            it.reason = number;
        }));
    }
    for reason in bad_reasons() {
        // A detail may be left out.
        if !reason.trim().is_empty() {
            cases.push(suppress(&reason, fields(&["detail"]), |it| it.detail = reason.clone()));
        }
        cases.push(lift(&reason, fields(&["reason"]), |it| it.reason = reason.clone()));
    }
    for id in bad_ids() {
        cases.push(suppress(&id, fields(&["request_id"]), |it| it.request_id = id.clone()));
        cases.push(lift(&id, fields(&["request_id"]), |it| it.request_id = id.clone()));
    }
    for id in [0, -1, i64::MIN] {
        cases.push(lift("no id", fields(&["suppression_id"]), |it| it.suppression_id = id));
    }
    cases
}

fn erase(what: impl Into<String>, told: Told, change: impl FnOnce(&mut pb::EraseCustomerRequest)) -> Case {
    let mut request = pb::EraseCustomerRequest {
        customer_id: "anna".to_owned(),
        reason: "request 17".to_owned(),
        ..Default::default()
    };
    change(&mut request);
    case(what, "EraseCustomer", &request, told)
}

pub(super) fn erasures() -> Vec<Case> {
    let mut cases = vec![
        erase("nothing at all", fields(&["customer_id", "reason"]), |it| {
            *it = pb::EraseCustomerRequest::default();
        }),
        erase(
            "all of it wrong",
            fields(&["customer_id", "reason", "request_id"]),
            |it| {
                it.customer_id = "x".repeat(65);
                it.reason = "\u{202e}".to_owned();
                it.request_id = "x".repeat(65);
            },
        ),
        erase("nobody", Told::Error(Code::NotFound, "CUSTOMER_NOT_FOUND"), |it| {
            it.customer_id = "nobody".to_owned();
            it.without_suppression = true;
        }),
    ];
    for id in BAD_CUSTOMERS {
        cases.push(erase(id, fields(&["customer_id"]), |it| it.customer_id = id.to_owned()));
    }
    for reason in bad_reasons() {
        cases.push(erase(&reason, fields(&["reason"]), |it| it.reason = reason.clone()));
    }
    for id in bad_ids() {
        cases.push(erase(&id, fields(&["request_id"]), |it| it.request_id = id.clone()));
    }
    cases
}

fn reset(what: impl Into<String>, told: Told, change: impl FnOnce(&mut pb::ResetCircuitRequest)) -> Case {
    let mut request = pb::ResetCircuitRequest {
        channel: pb::Channel::Email.into(),
        reason: "a new password".to_owned(),
        ..Default::default()
    };
    change(&mut request);
    case(what, "ResetCircuit", &request, told)
}

pub(super) fn circuits() -> Vec<Case> {
    let mut cases = vec![
        reset("nothing at all", fields(&["channel", "reason"]), |it| {
            *it = pb::ResetCircuitRequest::default();
        }),
        reset("all of it wrong", fields(&["channel", "reason", "request_id"]), |it| {
            it.channel = i32::MIN;
            it.reason = "a\nb".to_owned();
            it.request_id = "a\nb".to_owned();
        }),
    ];
    for channel in [0, 4, 6, -1, i32::MIN, i32::MAX] {
        cases.push(reset("a channel that sends nothing", fields(&["channel"]), |it| {
            it.channel = channel;
        }));
    }
    for reason in bad_reasons() {
        cases.push(reset(&reason, fields(&["reason"]), |it| it.reason = reason.clone()));
    }
    for id in bad_ids() {
        cases.push(reset(&id, fields(&["request_id"]), |it| it.request_id = id.clone()));
    }
    cases
}
