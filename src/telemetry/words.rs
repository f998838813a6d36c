//! Times, shares and numbers as an operator says them.

use std::time::Duration;

/// A time in its largest whole unit, such as `12 min`.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A share in percent, such as `0.1 %`. Only nothing is 0 %, and only all is 100 %; what is beyond a limit is
/// more.
pub fn share(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        ..=0.0 => "0 %".to_owned(),
        ..0.1 => "less than 0.1 %".to_owned(),
        100.0.. => format!("{percent:.0} %"),
        ..10.0 => format!("{percent:.1} %"),
        _ => format!("{:.0} %", percent.min(99.0)),
    }
}

/// A number of things, such as `2 requests`.
pub fn count(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::{count, share, time};

    use std::time::Duration;

    #[test]
    fn a_time_is_in_its_largest_whole_unit() {
        let words = |seconds| time(Duration::from_secs(seconds));
        assert_eq!(words(0), "0 s");
        assert_eq!(words(119), "119 s");
        assert_eq!(words(720), "12 min");
        assert_eq!(words(7200), "2 h");
        assert_eq!(words(200_000), "2 d");
    }

    #[test]
    fn a_share_that_is_not_all_or_nothing_is_not_shown_as_such() {
        assert_eq!(share(0.0), "0 %");
        assert_eq!(share(0.0001), "less than 0.1 %");
        assert_eq!(share(0.0012), "0.1 %");
        assert_eq!(share(0.5), "50 %");
        assert_eq!(share(0.9999), "99 %");
        assert_eq!(share(1.0), "100 %");
        assert_eq!(share(2.4), "240 %");
    }

    #[test]
    fn one_thing_is_not_many() {
        let requests = [0, 1, 2].map(|it| count(it, "request"));
        assert_eq!(requests, ["0 requests", "1 request", "2 requests"]);
    }
}
