//! What can be seen of the broker from outside, statement by statement.
//!
//! Each test names after `Cites:` what it shows: statements of 5.0 (`v5:MQTT-…`) and 3.1.1
//! (`v4:MQTT-…`), and rules of the two standards that carry no number (`U5-…`, `U311-…`: our own
//! keys; `U31-…` for what is known of 3.1).

mod connect;
mod framing;
mod harness;
mod publish;
mod qos;
mod subscribe;
mod topics;
mod will;
