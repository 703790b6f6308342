//! Packets as people write them.

/// Bytes from hexadecimal digits; text in quotes stands for itself.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, part) in text.split('\'').enumerate() {
        if i % 2 == 1 {
            out.extend(part.bytes());
            continue;
        }
        for byte in part.split_whitespace() {
            out.push(u8::from_str_radix(byte, 16).expect("hexadecimal"));
        }
    }
    out
}
