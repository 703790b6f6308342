//! Listings of one shard and of several, compared.

/// What is the same with several shards as with one, after each input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Several {
    /// What each connection gets, in its order, and what is told.
    Same,
    /// The same in any order.
    Order,
    /// Not all of it.
    One,
}

impl Several {
    /// From the head of a trace.
    ///
    /// # Panics
    /// If it is no outcome with a reason.
    pub(super) fn of(text: &str) -> Self {
        let (outcome, why) = text.split_once(',').expect("an outcome and why");
        assert!(why.trim().len() > 10, "why: {why}");
        match outcome.trim() {
            "order" => Self::Order,
            "one" => Self::One,
            other => panic!("unknown: {other}"),
        }
    }
}

/// A listing as it must be with any number of shards: what comes after each input is ordered by
/// connection, and what is told by itself; without the number of a message's receivers, among which
/// each other shard counts as one, and without what follows the prefix of a Client Identifier that
/// a shard has chosen. With `sorted` what a connection gets is in no order, either.
#[must_use]
pub fn outside(listing: &str, sorted: bool) -> String {
    let mut blocks = String::new();
    let mut came: Vec<String> = Vec::new();
    let end = |blocks: &mut String, came: &mut Vec<String>| {
        came.sort_by(|a, b| match sorted {
            true => a.cmp(b),
            false => connection(a).cmp(connection(b)),
        });
        came.drain(..).for_each(|line| blocks.extend([&line, "\n"]));
    };
    for line in listing.lines() {
        if !connection(line).is_empty() {
            let counted = line.starts_with("* published receivers=");
            came.push(if counted { "* published".into() } else { without_chosen(line) });
            continue;
        }
        end(&mut blocks, &mut came);
        blocks.extend([line, "\n"]);
    }
    end(&mut blocks, &mut came);
    blocks
}

fn without_chosen(line: &str) -> String {
    let mut parts = line.split("auto-");
    let first = parts.next().unwrap_or_default();
    let rest = parts.map(|part| part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    rest.fold(first.into(), |all, part| all + "auto-*" + part)
}

/// What a line of output belongs to: `name<`, or all of it if it is told; empty for input.
fn connection(line: &str) -> &str {
    match line.split_once(' ') {
        Some(("*", _)) => line,
        Some((name, _)) if name.ends_with('<') => name,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_identifier_a_shard_chose_is_left_out() {
        let line = "* connected a id=\"auto-dc07\" clean=1";
        assert_eq!(outside(line, false), line.replace("dc07", "*") + "\n");
    }

    const LISTING: &str = "a> x\nb< 2\nb< 1\n* published receivers=3\na< y\ntime: +1s\n";

    #[test]
    fn each_connection_keeps_its_order() {
        let seen = "a> x\n* published\na< y\nb< 2\nb< 1\ntime: +1s\n";
        assert_eq!(outside(LISTING, false), seen);
        assert_eq!(outside(LISTING, true), seen.replace("b< 2\nb< 1", "b< 1\nb< 2"));
        assert_ne!(outside(&LISTING.replace("published", "refused"), false), seen);
    }
}
