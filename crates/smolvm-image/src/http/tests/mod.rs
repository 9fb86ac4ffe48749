//! The client against real servers and proxies, over real sockets.

mod bodies;
mod cancel;
mod credentials;
mod kept;
mod peer;
mod proxies;
mod redirects;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use super::{Client, ClientConfig, Credentials, HttpError, Proxies, Response};
use crate::cancel::CancelToken;

/// Longer than any test: what waits for this long hangs.
const FOREVER: Duration = Duration::from_hours(24);

fn client() -> Client {
    Client::new(ClientConfig { stall: FOREVER, ..ClientConfig::default() })
}

/// A client that gives up soon.
fn impatient_client() -> Client {
    let stall = Duration::from_millis(200);
    Client::new(ClientConfig { stall, ..ClientConfig::default() })
}

/// A client with this CA file and this proxy for all URLs.
fn client_via(proxy: Option<&str>, extra_ca_file: Option<PathBuf>) -> Client {
    let var = |name: &str| proxy.filter(|_| name == "all_proxy").map(str::to_owned);
    let proxies = Proxies::from_vars(var);
    Client::new(ClientConfig { extra_ca_file, proxies, ..ClientConfig::default() })
}

fn get(client: &Client, url: &str) -> Result<Response, HttpError> {
    client.get(&url.parse().unwrap(), &[], None, &CancelToken::new())
}

/// The whole body, read in pieces of an odd size.
fn read_all(response: &mut Response) -> Result<Vec<u8>, HttpError> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 997]);
    loop {
        match response.body.read(&mut buffer)? {
            0 => return Ok(bytes),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

fn download(client: &Client, url: &str) -> Result<Vec<u8>, HttpError> {
    read_all(&mut get(client, url)?)
}

/// An error with all its causes, as people see it.
fn report(error: &HttpError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
