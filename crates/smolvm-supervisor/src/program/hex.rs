//! A nonce as a text of hexadecimal digits.

use smolvm_protocol::Nonce;

pub(super) fn encode(nonce: &Nonce) -> String {
    format!("{:032x}", u128::from_be_bytes(*nonce))
}

pub(super) fn decode(text: &str) -> Option<Nonce> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)).flatten()
}
