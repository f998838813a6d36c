//! Requests to load the configuration again, from the admin listener to whoever reads the file.

use tokio::sync::{mpsc, oneshot};

/// Requests that may wait; they come from people and config reloaders.
const WAITING_MAX: usize = 8;

/// A request to load the configuration again; what came of it is sent back.
pub type Reload = oneshot::Sender<Result<(), String>>;

/// The asking side.
#[derive(Debug, Clone)]
pub struct Reloads(mpsc::Sender<Reload>);

/// Both sides of a queue of requests.
pub fn channel() -> (Reloads, mpsc::Receiver<Reload>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Reloads(sender), receiver)
}

impl Reloads {
    /// Asks for the configuration to be loaded again and waits for what comes of it.
    pub(super) async fn request(&self) -> Result<(), String> {
        let (sender, receiver) = oneshot::channel();
        let busy = |_| "too many reloads wait, or hubgate is shutting down".to_owned();
        self.0.try_send(sender).map_err(busy)?;
        receiver.await.unwrap_or_else(|_| {
            Err("nobody reloads: there is no file, or hubgate is shutting down".to_owned())
        })
    }
}
