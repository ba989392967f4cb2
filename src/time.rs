// SPDX-License-Identifier: GPL-2.0-or-later
//! The two clocks of an analysis, kept apart by type.
//!
//! A packet carries an instant ([`CaptureTime`]); a log line carries what a wall clock showed
//! ([`LogTime`]), without a zone. Only a [`Zone`] turns the second into the first, so a log
//! time can never be compared with a packet by accident.

use std::cell::Cell;
use std::fmt;

use chrono::{DateTime, FixedOffset, Local, LocalResult, NaiveDate, NaiveDateTime, TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

/// Instants of a damaged capture are taken to lie no further away than this, and lengths of time to
/// be no longer, so that a few of them can be added up: the clock's limits but for a year, and 73 years.
const FOREVER: i64 = i64::MAX / 4;
const LAST: i64 = i64::MAX - FOREVER / 64;

/// An instant on the capture's clock: nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaptureTime(pub i64);

thread_local! {
    /// The instant that was written or read last.
    static BEFORE: Cell<CaptureTime> = const { Cell::new(CaptureTime(0)) };
}

/// Lets somebody write a record with its instants, or read one: of all but the first, what is written
/// is how far it lies from the one before. They are near each other, and the distances are short.
pub fn in_record<T>(write_or_read: impl FnOnce() -> T) -> T {
    BEFORE.set(CaptureTime(0));
    write_or_read()
}

impl Serialize for CaptureTime {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let CaptureTime(before) = BEFORE.replace(*self);
        to.serialize_i64(self.0.wrapping_sub(before))
    }
}

impl<'de> Deserialize<'de> for CaptureTime {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<CaptureTime, D::Error> {
        let CaptureTime(before) = BEFORE.get();
        let instant = CaptureTime(before.wrapping_add(i64::deserialize(from)?));
        BEFORE.set(instant);
        Ok(instant)
    }
}

impl CaptureTime {
    /// Nanoseconds from `earlier` to this instant, negative when this one is the earlier.
    pub fn since(self, earlier: CaptureTime) -> i64 {
        self.0.saturating_sub(earlier.0).clamp(-FOREVER, FOREVER)
    }

    /// This instant, or the nearest one that leaves room for arithmetic.
    pub fn bounded(self) -> CaptureTime {
        CaptureTime(self.0.clamp(-LAST, LAST))
    }

    /// This instant moved by `ns` nanoseconds.
    pub fn plus(self, ns: i64) -> CaptureTime {
        CaptureTime(self.0.saturating_add(ns))
    }
}

/// What a log's wall clock showed: seconds since 1970-01-01 00:00:00 of that same clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTime(pub i64);

impl LogTime {
    /// The wall-clock time of these calendar fields, if there is such a time.
    pub fn from_civil(
        year: i32,
        month: u32,
        day: u32,
        hour: u32,
        minute: u32,
        second: u32,
    ) -> Option<LogTime> {
        let civil =
            NaiveDate::from_ymd_opt(year, month, day)?.and_hms_opt(hour, minute, second)?;
        Some(LogTime(civil.and_utc().timestamp()))
    }

    pub(crate) fn civil(self) -> Option<NaiveDateTime> {
        DateTime::from_timestamp(self.0, 0).map(|instant| instant.naive_utc())
    }
}

/// As nginx writes it: `YYYY/MM/DD HH:MM:SS`.
impl fmt::Display for LogTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.civil() {
            Some(civil) => write!(f, "{}", civil.format("%Y/%m/%d %H:%M:%S")),
            None => f.write_str("an unknown time"),
        }
    }
}

/// The zone that a log's wall clock stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zone {
    /// The zone of the machine that runs the analysis.
    #[default]
    Local,
    /// A fixed distance from UTC.
    Fixed(FixedOffset),
    /// A zone of the IANA database, with its daylight saving changes.
    Named(chrono_tz::Tz),
}

impl Zone {
    /// Understands `local`, `UTC`, `+08:00`, `-0330`, and IANA names.
    pub fn parse(text: &str) -> Option<Zone> {
        let text = text.trim();
        match text.to_ascii_lowercase().as_str() {
            "local" => Some(Zone::Local),
            "utc" | "z" => FixedOffset::east_opt(0).map(Zone::Fixed),
            _ => parse_offset(text)
                .map(Zone::Fixed)
                .or_else(|| text.parse().ok().map(Zone::Named)),
        }
    }

    /// The instant at which a clock in this zone showed `time`.
    ///
    /// An hour that occurs twice is taken at its first occurrence; one that daylight saving
    /// skips never was shown and yields `None`.
    pub fn instant(self, time: LogTime) -> Option<CaptureTime> {
        let civil = time.civil()?;
        let seconds = match self {
            Zone::Local => earliest(Local.from_local_datetime(&civil))?,
            Zone::Fixed(offset) => earliest(offset.from_local_datetime(&civil))?,
            Zone::Named(zone) => earliest(zone.from_local_datetime(&civil))?,
        };
        seconds.checked_mul(SECOND).map(CaptureTime)
    }

    /// What a clock in this zone shows at an instant.
    pub fn shown(self, instant: CaptureTime) -> LogTime {
        let seconds = instant.0.div_euclid(SECOND);
        let Some(utc) = DateTime::from_timestamp(seconds, 0) else { return LogTime(seconds) };
        let civil = match self {
            Zone::Local => utc.with_timezone(&Local).naive_local(),
            Zone::Fixed(offset) => utc.with_timezone(&offset).naive_local(),
            Zone::Named(zone) => utc.with_timezone(&zone).naive_local(),
        };
        LogTime(civil.and_utc().timestamp())
    }
}

fn earliest<Z: TimeZone>(found: LocalResult<DateTime<Z>>) -> Option<i64> {
    found.earliest().map(|instant| instant.timestamp())
}

/// `+08:00`, `-0330` or `+8`: hours and minutes east of UTC.
fn parse_offset(text: &str) -> Option<FixedOffset> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let digits = rest.replacen(':', "", 1);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i32, i32) = match digits.len() {
        1 | 2 => (digits.parse().ok()?, 0),
        4 => (digits[..2].parse().ok()?, digits[2..].parse().ok()?),
        _ => return None,
    };
    if hours > 14 || minutes > 59 {
        return None;
    }
    FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(zone: &str, civil: (i32, u32, u32, u32, u32, u32)) -> Option<i64> {
        let (y, mo, d, h, mi, s) = civil;
        let time = LogTime::from_civil(y, mo, d, h, mi, s)?;
        Zone::parse(zone)?.instant(time).map(|t| t.0 / SECOND)
    }

    #[test]
    fn an_offset_moves_the_wall_clock() {
        let utc = instant("UTC", (2015, 12, 1, 7, 49, 48));
        assert_eq!(utc, Some(1_448_956_188));
        for zone in ["+08:00", "+0800", "+8", "Asia/Shanghai"] {
            assert_eq!(instant(zone, (2015, 12, 1, 15, 49, 48)), utc, "{zone}");
        }
    }

    #[test]
    fn daylight_saving_takes_the_first_of_two_and_none_of_a_skipped_hour() {
        let zone = "America/New_York";
        let twice = instant(zone, (2024, 11, 3, 1, 30, 0));
        assert_eq!(twice, instant("-04:00", (2024, 11, 3, 1, 30, 0)));
        assert_eq!(instant(zone, (2024, 3, 10, 2, 30, 0)), None);
    }

    #[test]
    fn a_clock_shows_what_its_instant_was_made_of() {
        let time = LogTime::from_civil(2015, 12, 1, 15, 49, 48).unwrap_or_default();
        for text in ["UTC", "+0800", "Asia/Shanghai", "local"] {
            let zone = Zone::parse(text).unwrap_or_default();
            let instant = zone.instant(time).unwrap_or_default();
            let shown = zone.shown(instant.plus(SECOND - 1));
            assert_eq!(shown.to_string(), "2015/12/01 15:49:48", "{text}");
        }
        let utc = Zone::parse("UTC").unwrap_or_default();
        assert_eq!(utc.shown(CaptureTime(-1)).to_string(), "1969/12/31 23:59:59");
    }

    #[test]
    fn times_at_their_limits_leave_room() {
        let [first, last] = [i64::MIN, i64::MAX].map(|ns| CaptureTime(ns).bounded());
        assert!(first < CaptureTime(0) && CaptureTime(0) < last);
        assert_eq!(last.since(first), -first.since(last));
        assert!(last.since(first).checked_mul(3).is_some());
        assert!(last.0.checked_add(86_400 * SECOND).is_some());
        assert!(first.0.checked_sub(86_400 * SECOND).is_some());
    }

    #[test]
    fn nonsense_is_no_zone() {
        for text in ["Mars/Olympus", "+25:00", "+08:99", "8", "+", "+1:2:3", "++08:00"] {
            assert_eq!(Zone::parse(text), None, "{text}");
        }
    }
}
