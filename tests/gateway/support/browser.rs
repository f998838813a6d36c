//! A real Chromium without a window, driven over the Chrome DevTools Protocol.
//!
//! It must be on PATH. A test fails without it and is not skipped; `tests/run.sh` unpacks it. Whatever the
//! page logs, throws or may not do by its policy is collected: [`Browser::expect_no_complaint`].

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::haproxy::libraries;
use super::prometheus::find_on_path;

/// Longest wait for the browser, which may share its cores with other tests.
const DEADLINE: Duration = Duration::from_secs(30);

/// The names of the program, the smallest first.
const PROGRAMS: [&str; 3] = ["chromium-headless-shell", "chromium-shell", "chromium"];

/// A browser with one page.
pub(crate) struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    messages: u64,
    complaints: VecDeque<String>,
    /// Ends with it.
    _process: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts one with an empty page of this size.
    pub(crate) async fn start(width: u32, height: u32) -> Self {
        let script = PROGRAMS
            .into_iter()
            .find_map(|name| Some((name, find_on_path(name)?)));
        let (name, script) = script.expect("chromium on PATH; run tests/run.sh");
        // The script of the package expects the package to be installed.
        let usr = script.ancestors().nth(2).unwrap();
        let program = usr.join("lib/chromium").join(name);
        let libraries = libraries(&script);
        let profile = tempfile::tempdir().unwrap();
        let mut process = Command::new(&program)
            .args([
                "--headless",
                // As root, and in a container, there is no sandbox.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--remote-debugging-port=0",
                "about:blank",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env(
                "LD_LIBRARY_PATH",
                format!("{libraries}:{libraries}/pulseaudio"),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let url = timeout(DEADLINE, async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(url) = line.strip_prefix("DevTools listening on ") {
                    return Some(url.to_owned());
                }
                said.push(line);
            }
            None
        });
        let url = url.await.ok().flatten();
        let url = url.unwrap_or_else(|| panic!("the browser does not start: {said:#?}"));
        // It must not wait until somebody reads what it says.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (socket, _) = connect_async(url).await.unwrap();
        let mut browser = Self {
            socket,
            session: String::new(),
            messages: 0,
            complaints: VecDeque::new(),
            _process: process,
            _profile: profile,
        };
        browser.open().await;
        browser.resize(width, height).await;
        browser
    }

    async fn open(&mut self) {
        let created = self
            .call("Target.createTarget", json!({"url": "about:blank"}))
            .await;
        let target = json!({"targetId": created["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", target).await;
        attached["sessionId"]
            .as_str()
            .unwrap()
            .clone_into(&mut self.session);
        for domain in ["Page", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), json!({})).await;
        }
    }

    /// Shows a page, and waits until it is loaded.
    pub(crate) async fn go(&mut self, url: &str) {
        // Another fragment of the same page is no other page.
        self.call("Page.navigate", json!({"url": url})).await;
        self.until("document.readyState === 'complete'").await;
    }

    /// The value of an expression of JavaScript, which may be a promise.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        self.evaluate(expression, json!({})).await
    }

    /// The same in a world that shares the document with the page, and neither its objects nor its policy.
    pub(super) async fn value_apart(&mut self, expression: &str) -> Value {
        let tree = self.call("Page.getFrameTree", json!({})).await;
        let frame = &tree["frameTree"]["frame"]["id"];
        let world = json!({"frameId": frame, "worldName": "test"});
        let world = self.call("Page.createIsolatedWorld", world).await;
        let context = &world["executionContextId"];
        self.evaluate(expression, json!({"contextId": context}))
            .await
    }

    async fn evaluate(&mut self, expression: &str, mut parameters: Value) -> Value {
        parameters["expression"] = expression.into();
        for key in ["awaitPromise", "returnByValue", "userGesture"] {
            parameters[key] = true.into();
        }
        let result = self.call("Runtime.evaluate", parameters).await;
        let start = &expression[..expression.floor_char_boundary(500)];
        assert!(result["exceptionDetails"].is_null(), "{start}: {result:#}");
        result["result"]["value"].clone()
    }

    /// The text of the page as it is shown.
    pub(crate) async fn text(&mut self) -> String {
        let text = self.value("document.body.innerText").await;
        text.as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&mut self, expression: &str) {
        let wait = format!(
            "new Promise((done) => {{
                const look = () => {{
                    try {{ if ({expression}) return done(true); }} catch {{}}
                    setTimeout(look, 20);
                }};
                look();
            }})"
        );
        let found = timeout(DEADLINE, self.value(&wait)).await;
        if found.is_err() {
            let text = timeout(DEADLINE, self.text()).await;
            panic!(
                "never true: {expression}; complaints: {:?}; {text:?}",
                self.complaints
            );
        }
    }

    /// Waits until the page shows this text.
    pub(crate) async fn until_text(&mut self, text: &str) {
        let text = Value::from(text);
        self.until(&format!("document.body.innerText.includes({text})"))
            .await;
    }

    /// Presses a key, such as `Tab` or `Enter`.
    pub(crate) async fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            _ => 0,
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let parameters = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
            });
            self.call("Input.dispatchKeyEvent", parameters).await;
        }
    }

    /// Types text into what has the focus.
    pub(crate) async fn insert(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text})).await;
    }

    /// Gives the page another size, in pixels.
    pub(crate) async fn resize(&mut self, width: u32, height: u32) {
        self.resize_sharper(width, height, 1.0).await;
    }

    /// The same, with so many pixels of pictures for one of the page, and without scroll bars if they are more.
    pub(crate) async fn resize_sharper(&mut self, width: u32, height: u32, pixels: f32) {
        let hidden = json!({"hidden": pixels > 1.0});
        self.call("Emulation.setScrollbarsHidden", hidden).await;
        let parameters = json!({
            "width": width, "height": height, "deviceScaleFactor": pixels, "mobile": false,
        });
        self.call("Emulation.setDeviceMetricsOverride", parameters)
            .await;
    }

    /// Shows the page as for somebody who prefers this scheme of colours, `light` or `dark`.
    pub(crate) async fn prefer(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }

    /// Leaves a picture of the page among the artefacts of the run, for people to look at.
    pub(crate) async fn picture(&mut self, name: &str) {
        let picture = self.screenshot(json!({"format": "png"})).await;
        let folder = pictures();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name).with_extension("png"), picture).unwrap();
    }

    /// A small picture of the page.
    pub(crate) async fn webp(&mut self) -> Vec<u8> {
        let format = json!({"format": "webp", "quality": 80});
        self.screenshot(format).await
    }

    async fn screenshot(&mut self, format: Value) -> Vec<u8> {
        let shot = self.call("Page.captureScreenshot", format).await;
        let picture = shot["data"].as_str().unwrap();
        BASE64_STANDARD.decode(picture).unwrap()
    }

    /// Fails if the page logged or threw something, or its policy kept it from something.
    pub(crate) async fn expect_no_complaint(&mut self) {
        // What came before the answer to this is known then.
        self.value("0").await;
        assert!(self.complaints.is_empty(), "{:#?}", self.complaints);
    }

    /// Forgets what was complained of, which must contain this text.
    pub(crate) async fn expect_complaint(&mut self, text: &str) {
        self.value("0").await;
        let complaints = std::mem::take(&mut self.complaints);
        assert!(
            complaints.iter().any(|it| it.contains(text)),
            "{complaints:#?}"
        );
    }

    /// Calls a method of the protocol.
    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.messages += 1;
        let id = self.messages;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
        loop {
            let answer = timeout(DEADLINE * 2, self.socket.next()).await;
            let answer = answer.unwrap_or_else(|_| panic!("{method}: no answer"));
            let Message::Text(text) = answer.expect("the browser runs").unwrap() else {
                continue;
            };
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {answer:#}");
                return answer["result"].take();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let complaint = match event["method"].as_str() {
            Some("Runtime.consoleAPICalled" | "Runtime.exceptionThrown") => true,
            // Violations of the policy, failed requests, deprecations.
            Some("Log.entryAdded") => event["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        if complaint {
            self.complaints.push_back(event["params"].to_string());
        }
    }
}

/// Where the pictures of a run are.
fn pictures() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures")
}
