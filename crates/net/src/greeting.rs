//! The name that a connection asks for in its first bytes: in TLS as `server_name`, in HTTP as `Host`. An address may serve many names.

/// What was found in the first bytes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Its name, in lower case.
    Name(String),
    /// It has none, or not in a way that everybody understands alike.
    Nameless,
    /// There are too few bytes to say.
    Unfinished,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Looks at what a connection has sent so far.
pub(crate) fn read(bytes: &[u8]) -> Greeting {
    let found = match bytes.first() {
        None => return Greeting::Unfinished,
        Some(&HANDSHAKE) => hello(bytes).map(|hello| server_name(&hello)),
        Some(b'A'..=b'Z') => head(bytes).map(host),
        Some(_) => return Greeting::Nameless,
    };
    match found {
        None => Greeting::Unfinished,
        Some(None) => Greeting::Nameless,
        Some(Some(name)) => Greeting::Name(skerry_types::egress::normal(&name)),
    }
}

/// The first message of a handshake, put together from its records. `None`: not all of it is there. What is none is empty.
fn hello(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        if let [CLIENT_HELLO, a, b, c, body @ ..] = message.as_slice() {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if let Some(body) = body.get(..length) {
                return Some(body.to_vec());
            }
        } else if !message.is_empty() && message[0] != CLIENT_HELLO {
            return Some(Vec::new());
        }
        let header = rest.get(..RECORD_HEADER)?;
        if header[0] != HANDSHAKE {
            return Some(Vec::new());
        }
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        message.extend_from_slice(rest.get(RECORD_HEADER..RECORD_HEADER + length)?);
        rest = &rest[RECORD_HEADER + length..];
    }
}

fn server_name(hello: &[u8]) -> Option<String> {
    let mut hello = Fields(hello);
    // The version and 32 random bytes.
    hello.take(34)?;
    hello.short()?;
    hello.long()?;
    hello.short()?;
    let mut extensions = Fields(hello.long()?);
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.long()?;
        if kind == SERVER_NAME {
            let mut list = Fields(Fields(content).long()?);
            let name = match (list.take(1)?, list.long()?) {
                ([HOST_NAME], name) if list.0.is_empty() => name,
                _ => return None,
            };
            if found.replace(name).is_some() {
                return None;
            }
        }
    }
    String::from_utf8(found?.to_vec()).ok()
}

/// The request's head. `None`: not all of it is there.
fn head(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(&bytes[..end])
}

/// The one `Host` of a request that is no request to a proxy. What servers could read in two ways has none.
fn host(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (_, target, version) = (words.next()?, words.next()?, words.next()?);
    if !target.starts_with('/') || !version.starts_with("HTTP/1.") || words.next().is_some() {
        return None;
    }
    let mut found = None;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if line.contains(['\r', '\n']) || name.contains([' ', '\t']) {
            return None;
        }
        if name.eq_ignore_ascii_case("host") && found.replace(value.trim()).is_some() {
            return None;
        }
    }
    let host = found?;
    match host.split_once(':') {
        None => Some(host.to_owned()),
        Some((name, port)) => port.parse::<u16>().ok().map(|_| name.to_owned()),
    }
}

/// Fields that say how long they are.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// After a length of one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    /// After a length of two bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn long(bytes: &[u8]) -> Vec<u8> {
        let mut field = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        field.extend_from_slice(bytes);
        field
    }

    /// A handshake's first message, cut into records of this size.
    fn client_hello(names: &[&str], record: usize) -> Vec<u8> {
        let mut extensions = vec![0, 0x0a, 0, 2, 0, 0];
        for name in names {
            let mut entry = vec![HOST_NAME];
            entry.extend(long(name.as_bytes()));
            extensions.extend([0, 0]);
            extensions.extend(long(&long(&entry)));
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([1, 9]);
        body.extend(long(&[0x13, 1]));
        body.extend([1, 0]);
        body.extend(long(&extensions));
        let mut message = vec![CLIENT_HELLO, 0];
        message.extend(long(&body));
        let mut bytes = Vec::new();
        for part in message.chunks(record) {
            bytes.extend([HANDSHAKE, 3, 1]);
            bytes.extend(long(part));
        }
        bytes
    }

    fn name(name: &str) -> Greeting {
        Greeting::Name(name.to_owned())
    }

    #[test]
    fn tls_says_its_name_once() {
        for record in [1, 7, 4096] {
            let bytes = client_hello(&["Example.org"], record);
            assert_eq!(read(&bytes), name("example.org"));
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), Greeting::Unfinished, "{cut}");
            }
        }
        assert_eq!(read(&client_hello(&[], 4096)), Greeting::Nameless);
        assert_eq!(
            read(&client_hello(&["a.b", "c.d"], 4096)),
            Greeting::Nameless
        );
        assert_eq!(read(&[HANDSHAKE, 3, 1, 0, 1, 2]), Greeting::Nameless);
    }

    #[test]
    fn http_says_its_name_in_one_way() {
        let ask = |text: &str| read(text.as_bytes());
        let one = "GET /a HTTP/1.1\r\nAccept: */*\r\nhOsT: Example.org:8080\r\n\r\nbody";
        assert_eq!(ask(one), name("example.org"));
        assert_eq!(ask(&one[..50]), Greeting::Unfinished);
        for bad in [
            "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.b\r\nHost: c.d\r\n\r\n",
            "GET / HTTP/1.1\r\nX: y\nHost: c.d\r\nHost: a.b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a.b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.b\r\n Host: c.d\r\n\r\n",
            "GET http://c.d/ HTTP/1.1\r\nHost: a.b\r\n\r\n",
            "CONNECT c.d:443 HTTP/1.1\r\nHost: a.b\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
            "\0\0",
        ] {
            assert_eq!(ask(bad), Greeting::Nameless, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, flips in prop::collection::vec((0_usize..120, any::<u8>()), 0..6)) {
            read(&bytes);
            let mut hello = client_hello(&["example.org"], 4096);
            for (at, to) in flips {
                if let Some(byte) = hello.get_mut(at) {
                    *byte = to;
                }
            }
            read(&hello);
        }
    }
}
