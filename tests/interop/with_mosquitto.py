"""Checks with mosquitto_pub, mosquitto_sub and mosquitto_rr."""

import queue
import subprocess
import threading
import time

from checks import HOST, PORT, WAIT, equal, run, take, unique

# What a subscriber prints for a message: topic, QoS, RETAIN and payload.
FORMAT = "@@ %t %q %r %p"


def command(tool, version, *arguments):
    return [tool, "-h", HOST, "-p", str(PORT), "-V", version, *arguments]


def publish(version, topic, payload, *options):
    """Publishes one message and waits until it is acknowledged, as its QoS asks."""
    subprocess.run(
        command("mosquitto_pub", version, "-t", topic, "-m", payload, *options),
        check=True,
        timeout=WAIT,
    )


def publish_lines(version, topic, lines, *options):
    """Publishes one message for each line, in order, over one connection."""
    subprocess.run(
        command("mosquitto_pub", version, "-t", topic, "-l", *options),
        check=True,
        timeout=WAIT,
        input="".join(f"{line}\n" for line in lines),
        text=True,
    )


class Subscriber:
    """A running mosquitto_sub; `messages` has the lines it prints for messages."""

    def __init__(self, version, *options, form=FORMAT):
        self.messages = queue.Queue()
        self.subscribed = threading.Event()
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", *command("mosquitto_sub", version, "-d", "-F", form, *options)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("@ "):
                self.messages.put(line[2:].rstrip("\n"))
            elif line.startswith("Subscribed "):
                self.subscribed.set()

    def __enter__(self):
        if not self.subscribed.wait(WAIT):
            self.kill()
            raise AssertionError("no SUBACK")
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(WAIT)

    def kill(self):
        """Ends the client without DISCONNECT, as kill -9 does."""
        self.process.kill()
        self.process.wait(WAIT)

    def until(self, last):
        """The messages before `last`, which must come."""
        messages = []
        while (message := take(self.messages, f"message {last!r} after {messages!r}")) != last:
            messages.append(message)
        return messages


def remove_session(version, client):
    """Ends a session that was kept."""
    subprocess.run(
        command("mosquitto_sub", version, "-i", client, "-t", "unused", "-E"),
        check=True,
        timeout=WAIT,
    )


def at_qos(qos):
    """Messages arrive once, in order and at the QoS they were sent with."""

    def check(version):
        topic = unique("qos")
        with Subscriber(version, "-t", f"{topic}/#", "-q", "2") as subscriber:
            lines = [f"message {number}" for number in range(20)]
            publish_lines(version, f"{topic}/a", lines, "-q", str(qos))
            publish(version, f"{topic}/a", "end", "-q", str(qos))
            got = subscriber.until(f"{topic}/a {qos} 0 end")
        equal(got, [f"{topic}/a {qos} 0 {line}" for line in lines], "messages")

    return check


def lower_qos(version):
    """A message is delivered at the QoS of the subscription where that is lower."""
    topic = unique("low")
    with Subscriber(version, "-t", topic, "-q", "1") as subscriber:
        publish(version, topic, "two", "-q", "2")
        equal(take(subscriber.messages, "message"), f"{topic} 1 0 two", "message")


def retained(version):
    """The last retained message reaches a later subscriber; an empty one removes it."""
    topic = unique("ret")
    publish(version, f"{topic}/a", "old", "-r", "-q", "1")
    publish(version, f"{topic}/a", "new", "-r", "-q", "1")
    with Subscriber(version, "-t", f"{topic}/+", "-q", "1") as subscriber:
        publish(version, f"{topic}/end", "end", "-q", "1")
        equal(subscriber.until(f"{topic}/end 1 0 end"), [f"{topic}/a 1 1 new"], "retained")
    publish(version, f"{topic}/a", "", "-r", "-q", "1")
    with Subscriber(version, "-t", f"{topic}/+", "-q", "1") as subscriber:
        publish(version, f"{topic}/end", "end", "-q", "1")
        equal(subscriber.until(f"{topic}/end 1 0 end"), [], "retained after removal")


def will(version):
    """The will is published when the client is killed, and not when it disconnects."""
    topic = unique("will")
    options = ["--will-topic", topic, "--will-qos", "1", "-t", unique("none")]
    with Subscriber(version, "-t", topic, "-q", "1") as watcher:
        orderly = command("mosquitto_sub", version, *options, "--will-payload", "orderly", "-E")
        subprocess.run(orderly, check=True, timeout=WAIT)
        with Subscriber(version, *options, "--will-payload", "killed") as doomed:
            doomed.kill()
        equal(take(watcher.messages, "will"), f"{topic} 1 0 killed", "first will")
        publish(version, topic, "end", "-q", "1")
        equal(watcher.until(f"{topic} 1 0 end"), [], "further wills")


def disconnect_with_will(version):
    """DISCONNECT with 0x04, which mosquitto_sub sends when terminated, publishes the will."""
    topic = unique("wdis")
    options = ["--will-topic", topic, "--will-payload", "will", "-t", unique("none")]
    with Subscriber(version, "-t", topic, "-q", "1") as watcher:
        with Subscriber(version, *options):
            pass
        equal(take(watcher.messages, "will"), f"{topic} 0 0 will", "will")


def session(version):
    """Messages sent while the client is away arrive when it comes back."""
    topic, client = unique("ses"), unique("c")
    keep = ["-i", client, "-c", "-t", topic, "-q", "1"]
    if version == "5":
        keep += ["-x", "60"]
    subprocess.run(command("mosquitto_sub", version, *keep, "-E"), check=True, timeout=WAIT)
    lines = [f"away {number}" for number in range(10)]
    publish_lines(version, topic, lines, "-q", "1")
    with Subscriber(version, *keep) as subscriber:
        publish(version, topic, "end", "-q", "1")
        got = subscriber.until(f"{topic} 1 0 end")
    equal(got, [f"{topic} 1 0 {line}" for line in lines], "messages")
    remove_session(version, client)
    publish(version, topic, "nobody", "-q", "1")
    with Subscriber(version, *keep) as subscriber:
        publish(version, topic, "end", "-q", "1")
        equal(subscriber.until(f"{topic} 1 0 end"), [], "messages after a clean start")
    remove_session(version, client)


def shared(version):
    """Two members share the messages: each message reaches one of them, and both get some."""
    topic = unique("sha")
    options = ["-t", f"$share/group/{topic}", "-t", f"{topic}/end", "-q", "1"]
    lines = [f"work {number}" for number in range(40)]
    expected = sorted(f"{topic} 1 0 {line}" for line in lines)
    with Subscriber(version, *options) as one, Subscriber(version, *options) as two:
        publish_lines(version, topic, lines, "-q", "1")
        publish(version, f"{topic}/end", "end", "-q", "1")
        parts = [member.until(f"{topic}/end 1 0 end") for member in (one, two)]
    equal(sorted(parts[0] + parts[1]), expected, "messages of both members")
    if not parts[0] or not parts[1]:
        raise AssertionError("one member got all messages")


def expiry(version):
    """A message is not delivered after its time; another tells the time it has left."""
    topic, client = unique("exp"), unique("c")
    keep = ["-i", client, "-c", "-x", "60", "-t", topic, "-q", "1"]
    subprocess.run(command("mosquitto_sub", version, *keep, "-E"), check=True, timeout=WAIT)
    interval = ["-D", "publish", "message-expiry-interval"]
    publish(version, topic, "short", "-q", "1", *interval, "1")
    publish(version, topic, "long", "-q", "1", *interval, "100")
    publish(version, topic, "none", "-q", "1")
    # The passing of time is what is tested.
    time.sleep(2.5)
    with Subscriber(version, *keep, form="@@ %p %E") as subscriber:
        publish(version, topic, "end", "-q", "1")
        got = subscriber.until("end ")
    remove_session(version, client)
    equal([line.split(" ")[0] for line in got], ["long", "none"], "messages left")
    left = int(got[0].split(" ")[1])
    if not 100 - WAIT <= left <= 98:
        raise AssertionError(f"interval left is {left}")
    equal(got[1], "none ", "message without expiry")


def request(version):
    """Response Topic and Correlation Data reach the responder, its answer the requester."""
    topic = unique("req")
    with Subscriber(version, "-t", topic, "-q", "1", form="@@ %R|%D|%p") as responder:
        requester = subprocess.Popen(
            command("mosquitto_rr", version, "-t", topic, "-e", f"{topic}/answer", "-q", "1")
            + ["-D", "publish", "correlation-data", "token 17", "-m", "ask"]
            + ["-F", "%t|%D|%p", "-W", str(int(WAIT))],
            stdout=subprocess.PIPE,
            text=True,
        )
        asked = take(responder.messages, "request")
        equal(asked, f"{topic}/answer|token 17|ask", "request")
        answer, token, _ = asked.split("|")
        publish(version, answer, "told", "-q", "1", "-D", "publish", "correlation-data", token)
        output, _ = requester.communicate(timeout=WAIT)
    equal(output, f"{topic}/answer|token 17|told\n", "answer")


run(
    "mosquitto",
    {"3.1": "31", "3.1.1": "311", "5.0": "5"},
    [
        ("QoS 0", at_qos(0), None),
        ("QoS 1", at_qos(1), None),
        ("QoS 2", at_qos(2), None),
        ("lower QoS of the subscription", lower_qos, None),
        ("retained", retained, None),
        ("will", will, None),
        ("disconnect with will", disconnect_with_will, ["5.0"]),
        ("persistent session", session, None),
        ("shared subscription", shared, None),
        ("message expiry", expiry, ["5.0"]),
        ("request and response", request, ["5.0"]),
    ],
)
