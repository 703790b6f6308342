// Checks with MQTT.js.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { isDeepStrictEqual } from 'node:util';
import { fileURLToPath } from 'node:url';
import { setTimeout as passing } from 'node:timers/promises';
import { connect } from 'mqtt';

const PORT = Number(process.env.FULMAR_PORT);
// The longest wait for anything that must happen, in milliseconds.
const WAIT = 15000;
// Identifiers of 3.1 have at most 23 bytes.
const RUN = `${process.pid % 100000}${Date.now() % 1000}`;

let names = 0;
// A Client Identifier or topic that nobody else uses.
const unique = (word) => `${word}j${RUN}x${(names += 1)}`;

function equal(got, expected, what) {
  if (!isDeepStrictEqual(got, expected)) {
    const [a, b] = [expected, got].map((one) => JSON.stringify(one));
    throw new Error(`${what}: expected ${a}, got ${b}`);
  }
}

// The result of `promise`, within WAIT.
async function bounded(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${WAIT} ms`)), WAIT);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

// A connected client that keeps what it receives.
class Client {
  static async connect(version, { clientId = unique('c'), keep = 0, will } = {}) {
    const self = new Client();
    self.queue = [];
    self.waiting = null;
    const options = {
      host: '127.0.0.1',
      port: PORT,
      protocolVersion: version,
      protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
      clientId,
      clean: keep === 0,
      reconnectPeriod: 0,
      connectTimeout: WAIT,
      will: will && { topic: will, payload: Buffer.from('killed'), qos: 1, retain: false },
    };
    if (version === 5) options.properties = { sessionExpiryInterval: keep };
    // Listeners are there before the first packet: queued messages follow CONNACK at once.
    self.mqtt = connect(options);
    self.mqtt.on('message', (topic, payload, packet) => {
      self.queue.push({ topic, payload, packet });
      self.waiting?.();
    });
    const [connack] = await bounded(
      Promise.race([
        once(self.mqtt, 'connect'),
        once(self.mqtt, 'close').then(() => Promise.reject(new Error('closed before CONNACK'))),
      ]),
      'CONNACK',
    );
    self.present = connack.sessionPresent;
    return self;
  }

  // DISCONNECT and the end of the connection.
  async end() {
    await bounded(this.mqtt.endAsync(), 'end of the connection');
  }

  // Subscribes and checks that the QoS is granted.
  async subscribe(topic, qos = 2) {
    const granted = await bounded(this.mqtt.subscribeAsync(topic, { qos }), 'SUBACK');
    equal(granted.map((one) => one.qos), [qos], 'SUBACK');
  }

  // Publishes and waits until the message is acknowledged, as its QoS asks.
  async publish(topic, payload, qos = 1, retain = false, properties = undefined) {
    const done = this.mqtt.publishAsync(topic, payload, { qos, retain, properties });
    await bounded(done, `acknowledgement of ${String(payload).slice(0, 20)}`);
  }

  async take(what) {
    if (this.queue.length === 0) {
      await bounded(new Promise((resolve) => (this.waiting = resolve)), what);
      this.waiting = null;
    }
    return this.queue.shift();
  }

  // The messages before the one with payload `last`, which must come.
  async until(last) {
    const messages = [];
    for (;;) {
      const message = await this.take(`message ${last} after ${messages.map(seen).join(' ')}`);
      if (message.payload.toString() === last) return messages;
      messages.push(message);
    }
  }
}

// What most checks compare of a message.
const seen = ({ topic, payload, packet }) =>
  `${topic} ${packet.qos} ${packet.retain ? 1 : 0} ${payload}`;

const range = (count) => Array.from({ length: count }, (_, n) => n);

// Messages arrive once, in order and at the QoS they were sent with.
const atQos = (qos) => async (version) => {
  const topic = unique('qos');
  const subscriber = await Client.connect(version);
  const publisher = await Client.connect(version);
  await subscriber.subscribe(`${topic}/#`);
  // MQTT.js does not heed the broker's Receive Maximum; 20 at once is below that of most.
  for (let n = 0; n < 100; n += 20) {
    const some = range(20).map((more) => publisher.publish(`${topic}/a`, `${n + more}`, qos));
    await Promise.all(some);
  }
  await publisher.publish(`${topic}/a`, 'end', qos);
  const got = (await subscriber.until('end')).map(seen);
  equal(got, range(100).map((n) => `${topic}/a ${qos} 0 ${n}`), 'messages');
  await publisher.end();
  await subscriber.end();
};

// An empty, a binary and a large payload arrive unchanged.
async function contents(version) {
  const topic = unique('con');
  const bytes = Buffer.from(range(256));
  const payloads = [Buffer.alloc(0), bytes, Buffer.alloc(500000, bytes.subarray(0, 251))];
  const client = await Client.connect(version);
  await client.subscribe(topic);
  for (const payload of payloads) await client.publish(topic, payload, 2);
  for (const payload of payloads) {
    const got = await client.take('message');
    equal(got.payload.equals(payload), true, `payload of ${payload.length} bytes`);
  }
  await client.end();
}

// The last retained message reaches a later subscriber; an empty one removes it.
async function retained(version) {
  const topic = unique('ret');
  const client = await Client.connect(version);
  await client.publish(`${topic}/a`, 'old', 1, true);
  await client.publish(`${topic}/a`, 'new', 2, true);
  await client.subscribe(`${topic}/#`);
  await client.publish(`${topic}/end`, 'end', 2);
  equal((await client.until('end')).map(seen), [`${topic}/a 2 1 new`], 'retained');
  await client.publish(`${topic}/a`, '', 1, true);
  equal(seen(await client.take('message')), `${topic}/a 1 0 `, 'live message that removes');
  await client.end();
  const later = await Client.connect(version);
  await later.subscribe(`${topic}/#`);
  await later.publish(`${topic}/end`, 'end', 2);
  equal((await later.until('end')).map(seen), [], 'retained after removal');
  await later.end();
}

// The will is published when the client is killed, and not when it disconnects.
async function will(version) {
  const topic = unique('will');
  const watcher = await Client.connect(version);
  await watcher.subscribe(topic);
  const orderly = await Client.connect(version, { will: topic });
  await orderly.end();
  await watcher.publish(topic, 'between');
  equal((await watcher.until('between')).map(seen), [], 'will of an orderly client');
  const file = fileURLToPath(import.meta.url);
  const doomed = spawn(process.execPath, [file, 'doomed', String(version), unique('c'), topic], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [said] = await bounded(once(doomed.stdout, 'data'), 'doomed client');
  equal(String(said), 'connected\n', 'doomed client');
  doomed.kill('SIGKILL');
  await bounded(once(doomed, 'close'), 'end of the doomed client');
  equal(seen(await watcher.take('will')), `${topic} 1 0 killed`, 'will');
  await watcher.publish(topic, 'end');
  equal((await watcher.until('end')).map(seen), [], 'further wills');
  await watcher.end();
}

// Messages sent while the client is away arrive when it comes back, QoS 2 ones once.
async function session(version) {
  const topic = unique('ses');
  const clientId = unique('c');
  const first = await Client.connect(version, { clientId, keep: 60 });
  await first.subscribe(topic);
  await first.end();
  const publisher = await Client.connect(version);
  for (const n of range(60)) await publisher.publish(topic, String(n), 1 + (n % 2));
  const back = await Client.connect(version, { clientId, keep: 60 });
  // CONNACK of 3.1 has no such flag.
  if (version > 3) equal(back.present, true, 'session present when back');
  await publisher.publish(topic, 'end', 2);
  const got = (await back.until('end')).map(seen);
  // Messages of different QoS have different flows: each QoS keeps its order.
  for (const qos of [1, 2]) {
    const numbers = range(60).filter((n) => 1 + (n % 2) === qos);
    const expected = numbers.map((n) => `${topic} ${qos} 0 ${n}`);
    equal(got.filter((one) => one.startsWith(`${topic} ${qos} `)), expected, `QoS ${qos}`);
  }
  equal(got.length, 60, 'messages');
  await back.end();
  await publisher.end();
  const clean = await Client.connect(version, { clientId });
  if (version > 3) equal(clean.present, false, 'session present after a clean start');
  await clean.end();
}

// Two members share the messages: each message reaches one of them, and both get some.
async function shared(version) {
  const topic = unique('sha');
  const members = [await Client.connect(version), await Client.connect(version)];
  for (const member of members) {
    await member.subscribe(`$share/group/${topic}`, 1);
    await member.subscribe(`${topic}/end`, 1);
  }
  const publisher = await Client.connect(version);
  for (const n of range(40)) await publisher.publish(topic, String(n));
  await publisher.publish(`${topic}/end`, 'end');
  const parts = [];
  for (const member of members) {
    parts.push((await member.until('end')).map((message) => Number(message.payload)));
  }
  const all = parts.flat().sort((a, b) => a - b);
  equal(all, range(40), 'messages of both members');
  equal(parts.every((part) => part.length > 0), true, 'both members have some');
  for (const client of [publisher, ...members]) await client.end();
}

// A message is not delivered after its time; another tells the time it has left.
async function expiry(version) {
  const topic = unique('exp');
  const clientId = unique('c');
  const first = await Client.connect(version, { clientId, keep: 60 });
  await first.subscribe(topic);
  await first.end();
  const publisher = await Client.connect(version);
  await publisher.publish(topic, 'short', 1, false, { messageExpiryInterval: 1 });
  await publisher.publish(topic, 'long', 1, false, { messageExpiryInterval: 100 });
  await publisher.publish(topic, 'none', 1);
  // The passing of time is what is tested.
  await passing(2500);
  const back = await Client.connect(version, { clientId, keep: 60 });
  await publisher.publish(topic, 'end', 1);
  const got = await back.until('end');
  equal(got.map((message) => String(message.payload)), ['long', 'none'], 'messages left');
  const left = got[0].packet.properties.messageExpiryInterval;
  if (!(left >= 100 - WAIT / 1000 && left <= 98)) throw new Error(`interval left is ${left}`);
  equal(got[1].packet.properties?.messageExpiryInterval, undefined, 'interval of the last');
  await back.end();
  await publisher.end();
  await (await Client.connect(version, { clientId })).end();
}

// Response Topic and Correlation Data reach the other side unchanged.
async function request(version) {
  const topic = unique('req');
  const token = Buffer.from([0, 255, 1, 2]);
  const responder = await Client.connect(version);
  const requester = await Client.connect(version);
  await responder.subscribe(topic, 1);
  await requester.subscribe(`${topic}/answer`, 1);
  await requester.publish(topic, 'ask', 1, false, {
    responseTopic: `${topic}/answer`,
    correlationData: token,
    userProperties: { kind: ['question', 'short'] },
  });
  const asked = (await responder.take('request')).packet.properties;
  equal(asked.responseTopic, `${topic}/answer`, 'response topic');
  equal(asked.correlationData.equals(token), true, 'correlation data');
  equal([...asked.userProperties.kind], ['question', 'short'], 'user properties');
  await responder.publish(asked.responseTopic, 'told', 1, false, {
    correlationData: asked.correlationData,
  });
  const told = await requester.take('answer');
  equal(String(told.payload), 'told', 'answer');
  equal(told.packet.properties.correlationData.equals(token), true, 'its correlation data');
  await requester.end();
  await responder.end();
}

const CHECKS = [
  ['QoS 0', atQos(0), [3, 4, 5]],
  ['QoS 1', atQos(1), [3, 4, 5]],
  ['QoS 2', atQos(2), [3, 4, 5]],
  ['payloads', contents, [3, 4, 5]],
  ['retained', retained, [3, 4, 5]],
  ['will', will, [3, 4, 5]],
  ['persistent session', session, [3, 4, 5]],
  ['shared subscription', shared, [3, 4, 5]],
  ['message expiry', expiry, [5]],
  ['request and response', request, [5]],
];

const [mode, version, clientId, topic] = process.argv.slice(2);
if (mode === 'doomed') {
  // The client of its own process that `will` kills.
  await Client.connect(Number(version), { clientId, will: topic });
  console.log('connected');
} else {
  for (const [number, name] of Object.entries({ 3: '3.1', 4: '3.1.1', 5: '5.0' })) {
    for (const [what, check, versions] of CHECKS) {
      if (!versions.includes(Number(number))) continue;
      try {
        await check(Number(number));
        console.log(`ok - MQTT.js ${name}: ${what}`);
      } catch (error) {
        console.log(`not ok - MQTT.js ${name}: ${what}`);
        console.error(error);
      }
    }
  }
  // A client left by a failed check would keep the program running.
  process.exit(0);
}
