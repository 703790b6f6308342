"""Checks with paho-mqtt."""

import queue
import subprocess
import sys
import time

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from checks import HOST, PORT, WAIT, equal, run, take, unique

V5 = MQTTProtocolVersion.MQTTv5


def properties(packet, **values):
    """Properties of a packet, by the names paho gives them."""
    result = Properties(packet)
    for name, value in values.items():
        setattr(result, name, value)
    return result


def seen(message):
    """What most checks compare of a message."""
    return (message.topic, message.qos, message.retain, message.payload.decode())


class Client:
    """A connected client; `messages` has what it received.

    `keep` is the seconds its session is kept: for ever with versions before 5.0 unless 0.
    """

    def __init__(self, version, client=None, keep=0, will=None):
        self.version = version
        self.messages = queue.Queue()
        self.connack = queue.Queue()
        self.answers = queue.Queue()
        client = client or unique("c")
        clean = None if version == V5 else keep == 0
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2, client, clean, protocol=version, reconnect_on_failure=False
        )
        self.paho.on_connect = lambda _c, _u, flags, code, _p: self.connack.put((flags, code))
        self.paho.on_subscribe = lambda _c, _u, _m, codes, _p: self.answers.put(codes)
        self.paho.on_unsubscribe = lambda _c, _u, _m, codes, _p: self.answers.put(codes)
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)
        if will:
            self.paho.will_set(will, "killed", qos=1)
        options = {}
        if version == V5:
            options["clean_start"] = keep == 0
            options["properties"] = properties(PacketTypes.CONNECT, SessionExpiryInterval=keep)
        self.paho.connect(HOST, PORT, **options)
        self.paho.loop_start()
        flags, code = take(self.connack, "CONNACK")
        self.present = flags.session_present
        equal(code.is_failure, False, f"CONNACK {code}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.paho.disconnect()
        self.paho.loop_stop()

    def subscribe(self, topic, qos=2, **options):
        """Subscribes and checks that the QoS is granted."""
        if options:
            self.paho.subscribe(topic, options=SubscribeOptions(qos, **options))
        else:
            self.paho.subscribe(topic, qos)
        codes = take(self.answers, "SUBACK")
        equal([code.value for code in codes], [qos], "SUBACK")

    def unsubscribe(self, topic):
        self.paho.unsubscribe(topic)
        take(self.answers, "UNSUBACK")

    def publish(self, topic, payload, qos=1, retain=False, **values):
        """Publishes and waits until the message is acknowledged, as its QoS asks."""
        more = properties(PacketTypes.PUBLISH, **values) if values else None
        info = self.paho.publish(topic, payload, qos, retain, more)
        info.wait_for_publish(WAIT)
        equal(info.is_published(), True, f"acknowledgement of {payload[:20]!r}")

    def until(self, last):
        """The messages before the one with payload `last`, which must come."""
        messages = []
        while True:
            message = take(self.messages, f"message {last!r} after {messages!r}")
            if message.payload.decode(errors="replace") == last:
                return messages
            messages.append(message)


def at_qos(qos):
    """Messages arrive once, in order and at the QoS they were sent with."""

    def check(version):
        topic = unique("qos")
        with Client(version) as subscriber, Client(version) as publisher:
            subscriber.subscribe(f"{topic}/#")
            infos = [publisher.paho.publish(f"{topic}/a", str(n), qos) for n in range(100)]
            for info in infos:
                info.wait_for_publish(WAIT)
            publisher.publish(f"{topic}/a", "end", qos)
            got = [seen(message) for message in subscriber.until("end")]
        equal(got, [(f"{topic}/a", qos, False, str(n)) for n in range(100)], "messages")

    return check


def contents(version):
    """An empty, a binary and a large payload arrive unchanged."""
    topic = unique("con")
    payloads = [b"", bytes(range(256)), bytes(range(251)) * 2000]
    with Client(version) as client:
        client.subscribe(topic)
        for payload in payloads:
            client.publish(topic, payload, 2)
        got = [take(client.messages, "message").payload for _ in payloads]
    equal([len(payload) for payload in got], [len(payload) for payload in payloads], "lengths")
    equal(got == payloads, True, "same bytes")


def unsubscribed(version):
    """Nothing arrives after UNSUBSCRIBE."""
    topic = unique("uns")
    with Client(version) as client:
        client.subscribe(f"{topic}/a")
        client.subscribe(f"{topic}/end")
        client.unsubscribe(f"{topic}/a")
        client.publish(f"{topic}/a", "unwanted")
        client.publish(f"{topic}/end", "end")
        equal(client.until("end"), [], "messages after UNSUBACK")


def retained(version):
    """The last retained message reaches a later subscriber; an empty one removes it."""
    topic = unique("ret")
    with Client(version) as client:
        client.publish(f"{topic}/a", "old", 1, True)
        client.publish(f"{topic}/a", "new", 2, True)
        client.subscribe(f"{topic}/#")
        client.publish(f"{topic}/end", "end", 2)
        got = [seen(message) for message in client.until("end")]
        equal(got, [(f"{topic}/a", 2, True, "new")], "retained")
        client.publish(f"{topic}/a", "live", 1, True)
        got = seen(take(client.messages, "message"))
        equal(got, (f"{topic}/a", 1, False, "live"), "live")
        client.publish(f"{topic}/a", "", 1, True)
    with Client(version) as client:
        client.subscribe(f"{topic}/#")
        client.publish(f"{topic}/end", "end", 2)
        equal(client.until("end"), [], "retained after removal")


def retain_options(version):
    """Retain As Published and Retain Handling do what the subscriber asks for."""
    topic = unique("opt")
    with Client(version) as client, Client(version) as other:
        client.publish(topic, "kept", 1, True)
        other.subscribe(topic, 1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        for _ in range(2):
            client.subscribe(
                topic,
                1,
                retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB,
                retainAsPublished=True,
            )
        client.publish(topic, "live", 1, True)
        client.publish(topic, "", 1, True)
        got = [seen(take(client.messages, "message")) for _ in range(2)]
        equal(got, [(topic, 1, True, "kept"), (topic, 1, True, "live")], "with its options")
        equal(seen(take(other.messages, "message")), (topic, 1, False, "live"), "without retained")


def will(version):
    """The will is published when the client is killed, and not when it disconnects."""
    topic = unique("will")
    with Client(version) as watcher:
        watcher.subscribe(topic)
        with Client(version, will=topic):
            pass
        watcher.publish(topic, "between")
        equal(watcher.until("between"), [], "will of an orderly client")
        doomed = subprocess.Popen(
            [sys.executable, __file__, "doomed", str(int(version)), unique("c"), topic],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        equal(doomed.stdout.readline(), b"connected\n", "doomed client")
        doomed.kill()
        doomed.communicate(timeout=WAIT)
        got = seen(take(watcher.messages, "will"))
        equal(got, (topic, 1, False, "killed"), "will")
        watcher.publish(topic, "end")
        equal(watcher.until("end"), [], "further wills")


def doomed(version, client, topic):
    """The client of its own process that `will` kills."""
    with Client(MQTTProtocolVersion(int(version)), client, will=topic):
        print("connected", flush=True)
        sys.stdin.read()


def session(version):
    """Messages sent while the client is away arrive when it comes back, QoS 2 ones once."""
    topic, client = unique("ses"), unique("c")
    with Client(version, client):
        pass
    with Client(version, client, keep=60) as subscriber:
        equal(subscriber.present, False, "session present at first")
        subscriber.subscribe(topic)
    with Client(version) as publisher:
        for number in range(60):
            publisher.publish(topic, str(number), 1 + number % 2)
        with Client(version, client, keep=60) as subscriber:
            # CONNACK of 3.1 has no such flag.
            if version != MQTTProtocolVersion.MQTTv31:
                equal(subscriber.present, True, "session present when back")
            publisher.publish(topic, "end", 2)
            got = [seen(message) for message in subscriber.until("end")]
    # Messages of different QoS have different flows: each QoS keeps its order.
    for qos in (1, 2):
        expected = [(topic, qos, False, str(n)) for n in range(qos - 1, 60, 2)]
        equal([message for message in got if message[1] == qos], expected, f"QoS {qos} messages")
    equal(len(got), 60, "messages")
    with Client(version, client) as subscriber:
        equal(subscriber.present, False, "session present after a clean start")


def shared(version):
    """Two members share the messages: each message reaches one of them, and both get some."""
    topic = unique("sha")
    with Client(version) as one, Client(version) as two, Client(version) as publisher:
        for member in (one, two):
            member.subscribe(f"$share/group/{topic}", 1)
            member.subscribe(f"{topic}/end", 1)
        for number in range(40):
            publisher.publish(topic, str(number))
        publisher.publish(f"{topic}/end", "end")
        parts = [[m.payload.decode() for m in member.until("end")] for member in (one, two)]
    expected = sorted(str(number) for number in range(40))
    equal(sorted(parts[0] + parts[1]), expected, "messages of both members")
    if not parts[0] or not parts[1]:
        raise AssertionError("one member got all messages")


def expiry(version):
    """A message is not delivered after its time; another tells the time it has left."""
    topic, client = unique("exp"), unique("c")
    with Client(version, client, keep=60) as subscriber:
        subscriber.subscribe(topic)
    with Client(version) as publisher:
        publisher.publish(topic, "short", MessageExpiryInterval=1)
        publisher.publish(topic, "long", MessageExpiryInterval=100)
        publisher.publish(topic, "none")
        # The passing of time is what is tested.
        time.sleep(2.5)
        with Client(version, client, keep=60) as subscriber:
            publisher.publish(topic, "end")
            got = subscriber.until("end")
    with Client(version, client):
        pass
    equal([message.payload for message in got], [b"long", b"none"], "messages left")
    left = got[0].properties.MessageExpiryInterval
    if not 100 - WAIT <= left <= 98:
        raise AssertionError(f"interval left is {left}")
    equal(hasattr(got[1].properties, "MessageExpiryInterval"), False, "interval of the last")


def request(version):
    """Response Topic, Correlation Data and User Properties reach the other side unchanged."""
    topic = unique("req")
    user = [("b", "1"), ("a", "2"), ("b", "1")]
    with Client(version) as responder, Client(version) as requester:
        responder.subscribe(topic, 1)
        requester.subscribe(f"{topic}/answer", 1)
        requester.publish(
            topic,
            "ask",
            ResponseTopic=f"{topic}/answer",
            CorrelationData=b"\x00\xfftoken",
            ContentType="text/plain",
            PayloadFormatIndicator=1,
            UserProperty=user,
        )
        asked = take(responder.messages, "request")
        equal(asked.properties.UserProperty, user, "user properties")
        equal(asked.properties.ContentType, "text/plain", "content type")
        equal(asked.properties.PayloadFormatIndicator, 1, "payload format")
        answer, token = asked.properties.ResponseTopic, asked.properties.CorrelationData
        equal((answer, token), (f"{topic}/answer", b"\x00\xfftoken"), "where to answer")
        responder.publish(answer, "told", CorrelationData=token)
        told = take(requester.messages, "answer")
    equal((told.payload, told.properties.CorrelationData), (b"told", token), "answer")


if sys.argv[1:2] == ["doomed"]:
    doomed(*sys.argv[2:])
else:
    run(
        "paho",
        {"3.1": MQTTProtocolVersion.MQTTv31, "3.1.1": MQTTProtocolVersion.MQTTv311, "5.0": V5},
        [
            ("QoS 0", at_qos(0), None),
            ("QoS 1", at_qos(1), None),
            ("QoS 2", at_qos(2), None),
            ("payloads", contents, None),
            ("unsubscribe", unsubscribed, None),
            ("retained", retained, None),
            ("retain options", retain_options, ["5.0"]),
            ("will", will, None),
            ("persistent session", session, None),
            ("shared subscription", shared, None),
            ("message expiry", expiry, ["5.0"]),
            ("request and response", request, ["5.0"]),
        ],
    )
