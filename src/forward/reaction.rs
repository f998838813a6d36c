//! What to do after a hub's response: a table from what was sent and what came back to the next
//! step.
//!
//! Pure. What is decided here is whether a spoke loses samples, so each row has a test.

use http::StatusCode;

use crate::wire::{Counts, Kind, Protocol};

use super::outcome::Failed;
use super::response::HubResponse;

/// What was sent to a hub.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// The version of the message.
    pub protocol: Protocol,
    /// What the message carries.
    pub counts: Counts,
    /// The hub may be sent the message in the other version. It was not sent that yet, and the
    /// message has a form there.
    pub translatable: bool,
    /// It is the side message: V1, with what V2 has no form for.
    pub side: bool,
}

/// What is known of the hub.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// The newest protocol that it was found to speak.
    pub speaks: Option<Protocol>,
    /// It was probed for this response already.
    pub probed: bool,
    /// It may be sent further requests to find bad samples.
    pub salvages: bool,
}

/// The next step.
#[derive(Debug)]
pub(super) enum Reaction {
    /// The hub wrote this, and nothing is left of the message.
    Written(Counts),
    /// The spoke has to send the whole request again; it gets the 5xx that [`Failed`] holds.
    Fail(Failed),
    /// Find out whether the hub speaks V2, and react again.
    Probe,
    /// Send the message in the other version.
    Translate,
    /// Send the message in two halves. A message that cannot be halved, because it holds one sample
    /// or no further requests are left, is refused: the spoke gets 413 if that was the hub's status,
    /// and else 400. Without time for the halves the spoke gets 503, but not for ever.
    Halve,
    /// The hub refused samples of the message for good; the spoke gets 400, or 413.
    Refuse,
    /// The hub has a fault, or it has one for this message alone. See [`crate::suspects`].
    Inquire,
    /// The hub does not take the side message, whose samples are counted as unsupported.
    Drop,
}

/// Decides what to do after `response`.
pub(super) fn react(sent: &Sent, response: &HubResponse, known: Known) -> Reaction {
    let Sent {
        translatable, side, ..
    } = *sent;
    let written = response.written.map(|counts| counts.samples());
    if let Some(advice) = response.tls_advice() {
        return Reaction::Fail(Failed::tls(response, advice));
    }
    match (sent.protocol, response.status.as_u16()) {
        // Some receivers send zeros with a V1 success, which means success all the same.
        (Protocol::V1, 200..=299) => Reaction::Written(sent.counts),
        // Mimir accepts in this way what it has from another replica.
        (Protocol::V2, 202) if written.is_some() => Reaction::Written(written_of(sent, response)),
        (Protocol::V2, 200..=299) => match written {
            Some(written) if written >= sent.counts.samples() => {
                Reaction::Written(written_of(sent, response))
            }
            Some(1..) => Reaction::Refuse,
            // Nothing of it was understood (remote write 2.0, "Required Written Response Headers"),
            // though something on the way may have set the headers.
            Some(0) if translatable => Reaction::Translate,
            // What responds in this way for a hub that speaks V2 would seem to take V1 as well.
            None if translatable
                && response.took_nothing()
                && known.speaks != Some(Protocol::V2) =>
            {
                Reaction::Translate
            }
            Some(0) | None => Reaction::Fail(Failed::silent(response)),
        },
        // A hub that stored something of V2 would say so. This one may decode V2 as V1, or find the
        // whole too large.
        (Protocol::V2, 400 | 422) if written.is_none() && translatable => Reaction::Translate,
        (Protocol::V2, 400 | 422) if written.is_none() => Reaction::Halve,
        // V2 saves the good samples of a request, and V1 does not.
        (Protocol::V1, 400 | 422) if translatable && known.speaks == Some(Protocol::V2) => {
            Reaction::Translate
        }
        (Protocol::V1, 400 | 422) if translatable && known.speaks.is_none() && !known.probed => {
            Reaction::Probe
        }
        (Protocol::V1, 400 | 422) if written.unwrap_or(0) == 0 && !side => Reaction::Halve,
        // 409 is Thanos for conflicting samples. 422 is a 400 by another name.
        (_, 400 | 409 | 422) => Reaction::Refuse,
        (_, 413) => Reaction::Halve,
        (_, 415) if translatable => Reaction::Translate,
        (_, 415) if side => Reaction::Drop,
        // Other 5xx say what they mean: an outage, an overload, or a fault of the set-up.
        (_, 500) if known.salvages && response.retry_after.is_none() => Reaction::Inquire,
        _ => Reaction::Fail(Failed::hub_fault(response)),
    }
}

/// What the hub says it wrote, as far as it was sent. Metadata travels with the series, and no
/// header counts it.
pub(super) fn written_of(sent: &Sent, response: &HubResponse) -> Counts {
    let mut written = sent.counts.min(&response.written.unwrap_or_default());
    if response.status.is_success() || !written.is_empty() {
        written.add(Kind::Metadata, sent.counts.of(Kind::Metadata));
    }
    written
}

/// True when it is unknown what the hub wrote of a V1 message that it refused. Halving down to single
/// samples makes it known, if the hub stores all of a request or nothing. 409 comes from Thanos,
/// which stores what it can.
pub(super) fn is_uncounted(sent: &Sent, response: &HubResponse, known: Known) -> bool {
    let uncertain = match response.status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => !known.salvages,
        StatusCode::CONFLICT => true,
        _ => false,
    };
    uncertain && response.written.is_none() && sent.protocol == Protocol::V1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(protocol: Protocol) -> Sent {
        Sent {
            protocol,
            counts: Counts::new([10, 0, 1, 2]),
            translatable: false,
            side: false,
        }
    }

    fn translatable(protocol: Protocol) -> Sent {
        Sent {
            translatable: true,
            ..sent(protocol)
        }
    }

    fn side() -> Sent {
        Sent {
            side: true,
            ..sent(Protocol::V1)
        }
    }

    /// A response; `written` is the number of samples in its Written headers.
    fn response(status: u16, written: Option<u64>, text: &str) -> HubResponse {
        HubResponse {
            status: StatusCode::from_u16(status).unwrap(),
            written: written.map(|samples| Counts::new([samples, 0, 0, 0])),
            retry_after: None,
            text: text.to_owned(),
            date: None,
        }
    }

    const KNOWN: Known = Known {
        speaks: Some(Protocol::V1),
        probed: false,
        salvages: true,
    };

    /// A reaction without what it carries.
    fn step(reaction: Reaction) -> &'static str {
        match reaction {
            Reaction::Written(_) => "written",
            Reaction::Fail(_) => "fail",
            Reaction::Probe => "probe",
            Reaction::Translate => "translate",
            Reaction::Halve => "halve",
            Reaction::Refuse => "refuse",
            Reaction::Inquire => "inquire",
            Reaction::Drop => "drop",
        }
    }

    const GO: &str = "Client sent an HTTP request to an HTTPS server.";
    const NGINX: &str =
        "<html> <head><title>400 The plain HTTP request was sent to HTTPS port</title>";
    const NGINX_CERTIFICATE: &str =
        "<html> <head><title>400 No required SSL certificate was sent</title></head>";
    const QUOTED: &str = "out of order sample; Client sent an HTTP request to an HTTPS server";

    #[test]
    fn each_response_has_its_next_step() {
        use Protocol::{V1, V2};
        #[rustfmt::skip]
        let rows = [
            ("success for V1",                  sent(V1),         response(204, None, ""),               "written"),
            ("success for V1 with zeros",       sent(V1),         response(200, Some(0), ""),            "written"),
            ("success for V1 with a page",      sent(V1),         response(200, None, "page"),           "written"),
            ("all of V2 written",               sent(V2),         response(204, Some(10), ""),           "written"),
            ("more than was sent",              sent(V2),         response(204, Some(99), ""),           "written"),
            ("a part of V2 written",            sent(V2),         response(204, Some(9), ""),            "refuse"),
            ("a duplicate at Mimir",            sent(V2),         response(202, Some(0), ""),            "written"),
            ("202 without Written headers",     sent(V2),         response(202, None, ""),               "fail"),
            ("nothing of V2 written",           translatable(V2), response(204, Some(0), ""),            "translate"),
            ("nothing written, V2 only",        sent(V2),         response(204, Some(0), ""),            "fail"),
            ("V2 not understood",               translatable(V2), response(204, None, ""),               "translate"),
            ("V2 not understood, V2 only",      sent(V2),         response(204, None, ""),               "fail"),
            ("a page before a V2 hub",          translatable(V2), response(200, None, "page"),           "fail"),
            ("bad V2 sample",                   translatable(V2), response(400, Some(9), "bad"),         "refuse"),
            ("bad V2 samples only",             translatable(V2), response(400, Some(0), "bad"),         "refuse"),
            ("400 to V2, not counted",          translatable(V2), response(400, None, "bad"),            "translate"),
            ("400 to V2, not counted, V2 only", sent(V2),         response(400, None, "bad"),            "halve"),
            ("TLS wanted by Go",                sent(V1),         response(400, None, GO),               "fail"),
            ("TLS wanted by nginx",             translatable(V2), response(400, None, NGINX),            "fail"),
            ("a certificate wanted by nginx",   translatable(V2), response(400, None, NGINX_CERTIFICATE), "fail"),
            ("a sample that quotes Go",         sent(V1),         response(400, None, QUOTED),           "halve"),
            ("bad V1 sample",                   sent(V1),         response(400, None, "bad"),            "halve"),
            ("bad V1 sample, nothing written",  sent(V1),         response(400, Some(0), "bad"),         "halve"),
            ("bad V1 sample, others written",   sent(V1),         response(400, Some(9), "bad"),         "refuse"),
            ("bad sample beside V2",            side(),           response(400, None, "bad"),            "refuse"),
            ("422 to V1",                       sent(V1),         response(422, None, "bad"),            "halve"),
            ("422 to V1 of an unknown hub",     translatable(V1), response(422, None, "bad"),            "halve"),
            ("422 to V2",                       sent(V2),         response(422, Some(9), "bad"),         "refuse"),
            ("422 to V2, not counted",          translatable(V2), response(422, None, "bad"),            "translate"),
            ("500 to V1",                       sent(V1),         response(500, None, "too old sample"), "inquire"),
            ("500 beside V2",                   side(),           response(500, None, "boom"),           "inquire"),
            ("500 to V2",                       sent(V2),         response(500, Some(0), "disk full"),   "inquire"),
            ("conflict at Thanos",              sent(V1),         response(409, None, "conflict"),       "refuse"),
            ("conflict, V2",                    sent(V2),         response(409, None, "conflict"),       "refuse"),
            ("too large",                       sent(V1),         response(413, None, ""),               "halve"),
            ("too large, V2",                   translatable(V2), response(413, None, ""),               "halve"),
            ("415",                             translatable(V2), response(415, None, ""),               "translate"),
            ("415 to V1",                       translatable(V1), response(415, None, ""),               "translate"),
            ("415, nothing else allowed",       sent(V2),         response(415, None, ""),               "fail"),
            ("415 beside V2",                   side(),           response(415, None, ""),               "drop"),
            ("405",                             sent(V1),         response(405, None, ""),               "fail"),
            ("406",                             sent(V1),         response(406, None, ""),               "fail"),
            ("407",                             sent(V1),         response(407, None, ""),               "fail"),
            ("408",                             sent(V1),         response(408, None, ""),               "fail"),
            ("426",                             sent(V2),         response(426, None, ""),               "fail"),
            ("401",                             sent(V1),         response(401, None, ""),               "fail"),
            ("403",                             sent(V2),         response(403, None, ""),               "fail"),
            ("404",                             sent(V1),         response(404, None, ""),               "fail"),
            ("429",                             sent(V1),         response(429, None, ""),               "fail"),
            ("301",                             sent(V1),         response(301, None, ""),               "fail"),
            ("501",                             sent(V1),         response(501, None, ""),               "fail"),
            ("502",                             sent(V2),         response(502, None, ""),               "fail"),
            ("503",                             sent(V1),         response(503, None, ""),               "fail"),
            ("504",                             sent(V1),         response(504, None, ""),               "fail"),
        ];
        for (row, sent, response, expected) in rows {
            assert_eq!(step(react(&sent, &response, KNOWN)), expected, "{row}");
        }
    }

    #[test]
    fn a_v2_hub_that_says_nothing_is_not_sent_v1() {
        let silent = response(204, None, "");
        let sent = translatable(Protocol::V2);
        let rows = [
            (Some(Protocol::V2), "fail"),
            (Some(Protocol::V1), "translate"),
            (None, "translate"),
        ];
        for (speaks, expected) in rows {
            let known = Known { speaks, ..KNOWN };
            assert_eq!(step(react(&sent, &silent, known)), expected, "{speaks:?}");
        }
    }

    #[test]
    fn a_bad_v1_sample_goes_as_v2_where_the_hub_may_speak_it() {
        let bad = response(400, None, "bad");
        let sent = translatable(Protocol::V1);
        let rows = [
            (Some(Protocol::V2), false, "translate"),
            (Some(Protocol::V1), false, "halve"),
            (None, false, "probe"),
            (None, true, "halve"),
        ];
        for (speaks, probed, expected) in rows {
            let known = Known {
                speaks,
                probed,
                ..KNOWN
            };
            let reaction = react(&sent, &bad, known);
            assert_eq!(step(reaction), expected, "{speaks:?}, probed: {probed}");
        }
    }

    #[test]
    fn a_500_is_a_fault_of_the_hub_without_salvage_and_where_it_says_when_to_retry() {
        let without_salvage = Known {
            salvages: false,
            ..KNOWN
        };
        let fault = response(500, None, "boom");
        let sent = sent(Protocol::V1);
        assert_eq!(step(react(&sent, &fault, without_salvage)), "fail");
        let later = HubResponse {
            retry_after: Some(7),
            ..fault
        };
        assert_eq!(step(react(&sent, &later, KNOWN)), "fail");
    }

    #[test]
    fn no_more_is_written_than_was_sent() {
        let sent = sent(Protocol::V2);
        let written = written_of(&sent, &response(204, Some(99), ""));
        assert_eq!(written, Counts::new([10, 0, 0, 2]));
        let written = written_of(&sent, &response(400, Some(3), "bad"));
        assert_eq!(written, Counts::new([3, 0, 0, 2]));
        let nothing = written_of(&sent, &response(400, None, "bad"));
        assert_eq!(nothing, Counts::default());
    }

    #[test]
    fn a_refused_v1_message_is_uncounted_unless_it_was_halved() {
        let without_salvage = Known {
            salvages: false,
            ..KNOWN
        };
        let (v1, v2) = (sent(Protocol::V1), sent(Protocol::V2));
        let rows = [
            (&v1, response(400, None, "bad"), KNOWN, false),
            (&v1, response(400, None, "bad"), without_salvage, true),
            (&v1, response(400, Some(0), "bad"), without_salvage, false),
            (&v1, response(409, None, "conflict"), KNOWN, true),
            (&v1, response(413, None, ""), without_salvage, false),
            (&v2, response(409, None, "conflict"), KNOWN, false),
        ];
        for (sent, response, known, expected) in rows {
            let uncounted = is_uncounted(sent, &response, known);
            assert_eq!(uncounted, expected, "{response:?}");
        }
    }
}
