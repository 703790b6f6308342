//! One filter against one name, level by level.

/// Whether the Topic Filter `filter`, without `$share/{name}/`, matches the Topic Name `name`.
///
/// Takes time in proportion to the shorter text. Characters are compared as they are
/// `[MQTT-4.7.3-4]`; empty levels count. A `#` or `+` that a valid filter would not have is an
/// ordinary character.
#[must_use]
pub fn matches(filter: &str, name: &str) -> bool {
    // [MQTT-4.7.2-1]
    if name.starts_with('$') && wildcard_at(filter) == Some(0) {
        return false;
    }
    let mut names = name.split('/');
    let mut filters = filter.split('/').peekable();
    while let Some(level) = filters.next() {
        // Before the name is asked for its next level: `a/#` matches `a`.
        if level == "#" && filters.peek().is_none() {
            return true;
        }
        match names.next() {
            Some(name) if level == "+" || level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Where the first level that is a wildcard starts, in bytes.
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

    #[test]
    fn the_first_wildcard_is_a_whole_level() {
        for (filter, at) in
            [("a/b", None), ("+", Some(0)), ("a/#", Some(2)), ("a+/+", Some(3)), ("#/a", None)]
        {
            assert_eq!(wildcard_at(filter), at, "{filter}");
        }
    }
}
