//! The way to the hubs: an inspected request goes to each of them, in as many pieces as it takes,
//! and what became of it comes back.
//!
//! Nothing is queued or repeated here: the spoke's write-ahead log is the queue, and the spoke
//! retries.

mod delivery;
mod fan_out;
mod hub;
pub mod outcome;
mod response;

pub(crate) use fan_out::{Plan, Sending};
pub use hub::{Hub, HubPermit, HubRequest};
pub use response::HubAnswer;
