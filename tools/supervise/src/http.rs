//! `GET` requests to a server on this machine, over a plain socket.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// A server's answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, as far as it is text, and its first 64 KiB at most.
    pub body: String,
}

/// Returns the status of `GET path`, whichever it is.
///
/// # Errors
///
/// There is no answer within two seconds.
pub fn status(server: SocketAddr, path: &str) -> Result<u16> {
    Ok(get(server, path)?.status)
}

/// Returns the answer to `GET path`, whichever it is.
///
/// # Errors
///
/// There is none within two seconds.
pub fn get(server: SocketAddr, path: &str) -> Result<Answer> {
    exchange(server, path).with_context(|| format!("{server} doesn't answer"))
}

fn exchange(server: SocketAddr, path: &str) -> io::Result<Answer> {
    let deadline = Instant::now() + TIMEOUT;
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut buffer)?;
        received.extend_from_slice(&buffer[..count]);
        let ended = count == 0 || received.len() > LIMIT;
        if let Some(answer) = parse(&received, ended) {
            return Ok(answer);
        }
        if ended {
            return Err(io::Error::new(ErrorKind::InvalidData, "the answer isn't HTTP, or isn't complete"));
        }
    }
}

/// Parses a response of which nothing more comes if `ended`; `None` if it is incomplete.
fn parse(response: &[u8], ended: bool) -> Option<Answer> {
    let body_at = response.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let (head, body) = response.split_at(body_at);
    let head = String::from_utf8_lossy(head);
    let (status_line, headers) = head.split_once("\r\n")?;
    let status = status_line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let header = |wanted: &str| {
        let mut fields = headers.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    let (body, complete) = if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        unchunked(body)
    } else {
        let length = header("content-length").and_then(|value| value.parse::<usize>().ok());
        (body.to_vec(), length.is_some_and(|length| body.len() >= length))
    };
    (complete || ended).then(|| Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Returns the content of the chunks, and whether the last one is among them.
fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::new();
    while let Some(line_end) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..line_end]);
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
        let chunk = &rest[line_end + 2..];
        match size {
            Ok(0) => return (content, true),
            Ok(size) if chunk.len() >= size.saturating_add(2) => {
                content.extend_from_slice(&chunk[..size]);
                rest = &chunk[size + 2..];
            }
            Ok(_) | Err(_) => break,
        }
    }
    (content, false)
}

const TIMEOUT: Duration = Duration::from_secs(2);
const LIMIT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    fn answer(status: u16, body: &str) -> Option<Answer> {
        Some(Answer { status, body: body.to_owned() })
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        let with_length = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nwrong";
        assert_eq!(parse(with_length, false), answer(503, "wrong"));
        assert_eq!(parse(&with_length[..with_length.len() - 1], false), None);

        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked, false), answer(200, "abcde"));
        assert_eq!(parse(&chunked[..chunked.len() - 6], false), None);

        let until_the_end = b"HTTP/1.0 204 No Content\r\n\r\n";
        assert_eq!(parse(until_the_end, false), None);
        assert_eq!(parse(until_the_end, true), answer(204, ""));
    }

    #[test]
    fn a_server_that_speaks_something_else_does_not_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = thread::spawn(move || listener.accept().unwrap().0.write_all(b"SSH-2.0-server\r\n").unwrap());

        let error = get(addr, "/").unwrap_err();

        server.join().unwrap();
        assert!(error.to_string().contains("doesn't answer"), "{error:#}");
    }
}
