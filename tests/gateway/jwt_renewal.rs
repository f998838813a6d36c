//! Real Prometheus servers whose tokens are renewed, and whose issuer changes its key, while they
//! write.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::body::Protocol;
use crate::support::config::{config, spoke_with};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::jwt::{KeyServer, Reply, SigningKey, claims, jwks, jwt};
use crate::support::prometheus::{Binary, ONE_AT_A_TIME, Prometheus, Spoke};

/// Tokens expire 27 s ago, so with a leeway of 30 s hubgate takes them for 3 s.
const VALID_SECONDS: i64 = -27;

/// A renewal in this time leaves a token two seconds.
const RENEWAL: Duration = Duration::from_secs(1);

const ARRIVAL_DEADLINE: Duration = Duration::from_secs(60);

/// Renews the file of a token as kubelet does: a new file takes its place.
fn renew(file: &Path, audience: &str, key: &SigningKey) {
    let new = file.with_extension("new");
    std::fs::write(&new, key.sign(&claims(audience, VALID_SECONDS))).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn no_write_is_refused_while_tokens_are_renewed_and_the_key_of_their_issuer_changes() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (SigningKey::rsa("old"), SigningKey::ec("new"));
    let server = KeyServer::start(Reply::Text(jwks(&[&old]))).await;
    let senders: Vec<(Binary, Protocol)> = Binary::all()
        .into_iter()
        .flat_map(|binary| {
            binary
                .protocols()
                .iter()
                .map(move |it| (binary.clone(), *it))
        })
        .collect();
    let names: Vec<_> = (0..senders.len())
        .map(|place| format!("s{place}"))
        .collect();
    let files: Vec<PathBuf> = names.iter().map(|name| folder.path().join(name)).collect();
    let hub = Prometheus::start_hub(&senders[0].0).await;
    let keys = format!("jwks_url: \"{}/keys\"", server.url());
    let spokes: Vec<_> = names
        .iter()
        .map(|name| spoke_with(name, &jwt(name, &keys), ""))
        .collect();
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    server.wait_for_requests(1, ARRIVAL_DEADLINE).await;
    let renew_all = |key: &SigningKey| {
        for (name, file) in names.iter().zip(&files) {
            renew(file, name, key);
        }
    };
    renew_all(&old);
    let mut servers = Vec::new();
    for (place, (binary, protocol)) in senders.iter().enumerate() {
        let file = files[place].display();
        let spoke = Spoke {
            authentication: format!("authorization: {{credentials_file: \"{file}\"}}"),
            ..Spoke::new(&gate, &names[place], *protocol)
        };
        // The token of a server that starts slowly has expired before its first write.
        let renewing = async {
            loop {
                renew_all(&old);
                tokio::time::sleep(RENEWAL).await;
            }
        };
        tokio::select! {
            server = Prometheus::start_spoke(binary, &spoke) => servers.push(server),
            () = renewing => {}
        }
    }
    let written = async |name: &str| {
        let labels = [("spoke", name), ("kind", "float")];
        gate.sum("hubgate_samples_written_total", &labels).await
    };
    let all_write = async |key: &SigningKey| {
        for name in &names {
            let before = written(name).await;
            eventually("more samples", ARRIVAL_DEADLINE, async || {
                renew_all(key);
                tokio::time::sleep(RENEWAL).await;
                let now = written(name).await;
                if now > before + 1000.0 {
                    Ok(())
                } else {
                    Err(now)
                }
            })
            .await;
        }
    };
    all_write(&old).await;
    for _ in 0..5 {
        renew_all(&old);
        tokio::time::sleep(RENEWAL).await;
    }
    // The issuer signs with a key that hubgate has not fetched yet.
    server.reply(Reply::Text(jwks(&[&old, &new])));
    all_write(&new).await;
    server.reply(Reply::Text(jwks(&[&new])));
    all_write(&new).await;
    assert_eq!(server.requests().len(), 2, "one fetch for the new key");
    for server in &servers {
        let metrics = server.metrics().await;
        for count in ["failed", "dropped"] {
            let name = format!("prometheus_remote_storage_samples_{count}_total");
            assert_eq!(metrics.sum_or_zero(&name, &[]), 0.0, "{name}");
        }
    }
    let metrics = gate.metrics().await;
    assert_eq!(metrics.sum("hubgate_auth_failures_total", &[]), 0.0);
    for name in &names {
        gate.expect_balanced_counts(name).await;
    }
}
