//! Times and sizes as people type them: `250ms`, `1.5s`, `2h`; `512`, `64K`, `1MiB`.

use std::time::Duration;

use ringway::Level;

/// Reads a time: a number and `us`, `ms`, `s`, `m`, `h` or `d`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a time such as 250ms, 30s, 5m or 2h";
    let (number, unit) = split(text);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(format!("{unit:?} is not a unit of time: {expected}")),
    };
    let value: f64 = number.parse().map_err(|_| expected.to_string())?;
    // Rounded to the nanosecond, so that 0.3 s is 300 ms and not a hair less.
    let nanos = (value * scale * 1e9).round();
    if nanos > u64::MAX as f64 {
        return Err("this time is too long: at most 584 years".to_string());
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// Reads a size in bytes: a number, alone or with `K`, `M`, `G` (or `KiB`, `MiB`, `GiB`; powers of
/// 1,024) or `KB`, `MB`, `GB` (powers of 1,000).
pub(crate) fn size(text: &str) -> Result<u32, String> {
    let expected = "expected a size such as 512, 64K or 1MiB";
    let (number, unit) = split(text);
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(format!("{unit:?} is not a unit of size: {expected}")),
    };
    let value: u64 = number.parse().map_err(|_| expected.to_string())?;
    value
        .checked_mul(scale)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or_else(|| format!("{text} is too large: less than 4GiB is expected"))
}

/// Reads when a journal is synced.
pub(crate) fn level(text: &str) -> Result<Level, String> {
    let expected = "expected group_commit, sync_every=N, sync_every=TIME (such as 10ms) or os";
    match text.split_once('=') {
        None if text == "group_commit" => Ok(Level::GroupCommit),
        None if text == "os" => Ok(Level::Os),
        Some(("sync_every", every)) => match every.parse() {
            Ok(records) => Ok(Level::SyncEveryMessages(records)),
            Err(_) => duration(every).map(Level::SyncEveryTime).map_err(|_| expected.to_string()),
        },
        _ => Err(expected.to_string()),
    }
}

/// Writes a level the way [`level`] reads it.
pub(crate) fn show_level(level: Level) -> String {
    match level {
        Level::GroupCommit => "group_commit".to_string(),
        Level::SyncEveryMessages(records) => format!("sync_every={records}"),
        Level::SyncEveryTime(time) => format!("sync_every={}ms", time.as_millis()),
        Level::Os => "os".to_string(),
    }
}

/// Writes a size the way [`size`] reads it, in the largest unit that divides it.
pub(crate) fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{} bytes", group_digits(bytes))
}

/// Writes a number with commas: `16,384`.
pub(crate) fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The number at the start, and what follows it without blanks.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0.3"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("1.5 s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("12h"), Ok(Duration::from_secs(43_200)));
        assert_eq!(duration("7us"), Ok(Duration::from_micros(7)));
        for bad in ["", "s", "1.2.3s", "-1s", "5 parsecs", "1e3s", "999999999999999d", "é"] {
            assert!(duration(bad).is_err(), "{bad:?} was taken for a time");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("64K"), Ok(65_536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("1 mb"), Ok(1_000_000));
        for bad in ["", "K", "1.5M", "-1", "4G", "99999999999999999999", "1 elephant"] {
            assert!(size(bad).is_err(), "{bad:?} was taken for a size");
        }
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(show_size(1 << 20), "1 MiB");
        assert_eq!(show_size(1_500), "1,500 bytes");
        assert_eq!(show_size(0), "0 bytes");
        assert_eq!([0, 999, 1_000, 16_384].map(group_digits), ["0", "999", "1,000", "16,384"]);
    }
}
