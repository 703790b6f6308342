//! One filter against one name, level by level.

/// Whether the Topic Filter `filter`, without `$share/{name}/`, matches the Topic Name `name`.
///
/// Takes time in proportion to the shorter text. Characters are compared as they are
/// `[MQTT-4.7.3-4]`; empty levels count. A `#` or `+` that a valid filter would not have is an
/// ordinary character.
#[must_use]
pub fn matches(filter: &str, name: &str) -> bool {
    bytes_match(filter.as_bytes(), name.as_bytes())
}

/// The same for texts of which it is known that they are some.
pub(super) fn bytes_match(filter: &[u8], name: &[u8]) -> bool {
    // [MQTT-4.7.2-1]
    if name.first() == Some(&b'$') && !filter.is_empty() && is_wildcard(filter, 0) {
        return false;
    }
    // Both at the start of a level.
    let (mut at, mut to) = (0, 0);
    loop {
        if at < filter.len() && is_wildcard(filter, at) {
            if filter[at] == b'#' {
                return true;
            }
            at += 1;
            while to < name.len() && name[to] != b'/' {
                to += 1;
            }
        } else {
            while at < filter.len() && filter[at] != b'/' {
                if name.get(to) != Some(&filter[at]) {
                    return false;
                }
                (at, to) = (at + 1, to + 1);
            }
        }
        // The filter's level is over; the name's must be, too.
        match (filter.get(at), name.get(to)) {
            (None, None) => return true,
            (Some(_), Some(b'/')) => (at, to) = (at + 1, to + 1),
            // `a/#` matches `a`.
            (Some(_), None) => return filter[at..] == *b"/#",
            (None, Some(_)) | (Some(_), Some(_)) => return false,
        }
    }
}

/// Where the first level that is a wildcard starts, in bytes.
#[cfg(feature = "alloc")]
pub(super) fn wildcard_at(filter: &str) -> Option<usize> {
    let filter = filter.as_bytes();
    (0..filter.len()).find(|at| is_wildcard(filter, *at))
}

/// Whether the byte at `at` is a level by itself, and a wildcard: `+`, or `#` at the end.
#[inline]
pub(super) fn is_wildcard(filter: &[u8], at: usize) -> bool {
    let next = filter.get(at + 1);
    let ends = match filter[at] {
        b'+' => next.is_none_or(|next| *next == b'/'),
        b'#' => next.is_none(),
        _ => return false,
    };
    ends && (at == 0 || filter[at - 1] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_standard_match() {
        for (filter, name) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "a"),
            ("#", "/"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("$SYS/#", "$SYS/monitor/Clients"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("a/+", "a/$x"),
            ("a/#", "a/$x"),
            ("+/#", "a"),
            ("+//+", "a//b"),
            ("a/+/", "a/b/"),
        ] {
            assert!(matches(filter, name), "{filter} and {name}");
        }
    }

    #[test]
    fn counterexamples_of_the_standard_do_not_match() {
        for (filter, name) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/a"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("+/#", "$SYS"),
            ("ACCOUNTS", "Accounts"),
            ("a/#", "ab"),
            ("a/#", "a!"),
            ("a", "a/"),
            ("/a", "a"),
            ("a/b/#", "a"),
            ("é", "e\u{301}"),
        ] {
            assert!(!matches(filter, name), "{filter} and {name}");
        }
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn the_first_wildcard_is_a_whole_level() {
        for (filter, at) in
            [("a/b", None), ("+", Some(0)), ("a/#", Some(2)), ("a+/+", Some(3)), ("#/a", None)]
        {
            assert_eq!(wildcard_at(filter), at, "{filter}");
        }
    }
}
