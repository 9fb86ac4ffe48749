//! What the packet filter reads of questions for addresses and of their answers (RFC 1035), and
//! the answer to a question that may not be asked.

use std::net::Ipv4Addr;

/// A question of a guest's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// The name in lower case, without a dot at the end.
    pub(crate) name: String,
    /// Where the question ends in the message.
    end: usize,
}

/// An address that an answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) address: Ipv4Addr,
    /// For how many seconds it may be used.
    pub(crate) seconds: u32,
}

const HEADER: usize = 12;
/// The longest message that is looked at; without EDNS they have 512 bytes.
pub(crate) const LONGEST: usize = 4096;
/// The most records of an answer that are looked at.
const MOST_RECORDS: usize = 256;

/// In the third byte of the header: this is a response.
const RESPONSE: u8 = 0x80;
/// In the third byte of the header: what is asked for; 0 is a standard query.
const OPERATION: u8 = 0x78;
/// In the third byte of the header: recursion is desired.
const RECURSION_DESIRED: u8 = 1;
/// In the fourth byte of the header: recursion is available.
const RECURSION_AVAILABLE: u8 = 0x80;
/// In the fourth byte of the header: there is no such name.
const NO_SUCH_NAME: u8 = 3;

const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;

/// The one question of a standard query. `None`: it is something else, or malformed.
pub(crate) fn question(message: &[u8]) -> Option<Question> {
    if message.len() > LONGEST || message.get(2)? & (RESPONSE | OPERATION) != 0 {
        return None;
    }
    one_question(message)
}

/// The addresses that the response to a question tells, and the question. `None`: it is no
/// response to one question.
pub(crate) fn answers(message: &[u8]) -> Option<(Question, Vec<Address>)> {
    if message.len() > LONGEST || message.get(2)? & (RESPONSE | OPERATION) != RESPONSE {
        return None;
    }
    let question = one_question(message)?;
    let count = usize::from(number(message, 6)?).min(MOST_RECORDS);
    let (mut found, mut at) = (Vec::new(), question.end);
    for _ in 0..count {
        let Some(data) = skip_name(message, at) else { break };
        let fields = (|| {
            let kind = number(message, data)?;
            let class = number(message, data + 2)?;
            let seconds = u32::from(number(message, data + 4)?) << 16;
            let seconds = seconds | u32::from(number(message, data + 6)?);
            Some((kind, class, seconds, usize::from(number(message, data + 8)?)))
        })();
        let Some((kind, class, seconds, length)) = fields else { break };
        let Some(content) = message.get(data + 10..data + 10 + length) else { break };
        if let (TYPE_A, CLASS_IN, &[a, b, c, d]) = (kind, class, content) {
            found.push(Address { address: Ipv4Addr::new(a, b, c, d), seconds });
        }
        at = data + 10 + length;
    }
    Some((question, found))
}

/// The response that there is no such name. Some programs wait after a refusal; this one they all
/// take for an answer.
pub(crate) fn no_such_name(message: &[u8], question: &Question) -> Vec<u8> {
    let mut response = vec![0; HEADER];
    response[..2].copy_from_slice(&message[..2]);
    response[2] = RESPONSE | message[2] & RECURSION_DESIRED;
    response[3] = RECURSION_AVAILABLE | NO_SUCH_NAME;
    response[5] = 1;
    response.extend_from_slice(&message[HEADER..question.end]);
    response
}

fn one_question(message: &[u8]) -> Option<Question> {
    if number(message, 4)? != 1 {
        return None;
    }
    let (mut name, mut at) = (String::new(), HEADER);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // A question has nothing before it that it could point to.
        if length > 63 || name.len() + length > 254 {
            return None;
        }
        for &byte in message.get(at..at + length)? {
            // No name that is allowed has other characters, and a dot would be read as two labels.
            if !byte.is_ascii_graphic() || byte == b'.' {
                return None;
            }
            name.push(char::from(byte.to_ascii_lowercase()));
        }
        name.push('.');
        at += length;
    }
    name.pop();
    // Its type and class.
    message.get(at..at + 4)?;
    Some(Question { name, end: at + 4 })
}

/// Where what follows a name begins.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            // A pointer to the rest.
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    let &[high, low] = message.get(at..at + 2)? else { return None };
    Some(u16::from_be_bytes([high, low]))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A query for the address of a name.
    pub(crate) fn query(name: &str) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        message
    }

    /// The response to it: an alias, then these addresses.
    pub(crate) fn response(name: &str, addresses: &[(Ipv4Addr, u32)]) -> Vec<u8> {
        let mut message = query(name);
        message[2] |= RESPONSE;
        message[7] = u8::try_from(1 + addresses.len()).unwrap();
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'x', 0xc0, 12]);
        for (address, seconds) in addresses {
            message.extend([1, b'x', 0xc0, 12, 0, 1, 0, 1]);
            message.extend(seconds.to_be_bytes());
            message.extend([0, 4]);
            message.extend(address.octets());
        }
        message
    }

    #[test]
    fn questions_are_read() {
        let message = query("Www.Example.COM");
        let question = question(&message).unwrap();
        assert_eq!(question.name, "www.example.com");
        let response = no_such_name(&message, &question);
        assert_eq!(response[..4], [0x12, 0x34, 0x81, 0x83]);
        assert_eq!(response[12..], message[12..]);
        assert_eq!(answers(&response), Some((question, vec![])));
    }

    #[test]
    fn what_is_not_one_plain_question_is_none() {
        let good = query("a.example");
        for (at, byte) in [
            (2, RESPONSE),
            (2, 0x28),
            (5, 0),
            (5, 2),
            (4, 1),
            (12, 0xc0),
            (12, 64),
            (13, b'.'),
            (13, b' '),
            (13, 0xff),
        ] {
            let mut message = good.clone();
            message[at] = byte;
            assert_eq!(question(&message), None, "{at}: {byte}");
        }
        for length in 0..good.len() {
            assert_eq!(question(&good[..length]), None, "{length}");
        }
        assert_eq!(question(&query(&["a"; 128].join("."))), None);
        assert_eq!(question(&[0; LONGEST + 1]), None);
    }

    #[test]
    fn answers_are_read_through_aliases() {
        let addresses =
            [(Ipv4Addr::new(203, 0, 113, 7), 300), (Ipv4Addr::new(9, 9, 9, 9), 1 << 20)];
        let message = response("a.example", &addresses);
        let (question, found) = answers(&message).unwrap();
        assert_eq!(question.name, "a.example");
        let expected = addresses.map(|(address, seconds)| Address { address, seconds });
        assert_eq!(found, expected);
        // What is cut off tells less, and never something else.
        for length in 0..message.len() {
            if let Some((_, fewer)) = answers(&message[..length]) {
                assert!(expected.starts_with(&fewer), "{length}");
            }
        }
        assert_eq!(answers(&query("a.example")), None);
    }
}
