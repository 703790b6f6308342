//! What can be seen of the broker from outside, statement by statement.
//!
//! Each test begins with `cites!` and what it shows: numbered statements of 5.0 (`v5:MQTT-…`) and
//! 3.1.1 (`v4:MQTT-…`), and rules without a number under keys of our own: `U5-…` and `U311-…` for
//! the two standards, `U31-…` for what is known of 3.1. All of them are in the folder `tests/spec`
//! at the top of the repository.

#[macro_use]
#[path = "../../../tests/src/cites.rs"]
pub mod cites;
mod connect;
mod cross;
mod errors;
mod framing;
mod harness;
mod limits;
mod old;
mod publish;
mod qos;
mod subscribe;
mod topics;
mod will;

#[test]
fn every_test_names_the_statements_it_shows() {
    let sources = [
        include_str!("connect.rs"),
        include_str!("cross.rs"),
        include_str!("errors.rs"),
        include_str!("framing.rs"),
        include_str!("limits.rs"),
        include_str!("old.rs"),
        include_str!("publish.rs"),
        include_str!("qos.rs"),
        include_str!("subscribe.rs"),
        include_str!("topics.rs"),
        include_str!("will.rs"),
    ];
    for source in sources {
        for test in source.split("#[test]\n").skip(1) {
            let name = test.lines().next().unwrap_or_default();
            assert!(test.starts_with(&format!("{name}\n    cites!(")), "{name}");
        }
    }
}
