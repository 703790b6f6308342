//! Tests of the whole way from text to settings.

use super::*;

fn settings(yaml: &str) -> Settings {
    Settings::parse(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

fn error(yaml: &str) -> ConfigError {
    Settings::parse(yaml).expect_err(yaml)
}

#[test]
fn nothing_said_means_the_defaults() {
    for yaml in ["", "# only a comment\n", "---\n", "{}"] {
        assert_eq!(settings(yaml), Settings::default());
    }
}

#[test]
fn every_default_is_shown_in_the_form_that_is_read() {
    let mut defaults = Settings::default();
    for key in KEYS {
        let shown = key.show(&mut defaults);
        if ["listeners", "allow_anonymous"].contains(&key.name) {
            continue;
        }
        assert_eq!(settings(&format!("{}: {shown}", key.name)), defaults, "{}", key.name);
    }
}

#[test]
fn every_number_is_refused_just_outside_its_range_and_taken_at_its_ends() {
    for key in KEYS.iter().filter(|key| *key.range.end() > 0) {
        let suffix = if key.unit == setting::Unit::Millis { "ms" } else { "" };
        for good in [*key.range.start(), *key.range.end()] {
            settings(&format!("{}: {good}{suffix}", key.name));
        }
        for bad in [i128::from(*key.range.start()) - 1, i128::from(*key.range.end()) + 1] {
            let error = error(&format!("{}: {bad}{suffix}", key.name));
            assert!(error.message.contains("must be"), "{error}");
            assert_eq!((error.line, error.column), (1, key.name.len() as u64 + 3));
        }
    }
}

#[test]
fn values_arrive_where_they_belong() {
    let yaml = "
listeners:
  - {protocol: mqtt, addr: ':1883'}
  - addr: '[::1]:1884'
allow_anonymous: true
max_connections: 7
connect_timeout: 500ms
max_keepalive: 2m
max_packet_size: 64KiB
max_qos: 1
retain_available: false
max_msg_queue_bytes: 1MB
queue_full: disconnect
max_session_expiry: never
assigned_clientid_prefix: 'x/'
delivery_mode: overlap
shutdown_timeout: 3
";
    let read = settings(yaml);
    let six: Listen = "[::1]:1884".parse().expect("an address");
    assert_eq!(read.listeners, [Listen::All(1883), six]);
    assert_eq!(read.allow_anonymous, Some(true));
    assert_eq!(read.shutdown_timeout, Duration::from_secs(3));
    let core = read.core;
    assert_eq!((core.max_connections, core.max_keepalive), (7, 120));
    assert_eq!(core.connect_timeout, Duration::from_millis(500));
    assert_eq!((core.max_packet_size, core.max_msg_queue_bytes), (65_536, 1_000_000));
    assert_eq!((core.max_qos as u8, core.retain_available), (1, false));
    assert_eq!(core.queue_full, fulmar_core::broker::QueueFull::Disconnect);
    assert_eq!(core.max_session_expiry, u32::MAX);
    assert_eq!(core.assigned_clientid_prefix, "x/");
    assert_eq!(core.delivery_mode, fulmar_core::broker::DeliveryMode::Overlap);
    // What is not mentioned keeps its default.
    assert_eq!(core.max_inflight, Settings::default().core.max_inflight);
}

#[test]
fn the_predecessors_names_are_understood() {
    let yaml = "max_inflight_messages: 20\nmax_msgqueue_messages: 0\nqueue_qos0_messages: false\n\
        listener:\n- protocol: mqtt\n  addr: :1884\n";
    let read = settings(yaml);
    assert_eq!((read.core.max_inflight, read.core.max_msg_queue), (20, u32::MAX));
    assert!(!read.core.queue_qos0_messages);
    assert_eq!(read.listeners, [Listen::All(1884)]);
    assert_eq!(settings("max_msgqueue_messages: 20").core.max_msg_queue, 20);
    assert!(error("max_msg_queue: 0").message.contains("from 1 to"));
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    for (yaml, line, column, words) in [
        ("a: 1", 1, 1, "unknown key \"a\""),
        ("\nhttp_server: {addr: ':9090'}", 2, 1, "no management interface"),
        ("profile: {cpu: x}", 1, 1, "profile is not available"),
        ("logging: false", 1, 1, "--log"),
        ("delivery_retry_interval: 20", 1, 1, "when a client reconnects"),
        ("listeners: [{protocol: websocket, addr: ':8080'}]", 1, 24, "protocol websocket"),
        ("listeners:\n- addr: ':1'\n  certfile: x", 3, 3, "no TLS"),
        ("listeners:\n- {addr: ':1', keyfile: x}", 2, 16, "no TLS"),
    ] {
        let error = error(yaml);
        assert!(error.message.contains(words), "{error}");
        assert_eq!((error.line, error.column), (line, column), "{error}");
    }
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    for (written, nearest) in [
        ("max_conections", "max_connections"),
        ("MAX_QOS", "max_qos"),
        ("allow-anonymous", "allow_anonymous"),
        ("max_inflight_message", "max_inflight_messages"),
        ("listner", "listener"),
        ("memory_buget", "memory_budget"),
    ] {
        let error = error(&format!("max_qos: 1\n{written}: 1"));
        assert_eq!((error.line, error.column), (2, 1));
        let whole = format!("unknown key \"{written}\"; the nearest known key is \"{nearest}\"");
        assert_eq!(error.message, whole);
    }
    let error = error("listeners: [{protocol: mqtt, adr: ':1'}]");
    assert!(error.message.ends_with("the nearest known key is \"addr\""), "{error}");
}

#[test]
fn a_wrong_type_or_value_says_what_is_allowed() {
    for (yaml, words) in [
        ("max_connections: lots", "is \"lots\", but must be a whole number from 1 to 4294967295"),
        ("max_connections: 1.5", "is 1.5, but must be a whole number"),
        ("max_connections:", "is empty, but must be a whole number"),
        ("max_connections: [1]", "is a list, but must be"),
        ("max_connections: {a: 1}", "is a group of keys, but must be"),
        ("max_packet_size: 1TiB", "a size such as 64KiB or 1MiB, or a number of bytes, from 16"),
        ("connect_timeout: soon", "a duration such as 500ms, 10s or 2m, from 100ms to 1h"),
        ("max_keepalive: 500ms", "a duration in whole seconds such as 90s or 2m, from 0s"),
        ("max_session_expiry: ever", "or never"),
        ("max_keepalive: never", "a duration in whole seconds"),
        ("max_qos: 3", "is 3, but must be 0, 1 or 2"),
        ("retain_available: 1", "is 1, but must be true or false"),
        ("allow_anonymous: maybe", "is \"maybe\", but must be true or false"),
        ("queue_full: drop", "drop_oldest or drop_new or disconnect"),
        ("delivery_mode: twice", "onlyonce or overlap"),
        ("assigned_clientid_prefix: \"a\\n\"", "without control characters"),
        ("listeners: []", "listeners is empty, but must be a list"),
        ("listeners: :1883", "listeners is \":1883\", but must be a list"),
        ("listeners: [':1883']", "this listener is \":1883\", but must have the keys"),
        ("listeners: [{protocol: mqtt}]", "addr is missing"),
        ("listeners: [{protocol: tcp, addr: ':1'}]", "protocol is \"tcp\", but must be mqtt"),
        ("listeners: [{addr: 1883}]", "addr is 1883, but must be an address with a port"),
        ("listeners: [{addr: 'host:1883'}]", "addr is \"host:1883\", but must be an address"),
        ("- 1", "expected keys with values, found a list"),
        ("max_qos", "expected keys with values, found \"max_qos\""),
    ] {
        let error = error(yaml);
        assert!(error.message.contains(words), "{error}");
        assert!(error.line == 1 && error.column >= 1, "{error}");
    }
}

#[test]
fn one_key_under_two_names_is_refused() {
    let error = error("max_inflight: 1\nmax_inflight_messages: 2");
    assert_eq!(error.message, "max_inflight is already set as max_inflight in line 1");
    assert_eq!((error.line, error.column), (2, 1));
}

#[test]
fn distance_counts_single_letters() {
    for (a, b, steps) in
        [("", "", 0), ("a", "", 1), ("", "ab", 2), ("abc", "abc", 0), ("kitten", "sitting", 3)]
    {
        assert_eq!(distance(a, b), steps);
        assert_eq!(distance(b, a), steps);
    }
}

#[test]
fn the_table_has_a_row_for_each_key() {
    let table = limits_table();
    assert_eq!(table.lines().count(), KEYS.len() + 2);
    assert!(table.contains("| `max_connections` | 100000 | more than"));
    assert!(table.contains("| `max_session_expiry` | 30d |"));
    assert!(table.contains("| `memory_budget` | 512MiB |"));
}

#[test]
fn a_missing_file_is_named() {
    let error = Settings::load(Path::new("/nowhere/fulmar.yaml")).expect_err("no such file");
    assert!(error.to_string().starts_with("there is no file /nowhere/fulmar.yaml;"), "{error}");
}
