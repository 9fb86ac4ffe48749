//! A nonce as a text of hexadecimal digits.

use smolvm_protocol::Nonce;

pub(super) fn encode(nonce: &Nonce) -> String {
    nonce.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn decode(text: &str) -> Option<Nonce> {
    let mut nonce = Nonce::default();
    if text.len() != nonce.len() * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in nonce.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(nonce)
}
