//! Protocol traces: a file of inputs in, a listing of inputs and outputs out.
//!
//! A trace file holds one input per line; lines that begin with `#` are comments, of which
//! `# cites: v5:MQTT-3.3.1-2 v4:MQTT-3.3.1-3 U5-058` name what the trace shows. One broker is
//! driven, without sockets and in virtual time, as a good driver would.
//!
//! | line | meaning |
//! |---|---|
//! | `config: key=value ..` | a limit or choice of the broker; before all else |
//! | `name: CONNECT id=a clean=1 ..` | `name` sends a packet; opens a connection if it has none |
//! | `name: A .. & B ..` | two packets that arrive together |
//! | `name: hex 10 0c "MQTT" ..` | bytes, with text in quotation marks |
//! | `name: open` | opens a connection and sends nothing |
//! | `name: split 3` | what it sends next comes in pieces of three bytes |
//! | `name: drop` | the transport is gone |
//! | `name: stall`, `name: read` | it stops taking what the broker sends, and goes on |
//! | `time: +61s`, `time: +500ms` | time passes |
//! | `auth: accept name ["data"]` | the decision about what `name` presents next |
//! | `auth: continue name ["data"]` | the same: one step more |
//! | `auth: refuse name 0x87` | the same: no |
//! | `auth: wait name` | the same: not yet; a later `auth:` line decides |
//! | `api: PUBLISH topic "text" qos=1 ..` | the program around the broker publishes |
//! | `api: SUBSCRIBE name filter qos=1` | it subscribes, and takes messages at once |
//! | `api: UNSUBSCRIBE name` | ends that |
//! | `api: DISCONNECT id 0x98 end=1` | it disconnects a client, `end`: with its session |
//! | `api: CLIENTS`, `api: STATS`, `api: SHUTDOWN` | as they say |
//!
//! Everyone is accepted unless `auth:` says otherwise.
//!
//! Each trace also runs with several shards, where all must look the same from outside. One whose
//! outcome may differ says so in its head, with the reason: `# shards: order, ..` if only the order
//! of what a connection gets may, `# shards: one, ..` if more may.
//!
//! CONNECT knows `id= v=31|311|5 clean= keep_alive= bridge= username= password= will=
//! will_payload= will_qos= will_retain=`; PUBLISH `[id] topic ["payload"] qos= dup= retain= size=`
//! (`size` fills the payload); SUBSCRIBE `id filter qos= no_local= as_published= handling=, filter
//! ..`; UNSUBSCRIBE `id filter ..`; PUBACK, PUBREC, PUBREL and PUBCOMP `id [reason]`; DISCONNECT
//! `[reason]`; AUTH `reason`. Properties are `expiry= message_expiry= receive_maximum=
//! packet_maximum= alias_maximum= alias= sub_id= format= content_type= response_topic=
//! correlation= user=name:value method= data= reason_string= problem_information=
//! response_information=`, those of the will `will_delay= will_message_expiry= ..`.
//!
//! In the listing `name> ` is what arrived at the broker and `name< ` what it sent, `* ` an event,
//! an answer or a decision; all other lines are those of the file.

mod command;
mod config;
mod outside;
mod packet;
mod run;
mod shards;
mod show;
mod words;

pub use outside::{Several, outside};
pub use run::{Step, run, run_on, steps};

/// The head of a trace file: its comments before the first input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it shows, in words.
    pub text: String,
    /// The statements it shows.
    pub cites: Vec<String>,
    /// Which outcome it has with several shards.
    pub several: Several,
}

/// Reads the head of a trace file.
#[must_use]
pub fn head(file: &str) -> Head {
    let mut head = Head { text: String::new(), cites: Vec::new(), several: Several::Same };
    let comments = file.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    for line in comments {
        if let Some(ids) = line.strip_prefix("cites:") {
            head.cites.extend(ids.split_whitespace().map(String::from));
        } else if let Some(outcome) = line.strip_prefix("shards:") {
            head.several = Several::of(outcome);
        } else {
            head.text.extend([line, "\n"]);
        }
    }
    head.text.truncate(head.text.trim_end().len());
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_tells_what_is_shown() {
        let file = "# Two\n# lines.\n# cites: v5:MQTT-3.1.0-1 U5-001\n# cites: U5-002\n\
            # shards: one, since turns differ\ns: open\n# no\n";
        let head = head(file);
        assert_eq!(head.several, Several::One);
        assert_eq!(head.text, "Two\nlines.");
        assert_eq!(head.cites, ["v5:MQTT-3.1.0-1", "U5-001", "U5-002"]);
    }

    #[test]
    fn a_listing_has_what_came_in_and_what_went_out() {
        let listing = run("s: CONNECT id=s v=311\ns: split 1\ns: PINGREQ\n").unwrap();
        let wire: Vec<&str> = listing.lines().map(|line| &line[..2]).collect();
        assert_eq!(wire, ["s>", "* ", "s<", "s:", "s>", "s<"]);
    }

    #[test]
    fn what_happened_on_the_wires_is_known() {
        let steps = steps("s: CONNECT id=s v=311\ns: PINGREQ\np: open\ns: drop\n").unwrap();
        let [Step::Open(0), Step::Sent(0, connect), Step::Took(0, connack), rest @ ..] = &steps[..]
        else {
            panic!("{steps:?}")
        };
        assert_eq!((connect[0], &connack[..]), (0x10, &[0x20, 2, 0, 0][..]));
        let ping = [Step::Sent(0, vec![0xc0, 0]), Step::Took(0, vec![0xd0, 0])];
        assert_eq!(rest, [&ping[..], &[Step::Open(1), Step::Closed(0)]].concat());
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        for file in ["s: HELLO", "nobody", "time: 5", "config: x=1", "s: PUBACK 0", "s: drop"] {
            let error = run(&format!("s: open\n{file}\ns: drop\n")).unwrap_err();
            assert!(error.starts_with("line "), "{file}: {error}");
        }
    }
}
