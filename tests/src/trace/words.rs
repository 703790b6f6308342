//! Lines of a trace file as words.

/// What a line is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// `text`, unquoted.
    Plain(String),
    /// `"text"`, with `\"`, `\\`, `\n` and `\xNN` for other bytes.
    Quoted(Vec<u8>),
    /// `key=value`, where the value may be quoted.
    Pair(String, Vec<u8>),
    /// `,`, between filters.
    Comma,
    /// `&`, between packets that arrive together.
    And,
}

/// Splits a line.
///
/// # Errors
/// What is wrong with it: a quotation that does not end, or an unknown escape.
pub(super) fn words(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => {
                let (text, used) = quoted(rest)?;
                words.push(Word::Quoted(text));
                used
            }
            ',' => {
                words.push(Word::Comma);
                1
            }
            '&' => {
                words.push(Word::And);
                1
            }
            _ => {
                let end = rest.find([' ', ',', '=']).unwrap_or(rest.len());
                let key = String::from(&rest[..end]);
                if rest[end..].starts_with("=\"") {
                    let (text, used) = quoted(&rest[end + 1..])?;
                    words.push(Word::Pair(key, text));
                    end + 1 + used
                } else if rest[end..].starts_with('=') {
                    let value = &rest[end + 1..];
                    let used = value.find([' ', ',']).unwrap_or(value.len());
                    words.push(Word::Pair(key, value[..used].into()));
                    end + 1 + used
                } else {
                    words.push(Word::Plain(key));
                    end
                }
            }
        };
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

/// The text of a quotation and the bytes it takes.
fn quoted(text: &str) -> Result<(Vec<u8>, usize), String> {
    let mut out = Vec::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, at + 1)),
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push(b'\n'),
                Some((_, c @ ('"' | '\\'))) => out.push(c as u8),
                Some((at, 'x')) => {
                    let digits = text.get(at + 1..at + 3).ok_or("\\x wants two digits")?;
                    let byte = u8::from_str_radix(digits, 16).map_err(|e| e.to_string())?;
                    out.push(byte);
                    chars.nth(1);
                }
                other => return Err(format!("unknown escape {other:?}")),
            },
            _ => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Err(String::from("a quotation does not end"))
}

/// A number, decimal or as `0x..`.
///
/// # Errors
/// If it is none, or too large for its type.
pub(super) fn number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let value = parsed.map_err(|_| format!("{text:?} is no number"))?;
    T::try_from(value).map_err(|_| format!("{text} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_into_words_pairs_and_quotations() {
        let line = r#"PUBLISH 7 a/b qos=1 user="a b" "x\"\n\x00ä", & ok"#;
        let plain = |text: &str| Word::Plain(text.into());
        let pair = |key: &str, value: &str| Word::Pair(key.into(), value.into());
        let expected = [
            plain("PUBLISH"),
            plain("7"),
            plain("a/b"),
            pair("qos", "1"),
            pair("user", "a b"),
            Word::Quoted("x\"\n\0ä".into()),
            Word::Comma,
            Word::And,
            plain("ok"),
        ];
        assert_eq!(words(line).unwrap(), expected);
        assert!(words("\"a").is_err());
        assert!(words(r#""\q""#).is_err());
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal_and_fit_their_type() {
        assert_eq!(number::<u8>("0x8f"), Ok(0x8f));
        assert_eq!(number::<u16>("70"), Ok(70));
        assert!(number::<u8>("256").is_err());
        assert!(number::<u8>("x").is_err());
    }
}
