//! Durations and sizes as people write them.

use std::time::Duration;

/// Milliseconds in each unit, the largest first.
const TIMES: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes in each unit that is written, the largest first.
const BINARY: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Bytes in each unit that is only read.
const DECIMAL: [(&str, u64); 4] =
    [("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000), ("B", 1)];

/// Reads `10s`, `500ms`, `2m`, `1h`, `7d`, or plain seconds.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let unit = if unit.is_empty() { "s" } else { unit };
    let (_, millis) = TIMES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

/// Reads `1MiB`, `64KiB`, `1GiB`, `1MB`, or plain bytes; in any case of letters.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let unit = if unit.is_empty() { "B" } else { unit };
    let mut units = BINARY.iter().chain(&DECIMAL);
    let (_, bytes) = units.find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*bytes)
}

/// Number and unit of `10s` or `10 s`.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

/// The shortest form that [`parse_duration`] reads as the same, whole milliseconds given.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = |unit: &&(&str, u64)| millis != 0 && millis.is_multiple_of(unit.1);
    TIMES.iter().find(fits).map_or_else(|| "0s".into(), |(n, m)| format!("{}{n}", millis / m))
}

/// The shortest form that [`parse_size`] reads as the same.
pub(super) fn show_size(bytes: u64) -> String {
    let fits = |unit: &&(&str, u64)| bytes != 0 && bytes.is_multiple_of(unit.1);
    BINARY.iter().find(fits).map_or_else(|| bytes.to_string(), |(n, b)| format!("{}{n}", bytes / b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_all_their_units() {
        let read = |text| parse_duration(text).map(|d| d.as_millis());
        assert_eq!(read("10s"), Some(10_000));
        assert_eq!(read("500ms"), Some(500));
        assert_eq!(read("2m"), Some(120_000));
        assert_eq!(read("1 h"), Some(3_600_000));
        assert_eq!(read("7d"), Some(604_800_000));
        assert_eq!(read("15"), Some(15_000));
        for wrong in ["", "s", "1.5s", "-1s", "1w", "10S", "1s2", "99999999999999999999"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(read("999999999999999999d"), None);
    }

    #[test]
    fn sizes_are_read_in_all_their_units() {
        assert_eq!(parse_size("1MiB"), Some(1_048_576));
        assert_eq!(parse_size("64kib"), Some(65_536));
        assert_eq!(parse_size("1 GiB"), Some(1_073_741_824));
        assert_eq!(parse_size("1MB"), Some(1_000_000));
        assert_eq!(parse_size("12"), Some(12));
        for wrong in ["", "MiB", "1.5MiB", "1TiB", "-1", "99999999999GiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_reads_as_the_same() {
        for millis in [0, 1, 500, 1_000, 90_000, 3_600_000, 86_400_000, 2_592_000_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
        for bytes in [0, 1, 1_024, 1_000_000, 1 << 20, 268_435_460, u64::MAX] {
            assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }
        assert_eq!(show_duration(Duration::from_secs(2_592_000)), "30d");
        assert_eq!(show_size(128 << 20), "128MiB");
    }
}
