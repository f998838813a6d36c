//! How a spoke is doing, in one word that an operator can act on.
//!
//! The times are those of the alerts in `deploy/`, so that the page and the alerts say the same.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::reasons::RequestReason;

use super::Snapshot;

/// A spoke of which nothing was written for longer is silent, and what happened before is past.
pub const SILENT_AFTER: Duration = Duration::from_secs(300);

/// A spoke whose newest sample is older is late.
pub const LATE_AFTER: Duration = Duration::from_secs(600);

/// How a spoke is doing. Several may be true at once; the first of them needs an operator most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Nothing of it was written since hubgate started, and nothing was refused or failed lately.
    NeverCame,
    /// Nothing of it was written in the last 5 minutes, and nothing was refused or failed.
    Silent,
    /// Something of it was refused for good in the last 5 minutes.
    Refused,
    /// A request of it failed in the last 5 minutes, and is sent again.
    Failing,
    /// It met one of its limits in the last 5 minutes, and sends again what was over.
    Limited,
    /// Its newest sample is more than 10 minutes old, although it writes.
    Late,
    /// It writes, and nothing else is to be said.
    Writing,
}

impl Condition {
    /// All of them, the worst first.
    pub const ALL: [Self; 7] = [
        Self::NeverCame,
        Self::Silent,
        Self::Refused,
        Self::Failing,
        Self::Limited,
        Self::Late,
        Self::Writing,
    ];

    /// The name that the API uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::NeverCame => "never_came",
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Failing => "failing",
            Self::Limited => "limited",
            Self::Late => "late",
            Self::Writing => "writing",
        }
    }

    /// What is true of a spoke of which this was last seen, the worst first; never empty.
    pub fn of(seen: &Snapshot, now: SystemTime) -> Vec<Self> {
        // A clock that was set back must not make everything old.
        let since = |time| now.duration_since(time).unwrap_or_default();
        let writes = seen.last_write.is_some_and(|it| since(it) <= SILENT_AFTER);
        let recent = seen
            .refusals
            .iter()
            .filter(|it| since(it.last) <= SILENT_AFTER);
        let mut conditions: Vec<_> = recent.map(|it| Self::of_reason(it.reason)).collect();
        if conditions.is_empty() && !writes {
            let came = seen.last_write.is_some();
            conditions.push(if came { Self::Silent } else { Self::NeverCame });
        }
        if writes && lag(seen, now).is_some_and(|lag| lag > LATE_AFTER) {
            conditions.push(Self::Late);
        }
        if conditions.is_empty() {
            conditions.push(Self::Writing);
        }
        conditions.sort_unstable();
        conditions.dedup();
        conditions
    }

    /// What a refusal for the reason of this name makes of a spoke.
    pub fn of_reason(reason: &str) -> Self {
        let mut reasons = RequestReason::ALL.into_iter();
        // Reasons of series and samples refuse them for good.
        let Some(reason) = reasons.find(|it| it.name() == reason) else {
            return Self::Refused;
        };
        match reason {
            RequestReason::BytesInFlight
            | RequestReason::RateLimited
            | RequestReason::RequestsInFlight => Self::Limited,
            RequestReason::AuthBusy
            | RequestReason::BodyTimeout
            | RequestReason::BodyTruncated
            | RequestReason::ClockInDoubt
            | RequestReason::Draining
            | RequestReason::ForwardedFor
            | RequestReason::HubFailed
            | RequestReason::Internal
            | RequestReason::KeysUnavailable
            | RequestReason::Overloaded
            | RequestReason::TokenNotYetValid => Self::Failing,
            RequestReason::BodyFraming
            | RequestReason::BodyTooLarge
            | RequestReason::ContentEncoding
            | RequestReason::ContentType
            | RequestReason::DecodedTooLarge
            | RequestReason::Malformed
            | RequestReason::MethodNotAllowed
            | RequestReason::NotFound
            | RequestReason::Snappy
            | RequestReason::SourceRange
            | RequestReason::Unauthenticated
            | RequestReason::WrongMessage => Self::Refused,
        }
    }
}

/// How far the newest sample that was written is behind; `None` before the first. A sample of the
/// future is not behind.
pub fn lag(seen: &Snapshot, now: SystemTime) -> Option<Duration> {
    let newest = Duration::from_millis(seen.newest_sample?.try_into().unwrap_or_default());
    Some(now.duration_since(UNIX_EPOCH + newest).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::reasons::Reason;
    use crate::spoke::Status;
    use crate::wire::{Counts, Kind, Protocol};

    fn sent(status: &Status) {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        status.record_request(Protocol::V1, "test", address, "socket");
    }

    fn wrote(status: &Status, age: Duration) {
        let newest = (SystemTime::now() - age)
            .duration_since(UNIX_EPOCH)
            .unwrap();
        let newest = i64::try_from(newest.as_millis()).unwrap();
        status.record_written(&Counts::one(Kind::Float), Some(newest));
    }

    /// The conditions this long after now.
    fn later(status: &Status, time: Duration) -> Vec<&'static str> {
        let conditions = Condition::of(&status.snapshot(), SystemTime::now() + time);
        conditions.into_iter().map(Condition::name).collect()
    }

    fn now(status: &Status) -> Vec<&'static str> {
        later(status, Duration::ZERO)
    }

    #[test]
    fn a_spoke_comes_writes_and_falls_silent() {
        let status = Status::default();
        assert_eq!(now(&status), ["never_came"]);
        sent(&status);
        let first = status.record_written(&Counts::one(Kind::Metadata), None);
        assert!(!first);
        assert_eq!(now(&status), ["never_came"]);
        wrote(&status, Duration::from_secs(1));
        assert_eq!(now(&status), ["writing"]);
        assert_eq!(
            later(&status, SILENT_AFTER - Duration::from_secs(30)),
            ["writing"]
        );
        assert_eq!(
            later(&status, SILENT_AFTER + Duration::from_secs(2)),
            ["silent"]
        );
    }

    #[test]
    fn a_spoke_that_catches_up_is_late() {
        let status = Status::default();
        wrote(&status, LATE_AFTER + Duration::from_secs(60));
        assert_eq!(now(&status), ["late"]);
        wrote(&status, Duration::ZERO);
        assert_eq!(now(&status), ["writing"]);
    }

    #[test]
    fn what_happened_counts_for_five_minutes_and_the_worst_comes_first() {
        let status = Status::default();
        wrote(&status, LATE_AFTER * 2);
        for reason in [
            RequestReason::RateLimited.name(),
            RequestReason::HubFailed.name(),
            Reason::MismatchedLabel.name(),
            RequestReason::Snappy.name(),
        ] {
            status.record_refusal(reason, 1, "");
        }
        assert_eq!(now(&status), ["refused", "failing", "limited", "late"]);
        assert_eq!(later(&status, SILENT_AFTER * 2), ["silent"]);
    }

    #[test]
    fn a_spoke_whose_every_request_is_refused_is_not_silent() {
        let status = Status::default();
        status.record_refusal(RequestReason::SourceRange.name(), 1, "");
        assert_eq!(now(&status), ["refused"]);
        assert_eq!(later(&status, SILENT_AFTER * 2), ["never_came"]);
    }

    #[test]
    fn a_sample_of_the_future_is_not_behind() {
        let status = Status::default();
        assert_eq!(lag(&status.snapshot(), SystemTime::now()), None);
        wrote(&status, Duration::ZERO);
        assert_eq!(lag(&status.snapshot(), UNIX_EPOCH), Some(Duration::ZERO));
    }
}
