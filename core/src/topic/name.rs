//! Validated Topic Names and Topic Filters.

use core::fmt;

use super::matches::is_wildcard;

/// Why a Topic Name or Topic Filter is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// It has no characters. `[MQTT-4.7.3-1]`
    Empty,
    /// It is longer than 65,535 bytes. `[MQTT-4.7.3-3]`
    TooLong,
    /// It has more levels than the caller allows.
    TooManyLevels,
    /// A wildcard stands in a name, or where it must not stand in a filter. `[MQTT-4.7.0-1]`,
    /// `[MQTT-4.7.1-1]`, `[MQTT-4.7.1-2]`
    Wildcard,
    /// It contains U+0000. `[MQTT-4.7.3-2]`
    Nul,
    /// It starts as a shared subscription and does not go on as one. `[MQTT-4.8.2-1]`,
    /// `[MQTT-4.8.2-2]`
    Share,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty topic",
            Self::TooLong => "topic longer than 65,535 bytes",
            Self::TooManyLevels => "topic with too many levels",
            Self::Wildcard => "misplaced wildcard",
            Self::Nul => "topic with a null character",
            Self::Share => "malformed shared subscription",
        })
    }
}

impl core::error::Error for TopicError {}

/// A Topic Name: where a message is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks `text`, which may have at most `max_levels` levels (`a/b` has two).
    ///
    /// # Errors
    /// [`TopicError`], never [`TopicError::Share`].
    pub fn new(text: &'a str, max_levels: u16) -> Result<Self, TopicError> {
        match check(text, max_levels)? {
            true => Err(TopicError::Wildcard),
            false => Ok(Self(text)),
        }
    }

    /// The name as text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

/// A Topic Filter as it stands in SUBSCRIBE, shared or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Checks `text`, which may have at most `max_levels` levels; `$share/{name}/` is not counted.
    ///
    /// # Errors
    /// Any [`TopicError`].
    pub fn new(text: &'a str, max_levels: u16) -> Result<Self, TopicError> {
        // The limit of bytes is for the whole text.
        if text.len() > MAX_BYTES {
            return Err(TopicError::TooLong);
        }
        let filter = split_share(text)?.map_or(text, |(_, filter)| filter);
        let wild = check(filter, max_levels)?;
        // The share name was not looked at yet.
        if text.len() > filter.len() && text.bytes().any(|byte| byte == 0) {
            return Err(TopicError::Nul);
        }
        if wild {
            let bytes = filter.as_bytes();
            let misplaced = |at: usize| matches!(bytes[at], b'+' | b'#') && !is_wildcard(bytes, at);
            if (0..bytes.len()).any(misplaced) {
                return Err(TopicError::Wildcard);
            }
        }
        Ok(Self(text))
    }

    /// The filter as text, with `$share/{name}/` if it is shared.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether the filter can match more than one name.
    #[must_use]
    pub fn has_wildcard(self) -> bool {
        self.0.bytes().any(|byte| matches!(byte, b'+' | b'#'))
    }
}

const MAX_BYTES: usize = 65_535;

/// Checks what holds for names and filters, and says whether there are wildcards.
fn check(text: &str, max_levels: u16) -> Result<bool, TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(TopicError::TooLong);
    }
    // One pass without branches, since this is done for every message.
    let (mut levels, mut nul, mut wild) = (1, false, false);
    for byte in text.bytes() {
        levels += usize::from(byte == b'/');
        nul |= byte == 0;
        wild |= byte == b'+' || byte == b'#';
    }
    if nul {
        return Err(TopicError::Nul);
    }
    if levels > usize::from(max_levels) {
        return Err(TopicError::TooManyLevels);
    }
    Ok(wild)
}

/// Splits `$share/{name}/{filter}` into name and filter; `None` when `filter` is not shared. The
/// filter that comes out is not checked, except that it is not empty.
///
/// # Errors
/// [`TopicError::Share`] when `filter` is `$share` or starts with `$share/`, and there is no name,
/// a wildcard in the name, or no filter. `[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`
pub fn split_share(filter: &str) -> Result<Option<(&str, &str)>, TopicError> {
    let Some(rest) = filter.strip_prefix("$share") else { return Ok(None) };
    if rest.is_empty() {
        return Err(TopicError::Share);
    }
    let Some(rest) = rest.strip_prefix('/') else { return Ok(None) };
    match rest.split_once('/') {
        Some((name, inner))
            if !name.is_empty() && !name.contains(['+', '#']) && !inner.is_empty() =>
        {
            Ok(Some((name, inner)))
        }
        _ => Err(TopicError::Share),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn name(text: &str) -> Result<&str, TopicError> {
        TopicName::new(text, 4).map(TopicName::as_str)
    }

    fn filter(text: &str) -> Result<&str, TopicError> {
        TopicFilter::new(text, 4).map(TopicFilter::as_str)
    }

    #[test]
    fn names_without_wildcards_are_accepted_as_they_are() {
        for text in ["a", "/", "//", "a/b/c/d", " ", "$SYS/x", "\u{feff}ä", "$share/g/a"] {
            assert_eq!(name(text), Ok(text));
            assert_eq!(filter(text), Ok(text));
        }
    }

    #[test]
    fn names_with_wildcards_are_refused() {
        for text in ["+", "#", "a/+", "a+", "a/#/b", "#a"] {
            assert_eq!(name(text), Err(TopicError::Wildcard), "{text}");
        }
    }

    #[test]
    fn wildcards_of_filters_take_a_whole_level() {
        for text in ["+", "#", "+/#", "a/+/b", "/+", "+/", "a/#", "/#", "+/+/+/#"] {
            assert_eq!(filter(text), Ok(text));
            assert!(TopicFilter(text).has_wildcard());
        }
        for text in ["a+", "+a", "a#", "#a", "#/", "#/a", "++", "##", "a/b#", "a/+b", "+#"] {
            assert_eq!(filter(text), Err(TopicError::Wildcard), "{text}");
        }
        assert!(!TopicFilter("a/b").has_wildcard());
    }

    #[test]
    fn empty_null_long_and_deep_texts_are_refused() {
        let long = "a".repeat(65_536);
        for check in [name, filter] {
            assert_eq!(check(""), Err(TopicError::Empty));
            assert_eq!(check("a\0"), Err(TopicError::Nul));
            assert_eq!(check(&long), Err(TopicError::TooLong));
            assert_eq!(check(&long[1..]), Ok(&long[1..]));
            assert_eq!(check("a/b/c/d/"), Err(TopicError::TooManyLevels));
        }
        assert_eq!(filter("$share/g\0/a"), Err(TopicError::Nul));
        assert!(!TopicError::Nul.to_string().is_empty());
    }

    #[test]
    fn shared_filters_are_split_at_the_second_slash() {
        assert_eq!(split_share("$share/g/a/+/#"), Ok(Some(("g", "a/+/#"))));
        assert_eq!(split_share("$share/g//a"), Ok(Some(("g", "/a"))));
        assert_eq!(split_share("$share/g//"), Ok(Some(("g", "/"))));
        for text in ["a", "$SYS/#", "$shared/g/a", "/$share/g/a", "$Share/g/a", "share/g/a"] {
            assert_eq!(split_share(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn malformed_shared_filters_are_refused() {
        for text in
            ["$share", "$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/a#/a"]
        {
            assert_eq!(split_share(text), Err(TopicError::Share), "{text}");
            assert_eq!(filter(text), Err(TopicError::Share), "{text}");
        }
        assert_eq!(filter("$share/g/a#"), Err(TopicError::Wildcard));
    }

    #[test]
    fn the_share_name_does_not_count_as_levels() {
        assert_eq!(filter("$share/g/a/b/c/d"), Ok("$share/g/a/b/c/d"));
        assert_eq!(filter("$share/g/a/b/c/d/e"), Err(TopicError::TooManyLevels));
    }
}
