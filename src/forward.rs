//! The way to the hubs: a checked request goes to each of them, in as many pieces as it takes, and
//! what became of it comes back.
//!
//! What failed is not repeated, unless the hub closed a kept connection with the request unread: the
//! spoke's write-ahead log is the queue, and the spoke retries. `fan_out` brings a request to all hubs,
//! `delivery` to one of them, `hub` one message to that hub, over one of its `connections`, when one of
//! the `places` there is free. `clock` compares the clock of each hub with that here. `reaction` decides what follows from a response, `inquire` looks into what a hub
//! answers with a fault, and `outcome` says what became of the request.

mod backlog;
mod clock;
mod concurrency;
mod connections;
mod delivery;
mod failed;
mod fan_out;
pub mod history;
mod hub;
mod inquire;
pub mod outcome;
mod places;
mod probe;
mod reaction;
mod record;
mod response;
mod time;

pub(crate) use clock::Clocks;
pub(crate) use fan_out::{Plan, Sending, Terms};
pub use hub::{Hub, HubRequest, Writer};
pub use response::HubResponse;
pub use time::REQUEST_TIME;
