//! HTTPS to a target of an SRV record: connected to the target, with TLS validated for the server name, which is also
//! `Host`.
//!
//! How it works:
//! - `fetch` connects to the host in the URL, so this opens a TCP socket of the platform instead;
//! - the socket is upgraded with `startTls`, with the server name as the expected host of the certificate;
//! - hyper speaks HTTP/1.1 over it: one request, then the connection is closed.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use js_sys::futures::JsFuture;
use js_sys::{Object, Promise, Reflect};
use wasm_bindgen::prelude::*;
use worker::{Socket, worker_sys};

use crate::fetch::{Deadline, FetchError, USER_AGENT};
use crate::matrix::federation::dns::SrvTarget;

/// GETs `path_and_query` from `target` under the server name `name`. Returns the status and a body of at most `limit`
/// bytes.
pub async fn get(
    target: &SrvTarget,
    name: &str,
    path_and_query: &str,
    limit: usize,
    deadline: &Deadline,
) -> Result<(u16, Vec<u8>), FetchError> {
    let exchange = exchange(target, name, path_and_query, limit);
    deadline.bound(exchange).await.unwrap_or(Err(FetchError::TimedOut))
}

async fn exchange(
    target: &SrvTarget,
    name: &str,
    path_and_query: &str,
    limit: usize,
) -> Result<(u16, Vec<u8>), FetchError> {
    let request = hyper::Request::get(path_and_query)
        .header("Host", name)
        .header("User-Agent", USER_AGENT)
        .header("Connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(failed)?;
    let address = format!("{}:{}", target.host, target.port);
    let socket = connect(&address, &options("secureTransport", "starttls")?)?;
    // Only this promise fails for a socket that never opens, not the upgraded socket.
    let opened = Deadline::after(CONNECT_TIMEOUT).bound(JsFuture::from(socket.opened()?)).await;
    opened.ok_or(FetchError::TimedOut)??;
    let socket = socket.start_tls(&options("expectedServerHostname", name)?).map_err(|_| failed(NOT_VALIDATED))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(Socket::from(socket))).await.map_err(failed)?;
    let received = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        match Limited::new(response.into_body(), limit).collect().await {
            Ok(body) => Ok((status, body.to_bytes().to_vec())),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(FetchError::TooLarge),
            Err(error) => Err(failed(error)),
        }
    };
    match select(pin!(received), pin!(connection)).await {
        Either::Left((received, _)) => received,
        // The connection may end before its body has been taken.
        Either::Right((Ok(()), received)) => received.await,
        Either::Right((Err(error), _)) => Err(failed(error)),
    }
}

fn failed(error: impl ToString) -> FetchError {
    FetchError::Failed(error.to_string())
}

fn options(name: &str, value: &str) -> Result<Object, JsValue> {
    let options = Object::new();
    Reflect::set(&options, &name.into(), &value.into())?;
    Ok(options)
}

#[wasm_bindgen(module = "cloudflare:sockets")]
extern "C" {
    #[wasm_bindgen(catch)]
    fn connect(address: &str, options: &Object) -> Result<PlainSocket, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    type PlainSocket;

    #[wasm_bindgen(method, catch, getter)]
    fn opened(this: &PlainSocket) -> Result<Promise, JsValue>;

    // The binding in the crate `worker` takes no options, so it can't pass the expected host.
    #[wasm_bindgen(method, catch, js_name = startTls)]
    fn start_tls(this: &PlainSocket, options: &Object) -> Result<worker_sys::Socket, JsValue>;
}

/// As on Cloudflare, where `startTls` refuses an expected host; workerd may do so one day, too.
const NOT_VALIDATED: &str = "the platform can't validate TLS to the target of an SRV record: the homeserver must serve \
                             /.well-known/matrix/server, or LIVEKIT_FEDERATION_URL_OVERRIDES must name its URL";

/// Leaves time for the next target within the 10 s of a verification.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
