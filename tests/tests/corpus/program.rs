//! Operations on a broker as the bytes that `fuzzing::broker_ops` reads them from.

use fulmar_tests::trace::Step;

/// Bytes that choose the limits, all at their widest; the first has everything done twice.
const SETUP: usize = 28;

/// A list of operations under way.
struct Program(Vec<u8>);

/// Version bytes.
const V31: u8 = 0;
const V311: u8 = 1;
const V5: u8 = 2;

impl Program {
    fn new() -> Self {
        Self(vec![0; SETUP])
    }

    /// Chooses another limit.
    fn limit(mut self, at: usize, choice: u8) -> Self {
        self.0[at] = choice;
        self
    }

    fn add(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn open(self) -> Self {
        self.add(&[0, 0])
    }

    fn send(self, peer: u8, packet: &[u8]) -> Self {
        self.add(&[3, peer]).add(packet).add(&[0])
    }

    /// Opens a connection and sends CONNECT; `expiry` and the rest are as `Spec::Connect` has them.
    fn connect(self, peer: u8, client: u8, version: u8, expiry: u8, will: u8) -> Self {
        self.open().send(peer, &[0, client, version, 0, expiry, 0, will])
    }

    fn subscribe(self, peer: u8, filter: u8, options: u8) -> Self {
        self.send(peer, &[10, 0, filter, 1, options, 1])
    }

    fn publish(self, peer: u8, topic: u8, flags: u8) -> Self {
        self.send(peer, &[3, topic, flags, 1, 5, 0])
    }

    /// The right answer to the oldest message.
    fn answer(self, peer: u8) -> Self {
        self.send(peer, &[6, 0, 0])
    }

    fn cut(self, peer: u8) -> Self {
        self.add(&[19, peer])
    }

    fn advance(self, choice: u8) -> Self {
        self.add(&[25, choice])
    }

    fn command(self, wish: &[u8]) -> Self {
        self.add(&[28]).add(wish)
    }
}

/// What happens on the connections of a trace. Connections count from the oldest that is there.
pub(crate) fn of_steps(steps: &[Step]) -> Vec<u8> {
    let mut program = Program::new();
    let mut open = Vec::new();
    let place = |open: &[usize], number| open.iter().position(|n| *n == number).map(|at| at as u8);
    for step in steps {
        match step {
            Step::Open(number) => {
                open.push(*number);
                program = program.open();
            }
            Step::Sent(number, bytes) => {
                let Some(peer) = place(&open, *number) else { continue };
                for bytes in bytes.chunks(31) {
                    program = program.add(&[18, peer, bytes.len() as u8]).add(bytes);
                }
            }
            Step::Took(..) => {}
            Step::Closed(number) => {
                let Some(peer) = place(&open, *number) else { continue };
                open.remove(peer.into());
                program = program.cut(peer);
            }
        }
    }
    program.0
}

/// A will on topic `a/b` with QoS 1, and none.
const WILL: u8 = 1 | 1 << 5;
const NO_WILL: u8 = 3;

/// A subscriber and a publisher, with QoS 0, 1 and 2 in both directions.
fn flows(version: u8) -> Program {
    let mut program = Program::new()
        .connect(0, 0, version, 12, NO_WILL)
        .connect(1, 1, version, 0, NO_WILL)
        .subscribe(0, 3, 2)
        .publish(1, 0, 0)
        .publish(1, 1, 1)
        .answer(0)
        .publish(1, 2, 2)
        .send(1, &[9, 1]);
    for _ in 0..3 {
        program = program.answer(0);
    }
    program.send(0, &[12, 1, 3]).send(0, &[13]).send(0, &[14, 0, 1])
}

/// Two clients of 5.0, the first with a session that stays.
fn pair() -> Program {
    Program::new().connect(0, 0, V5, 12, NO_WILL).connect(1, 1, V5, 0, NO_WILL)
}

/// Names and bytes.
pub(crate) fn all() -> Vec<(String, Vec<u8>)> {
    let programs = sessions().into_iter().chain(limits());
    programs.map(|(name, program)| (name.to_owned(), program.0)).collect()
}

fn sessions() -> Vec<(&'static str, Program)> {
    vec![
        ("flows-v31", flows(V31)),
        ("flows-v311", flows(V311)),
        ("flows-v5", flows(V5)),
        (
            "resume",
            pair()
                .subscribe(0, 3, 2)
                .publish(1, 0, 1)
                .publish(1, 0, 2)
                .cut(0)
                .publish(0, 1, 1)
                .connect(1, 0, V5, 12, NO_WILL)
                .answer(1)
                .answer(1)
                .answer(1),
        ),
        (
            "takeover",
            Program::new()
                .connect(0, 0, V5, 12, WILL)
                .subscribe(0, 3, 1)
                .connect(1, 0, V311, 0, WILL)
                .connect(2, 0, V31, 0, NO_WILL)
                .advance(3),
        ),
        (
            "wills",
            Program::new()
                .connect(0, 0, V5, 12, WILL | 8)
                .connect(1, 1, V5, 0, NO_WILL)
                .subscribe(1, 3, 1)
                .cut(0)
                .advance(2)
                .advance(3)
                .advance(5),
        ),
        (
            "retained",
            pair()
                .publish(1, 0, 8)
                .publish(1, 1, 9)
                .subscribe(0, 3, 2)
                .subscribe(0, 4, 16 | 8)
                .send(1, &[3, 0, 8, 1, 0, 0])
                .advance(5),
        ),
        (
            "shared",
            pair().subscribe(0, 11, 1).subscribe(1, 11, 2).publish(1, 0, 1).publish(1, 0, 2).cut(0),
        ),
    ]
}

fn limits() -> Vec<(&'static str, Program)> {
    vec![
        (
            "stalled",
            pair()
                .limit(11, 1)
                .subscribe(0, 3, 1)
                .add(&[20, 0, 1])
                .publish(1, 0, 1)
                .publish(1, 0, 0)
                .publish(1, 0, 1)
                .add(&[20, 0, 0])
                .answer(0),
        ),
        (
            "overlap",
            pair().limit(27, 1).subscribe(0, 3, 1).subscribe(0, 0, 2).publish(1, 0, 2).answer(0),
        ),
        (
            "local",
            Program::new()
                .command(&[10, 0x23, 0x10, 5])
                .command(&[0, 0, 1, 5])
                .connect(0, 0, V5, 12, NO_WILL)
                .publish(0, 0, 2)
                .add(&[31, 0, 9])
                .command(&[20, 0, 1])
                .command(&[16, 0]),
        ),
        (
            "authentication",
            Program::new()
                .add(&[23, 2])
                .open()
                .send(0, &[0, 0, V5, 0x10, 12, 0, NO_WILL])
                .send(0, &[15, 1, 1])
                .add(&[24, 0, 1])
                .add(&[23, 0])
                .send(0, &[15, 0, 1]),
        ),
        ("late-verdict", Program::new().add(&[23, 4]).connect(0, 0, V5, 12, 0).add(&[24, 0, 0])),
        ("administration", pair().command(&[23, 0, 0]).command(&[29]).command(&[31]).open()),
        ("small-budget", pair().limit(25, 2).subscribe(0, 3, 1).publish(1, 0, 9).advance(4)),
        ("bytes", Program::new().open().add(&[18, 0, 4]).add(b"\x10\x0d\0\x04").advance(4)),
    ]
}
