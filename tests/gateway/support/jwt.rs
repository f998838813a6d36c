//! Issuers of JSON Web Tokens: what their tokens say, and a server that has their keys.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hubgate::tls::{Chain, Identity, Key, MinVersion, ServerTls};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::eventually_equal;
use super::pki::{Authority, Subject};

#[path = "../../../src/jwt/tests/signing.rs"]
mod signing;

pub(crate) use signing::{ISSUER, SUBJECT, SigningKey, claims, jwks};

/// A credential: tokens of [`SigningKey`] for an audience. `keys` says where the keys are, in YAML
/// flow style.
pub(crate) fn jwt(audience: &str, keys: &str) -> String {
    jwt_of(ISSUER, audience, keys)
}

/// As [`jwt`], of another issuer.
pub(crate) fn jwt_of(issuer: &str, audience: &str, keys: &str) -> String {
    format!(
        "{{jwt: {{issuer: \"{issuer}\", audience: {audience}, subject: \"{SUBJECT}\", {keys}}}}}"
    )
}

/// What a [`KeyServer`] does with each connection.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Responds with 200 and this text.
    Text(String),
    /// Sends these bytes.
    Raw(Vec<u8>),
    /// Says nothing.
    Silence,
    /// Closes it.
    Close,
}

/// A scripted server of keys.
pub(crate) struct KeyServer {
    url: String,
    state: Arc<Mutex<State>>,
    _task: AbortOnDropHandle<()>,
}

struct State {
    replies: Vec<(String, Reply)>,
    requests: Vec<String>,
}

impl KeyServer {
    /// A server that responds on each path with this.
    pub(crate) async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener, reply, None)
    }

    /// As [`Self::start`], with TLS and a certificate of an authority.
    pub(crate) async fn start_tls(
        reply: Reply,
        authority: &Authority,
        subject: &Subject<'_>,
    ) -> Self {
        let (chain, key) = authority.issue(subject);
        let chain = Chain::from_pem(chain.as_bytes()).unwrap();
        let key = Key::from_pem(key.as_bytes()).unwrap();
        let identity = Identity::new(&chain, &key).unwrap();
        let tls = ServerTls::new(&identity, None, MinVersion::Tls12).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener, reply, Some(tls))
    }

    fn serve(listener: TcpListener, reply: Reply, tls: Option<ServerTls>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            replies: vec![(String::new(), reply)],
            requests: Vec::new(),
        }));
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (serving, tls) = (Arc::clone(&serving), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else {
                        return answer(stream, serving).await;
                    };
                    let acceptor = TlsAcceptor::from(Arc::clone(tls.config()));
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, serving).await;
                    }
                });
            }
        });
        Self {
            url,
            state,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Its URL without a path.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Responds with this from now on, on all paths that [`Self::reply_on`] does not name.
    pub(crate) fn reply(&self, reply: Reply) {
        self.reply_on("", reply);
    }

    /// Responds with this on paths with this beginning.
    pub(crate) fn reply_on(&self, path: &str, reply: Reply) {
        let mut state = self.state.lock().unwrap();
        state.replies.retain(|(other, _)| other != path);
        state.replies.push((path.to_owned(), reply));
        state
            .replies
            .sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    }

    /// The heads of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Waits until this number of requests came.
    pub(crate) async fn wait_for_requests(&self, number: usize, deadline: Duration) {
        let seen = async || Some(self.requests().len().min(number));
        eventually_equal("requests for keys", deadline, Some(number), seen).await;
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let reply = {
        let mut state = state.lock().unwrap();
        state.requests.push(head);
        let mut replies = state.replies.iter();
        let found = replies.find(|(start, _)| path.starts_with(start.as_str()));
        found.unwrap().1.clone()
    };
    let bytes = match reply {
        Reply::Text(text) => ok(&text).into_bytes(),
        Reply::Raw(bytes) => bytes,
        Reply::Close => return,
        Reply::Silence => {
            let _ = stream.read_u8().await;
            return;
        }
    };
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

/// A response with a text.
pub(crate) fn ok(text: &str) -> String {
    let length = text.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}")
}
