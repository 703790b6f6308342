//! YAML as a tree in which everything knows its place.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::ConfigError;

/// What a YAML file can hold.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Flag(bool),
    Number(i128),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Value>>),
    Map(Vec<(Spanned<String>, Spanned<Value>)>),
}

/// As a person would name it in a sentence.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("empty"),
            Self::Flag(on) => on.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a group of keys"),
        }
    }
}

/// Reads one document.
pub(super) fn parse(yaml: &str) -> Result<Spanned<Value>, ConfigError> {
    serde_saphyr::from_str(yaml).map_err(|error| explain(yaml, &error))
}

/// Says where and in one sentence why the file is not YAML.
fn explain(yaml: &str, error: &serde_saphyr::Error) -> ConfigError {
    use serde_saphyr::{Error, SnippetMode, render_options};

    let place = error.location().map_or((0, 0), |place| (place.line(), place.column()));
    let mut message = match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("{key:?} is given twice"),
        Error::MultipleDocuments { .. } => "only one YAML document is allowed".into(),
        other => {
            let plain = render_options! { snippets: SnippetMode::Off };
            let text = other.render_with_options(plain);
            let end = text.rfind(" at line ").unwrap_or(text.len());
            text[..end].into()
        }
    };
    let line = usize::try_from(place.0.saturating_sub(1)).ok().and_then(|n| yaml.lines().nth(n));
    if line.is_some_and(|line| line.contains(" [:") || line.contains("]:")) {
        message += " (an IPv6 address must stand in quotes: \"[::1]:1883\")";
    }
    ConfigError { line: place.0, column: place.1, message }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, on: bool) -> Result<Value, E> {
        Ok(Value::Flag(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_know_their_places() {
        let root = parse("# head\nlisteners:\n  - addr: x\n").expect("this is YAML");
        let Value::Map(entries) = root.value else { panic!("not a map") };
        let (key, value) = &entries[0];
        assert_eq!((key.referenced.line(), key.referenced.column()), (2, 1));
        let Value::List(items) = &value.value else { panic!("not a list") };
        let Value::Map(entries) = &items[0].value else { panic!("not a map") };
        assert_eq!((entries[0].1.referenced.line(), entries[0].1.referenced.column()), (3, 11));
    }

    #[test]
    fn what_is_no_yaml_is_explained_in_one_line() {
        for (yaml, line, words) in [
            ("a: 1\na: 2\n", 2, "\"a\" is given twice"),
            ("a: [1", 1, "unclosed"),
            ("a: 1\n---\nb: 2\n", 3, "only one YAML document"),
            ("addr: [::1]:1883\n", 1, "in quotes"),
            ("[a]: 1\n", 1, "expected string"),
        ] {
            let error = parse(yaml).expect_err(yaml);
            assert_eq!(error.line, line, "{yaml}");
            assert!(error.message.contains(words), "{}", error.message);
            assert!(!error.message.contains('\n'), "{}", error.message);
            assert!(!error.message.contains("Options"), "{}", error.message);
        }
    }
}
