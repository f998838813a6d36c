//! The attacks: what each connection of an attacker does until the gate closes it, which is when the
//! attacker opens the next one.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hubgate::remote_write::WRITE_PATH;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::dial::Dial;
use crate::gate::{ROGUE_TOKEN, USERNAME};
use crate::http2;
use crate::jwt;
use crate::rogue::Load;

/// The pause after a connection that could not be opened.
const DIAL_PAUSE: Duration = Duration::from_millis(50);

/// What a ClientHello of 508 bytes begins with.
const HELLO: [u8; 9] = [22, 3, 1, 2, 0, 1, 0, 1, 252];

/// The frames that are sent in one piece.
const FRAMES_AT_ONCE: u32 = 100;

/// What attackers do, and how many of them there are.
#[derive(Debug, Clone)]
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    means: Means,
    pub(crate) layer: Layer,
    /// Connections at once.
    pub(crate) connections: usize,
    /// It ends with so many attempts.
    pub(crate) attempts_wanted: Option<u64>,
    /// `listen.connections_max` of the gate, if not its default.
    pub(crate) connections_max: Option<usize>,
    /// Whether the attackers are trusted proxies.
    pub(crate) trusted: bool,
    /// The gate's limit of open files, if not that of the system.
    pub(crate) open_files_max: Option<usize>,
    /// The `limits` of the spoke that misbehaves, where it has some.
    samples_per_second: Option<usize>,
    active_series_max: Option<usize>,
    /// It sends to a hub of its own, and nothing to the gate: what the load costs the honest spoke because all of
    /// it runs on one machine.
    pub(crate) beside: bool,
    /// What the hub takes for each request at least.
    pub(crate) hub_time: Duration,
    /// Its requests have so many times fewer series.
    pub(crate) scale: usize,
}

/// How many times smaller a smoke test is.
const SMOKE_SCALE: usize = 50;

/// What a Prometheus takes for a request, about.
const HUB_TIME: Duration = Duration::from_millis(10);

/// A smoke test of an attack with a number of attempts makes so many at least.
const SMOKE_ATTEMPTS_MIN: u64 = 100;

/// What an attack is on top of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// TCP, of a gate without TLS.
    Plain,
    /// TCP, of a gate that speaks TLS.
    BeforeTls,
    /// TLS.
    Tls,
    /// TLS, with certificates that no authority issued, of a gate that asks for them.
    FalseCertificates,
}

impl Layer {
    /// Whether the gate speaks TLS.
    pub(crate) fn gate_speaks_tls(self) -> bool {
        self != Self::Plain
    }
}

/// What one connection of an attacker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// Nothing.
    Idle,
    /// It sends a head, one byte each half second.
    SlowHead,
    /// It sends a body as a spoke that is known, a little faster than what counts as stalled.
    SlowBody,
    /// It sends random bytes.
    Garbage,
    /// It closes the connection, which has cost a handshake over TLS.
    Leave,
    /// It sends a ClientHello, one byte each half second.
    SlowHello,
    /// It sends a request with a token that no spoke has.
    WrongToken,
    /// It sends a request with a user name that exists and a password that is wrong.
    WrongPassword,
    /// It sends a request with a JWT that claims to be a spoke's, and has a wrong signature.
    ForgedJwt,
    /// As a trusted proxy, it sends a request with a long `X-Forwarded-For`.
    ForwardedFor,
    /// It opens streams of HTTP/2 and resets them.
    RapidReset,
    /// It sends headers that never end.
    Continuation,
    /// It sends SETTINGS, each of which is to be acknowledged.
    Settings,
    /// It sends PING, each of which is to be answered.
    Ping,
    /// It announces 32 MiB as a spoke that is known, and sends none of them.
    Announce,
    /// It writes as a spoke that is known. That is the work of a process of its own.
    Write(Load),
}

/// What the attackers have done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    attempts: AtomicU64,
    failure: OnceLock<String>,
}

impl Tally {
    /// Connections, requests or frames.
    pub(crate) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// What went wrong that must not.
    pub(crate) fn failure(&self) -> Option<&String> {
        self.failure.get()
    }

    pub(crate) fn add(&self, attempts: u32) {
        self.attempts.fetch_add(attempts.into(), Ordering::Relaxed);
    }

    pub(crate) fn fail(&self, failure: String) {
        // The first one tells most.
        let _ = self.failure.set(failure);
    }
}

impl Attack {
    /// Every attack in full size.
    pub(crate) fn all() -> Vec<Self> {
        let attack = |name, means, connections| Self {
            name,
            means,
            layer: Layer::Plain,
            connections,
            attempts_wanted: None,
            connections_max: None,
            trusted: false,
            open_files_max: None,
            samples_per_second: None,
            active_series_max: None,
            beside: false,
            hub_time: Duration::ZERO,
            scale: 1,
        };
        let before_tls = |name, means, connections| Self {
            layer: Layer::BeforeTls,
            ..attack(name, means, connections)
        };
        let over_tls = |name, means, connections| Self {
            layer: Layer::Tls,
            ..attack(name, means, connections)
        };
        vec![
            attack("2,000 slow heads", Means::SlowHead, 2_000),
            attack("1,000 slow bodies of a spoke", Means::SlowBody, 1_000),
            Self {
                connections_max: Some(12_000),
                ..attack("10,000 idle connections, all open", Means::Idle, 10_000)
            },
            attack(
                "10,000 idle connections for 4,096 places",
                Means::Idle,
                10_000,
            ),
            Self {
                open_files_max: Some(256),
                ..attack("2,000 idle connections, 256 open files", Means::Idle, 2_000)
            },
            attack("garbage", Means::Garbage, 64),
            // More than the responses that hubgate holds back, so that some guess at full speed.
            Self {
                attempts_wanted: Some(1_000_000),
                ..attack("a million wrong tokens", Means::WrongToken, 512)
            },
            attack("wrong passwords", Means::WrongPassword, 128),
            attack("HTTP/2 rapid reset", Means::RapidReset, 16),
            attack("HTTP/2 CONTINUATION flood", Means::Continuation, 16),
            attack("HTTP/2 SETTINGS flood", Means::Settings, 16),
            attack("HTTP/2 PING flood", Means::Ping, 16),
            attack("forged JWTs", Means::ForgedJwt, 512),
            Self {
                trusted: true,
                ..attack("long X-Forwarded-For", Means::ForwardedFor, 64)
            },
            attack(
                "a spoke that announces 32 MiB, 1,000 times",
                Means::Announce,
                1_000,
            ),
            attack(
                "a spoke at full speed, 64 connections",
                Means::Write(Load::Usual),
                64,
            ),
            Self {
                beside: true,
                ..attack(
                    "the same 64 connections to a hub of their own",
                    Means::Write(Load::Usual),
                    64,
                )
            },
            Self {
                hub_time: HUB_TIME,
                ..attack(
                    "the same 64 connections, and a hub that takes 10 ms",
                    Means::Write(Load::Usual),
                    64,
                )
            },
            Self {
                samples_per_second: Some(50_000),
                ..attack(
                    "a spoke at full speed, limited to 50,000 samples/s",
                    Means::Write(Load::Usual),
                    64,
                )
            },
            attack(
                "a spoke with giant bodies, 16 connections",
                Means::Write(Load::Giant),
                16,
            ),
            Self {
                beside: true,
                ..attack(
                    "the same 16 connections to a hub of their own",
                    Means::Write(Load::Giant),
                    16,
                )
            },
            Self {
                hub_time: HUB_TIME,
                ..attack(
                    "the same 16 connections, and a hub that takes 10 ms",
                    Means::Write(Load::Giant),
                    16,
                )
            },
            // A million series.
            Self {
                attempts_wanted: Some(500),
                active_series_max: Some(100_000),
                ..attack(
                    "a spoke with a million new series for 100,000 places",
                    Means::Write(Load::New),
                    8,
                )
            },
            before_tls("TLS: 2,000 connections that stall", Means::Idle, 2_000),
            before_tls("TLS: 2,000 slow handshakes", Means::SlowHello, 2_000),
            before_tls("TLS: garbage in place of a handshake", Means::Garbage, 64),
            over_tls("TLS: garbage after the handshake", Means::Garbage, 64),
            over_tls("TLS: handshakes at full speed", Means::Leave, 64),
            Self {
                layer: Layer::FalseCertificates,
                ..over_tls("TLS: certificates of nobody", Means::Leave, 64)
            },
            over_tls("TLS: 2,000 slow heads", Means::SlowHead, 2_000),
            over_tls("TLS: 1,000 slow bodies of a spoke", Means::SlowBody, 1_000),
            Self {
                connections_max: Some(12_000),
                ..over_tls(
                    "TLS: 10,000 idle connections, all open",
                    Means::Idle,
                    10_000,
                )
            },
            over_tls("TLS: HTTP/2 rapid reset", Means::RapidReset, 16),
            over_tls("TLS: HTTP/2 CONTINUATION flood", Means::Continuation, 16),
            over_tls("TLS: HTTP/2 SETTINGS flood", Means::Settings, 16),
            over_tls("TLS: HTTP/2 PING flood", Means::Ping, 16),
        ]
    }

    /// What a spoke sends that misbehaves.
    pub(crate) fn load(&self) -> Option<Load> {
        match self.means {
            Means::Write(load) => Some(load),
            _ => None,
        }
    }

    /// What it speaks above TLS.
    pub(crate) fn alpn(&self) -> &'static [u8] {
        use Means::{Continuation, Ping, RapidReset, Settings};
        match self.means {
            RapidReset | Continuation | Settings | Ping => b"h2",
            _ => b"http/1.1",
        }
    }

    /// The `limits` of the spoke that misbehaves.
    pub(crate) fn limits(&self) -> String {
        let limits = [
            ("samples_per_second", self.samples_per_second),
            ("active_series_max", self.active_series_max),
        ];
        let limits = limits.into_iter();
        let limits = limits.filter_map(|(key, limit)| Some(format!("{key}: {}", limit?)));
        format!("{{{}}}", limits.collect::<Vec<_>>().join(", "))
    }

    /// The same attack with few connections and small requests, for a smoke test.
    pub(crate) fn scaled_down(self) -> Self {
        let scaled = |number: usize| number / SMOKE_SCALE;
        let attempts = |wanted: u64| (wanted / 5_000).max(SMOKE_ATTEMPTS_MIN);
        Self {
            connections: scaled(self.connections).clamp(4, 100),
            attempts_wanted: self.attempts_wanted.map(attempts),
            connections_max: self.connections_max.map(scaled),
            samples_per_second: self.samples_per_second.map(scaled),
            active_series_max: self.active_series_max.map(scaled),
            scale: SMOKE_SCALE,
            ..self
        }
    }

    /// Starts the attackers. They end when the result is dropped.
    pub(crate) fn start<D: Dial>(&self, dial: D, tally: &Arc<Tally>) -> JoinSet<()> {
        let mut attackers = JoinSet::new();
        for _ in 0..self.connections {
            let (means, dial, tally) = (self.means, dial.clone(), Arc::clone(tally));
            attackers.spawn(async move {
                loop {
                    match dial.dial().await {
                        // The gate is to close it.
                        Ok(stream) => drop(means.attack(stream, &tally).await),
                        Err(_) => sleep(DIAL_PAUSE).await,
                    }
                }
            });
        }
        attackers
    }
}

impl Means {
    /// Attacks over one connection until the gate closes it.
    async fn attack<S>(self, stream: S, tally: &Tally) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let closed = async {
            let mut buffer = [0; 4096];
            while reader.read(&mut buffer).await? > 0 {}
            io::Result::Ok(())
        };
        let writing = async {
            self.write(&mut writer, tally).await?;
            // What is to come is the response.
            std::future::pending::<io::Result<()>>().await
        };
        tokio::select! {
            closed = closed => closed,
            failed = writing => failed,
        }
    }

    async fn write<S>(self, writer: &mut WriteHalf<S>, tally: &Tally) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite,
    {
        match self {
            Self::Idle => tally.add(1),
            Self::SlowHead => {
                tally.add(1);
                for byte in head("Bearer", "nobody", 1).bytes() {
                    writer.write_all(&[byte]).await?;
                    sleep(Duration::from_millis(500)).await;
                }
            }
            Self::SlowBody => {
                tally.add(1);
                let head = head("Bearer", ROGUE_TOKEN, 10 << 20);
                writer.write_all(head.as_bytes()).await?;
                loop {
                    // A body that declares 8 MiB, and whose first literal goes on to its end.
                    writer.write_all(&[0xfc; 1024]).await?;
                    sleep(Duration::from_secs(1)).await;
                }
            }
            Self::Announce => {
                tally.add(1);
                let head = head("Bearer", ROGUE_TOKEN, 32 << 20);
                writer.write_all(head.as_bytes()).await?;
            }
            Self::Write(_) => {}
            Self::Garbage => {
                tally.add(1);
                let garbage: Vec<u8> = (0..4096).map(|_| fastrand::u8(..)).collect();
                writer.write_all(&garbage).await?;
            }
            Self::Leave => {
                tally.add(1);
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Self::SlowHello => {
                tally.add(1);
                for byte in HELLO.iter().chain(std::iter::repeat(&0)) {
                    writer.write_all(&[*byte]).await?;
                    sleep(Duration::from_millis(500)).await;
                }
            }
            Self::ForgedJwt => {
                tally.add(1);
                let head = head("Bearer", &jwt::forged(), 0);
                writer.write_all(head.as_bytes()).await?;
            }
            Self::ForwardedFor => {
                tally.add(1);
                let chain = "127.0.9.9, ".repeat(4_000);
                let head = head("Bearer", "nobody", 0);
                let more = format!("Connection: close\r\nX-Forwarded-For: {chain}\r\nHost");
                let head = head.replacen("Host", &more, 1);
                writer.write_all(head.as_bytes()).await?;
            }
            Self::WrongToken => {
                tally.add(1);
                let token = format!("{:032x}", fastrand::u128(..));
                let head = head("Bearer", &token, 0);
                writer.write_all(head.as_bytes()).await?;
            }
            Self::WrongPassword => {
                tally.add(1);
                let pair = format!("{USERNAME}:{:x}", fastrand::u64(..));
                let head = head("Basic", &BASE64_STANDARD.encode(pair), 0);
                writer.write_all(head.as_bytes()).await?;
            }
            Self::RapidReset => {
                let streams = (1..).step_by(2);
                let frames = streams.map(|stream| http2::reset(stream, ROGUE_TOKEN));
                flood(writer, http2::opening(), frames, tally).await?;
            }
            Self::Continuation => {
                let opening = [http2::opening(), http2::endless_headers(ROGUE_TOKEN)].concat();
                flood(writer, opening, (0..).map(http2::continuation), tally).await?;
            }
            Self::Settings => {
                let frames = std::iter::repeat_with(http2::settings);
                flood(writer, http2::opening(), frames, tally).await?;
            }
            Self::Ping => {
                let frames = std::iter::repeat_with(http2::ping);
                flood(writer, http2::opening(), frames, tally).await?;
            }
        }
        Ok(())
    }
}

/// The head of a write.
fn head(scheme: &str, credential: &str, length: usize) -> String {
    format!(
        "POST {WRITE_PATH} HTTP/1.1\r\nHost: gate\r\nAuthorization: {scheme} {credential}\r\n\
         Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// Sends frames for as long as the gate takes them.
async fn flood<S: AsyncRead + AsyncWrite>(
    writer: &mut WriteHalf<S>,
    opening: Vec<u8>,
    mut frames: impl Iterator<Item = Vec<u8>>,
    tally: &Tally,
) -> io::Result<()> {
    writer.write_all(&opening).await?;
    loop {
        let piece: Vec<u8> = frames
            .by_ref()
            .take(FRAMES_AT_ONCE as usize)
            .flatten()
            .collect();
        writer.write_all(&piece).await?;
        tally.add(FRAMES_AT_ONCE);
    }
}
