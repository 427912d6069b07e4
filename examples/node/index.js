// A service that reads acsbridge's stream: it keeps the state of each call in a
// bucket of NATS's key-value store, and prints when one has ended.
//
//   acsbridge demo
//   npm ci && npm start
//
// Any number of replicas share the work. Each event may come twice and in any order:
// apply gives the same state, and a revision in the bucket keeps two replicas from
// overwriting each other.
import { connect, nanos } from "@nats-io/transport-node";
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { apply } from "./state.js";

const stream = "ACS";
// The consumer keeps the service's position in the stream. Replicas share it; another
// service needs another name.
const name = "call-state-node";
// How long the server waits for the answer to an event before it sends it again; it
// begins when the event is sent, not when the work begins.
const ackWait = 30_000;
// The work on one event: two requests of a second at most.
const requestAtMost = 1000;
const handleAtMost = 2 * requestAtMost;
const types = ["CallConnected", "ParticipantsUpdated", "CallDisconnected"];

const nc = await connect({
  servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222",
  name,
  maxReconnectAttempts: -1,
});
const calls = await new Kvm(jetstream(nc, { timeout: requestAtMost })).create(name, { ttl: 72 * 3600 * 1000 });
const manager = await jetstreamManager(nc);
const config = {
  filter_subjects: types.map((type) => `acs.*.${type}.*.*`),
  ack_wait: nanos(ackWait),
  max_deliver: 12, // within half an hour by the pauses below; then it stays in the stream alone
};
try {
  await manager.consumers.info(stream, name);
  await manager.consumers.update(stream, name, config);
} catch (error) {
  if (error.name !== "ConsumerNotFoundError") throw error;
  // Events from now on. DeliverPolicy.All begins with the oldest of the stream, 72
  // hours back, whose calls are over. It holds when the consumer is made;
  // afterwards the server keeps the position.
  const deliver_policy = DeliverPolicy.New;
  await manager.consumers.add(stream, { durable_name: name, ack_policy: AckPolicy.Explicit, deliver_policy, ...config });
}
const consumer = await jetstream(nc).consumers.get(stream, name);
// The last of the fetched events waits for the others, and must be done within half the
// ack wait. The client's default is 100.
const max_messages = Math.max(1, Math.floor(ackWait / 2 / handleAtMost));
const messages = await consumer.consume({ max_messages });
// Events that were fetched and not begun are redelivered after ack_wait.
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => messages.close());

for await (const m of messages) {
  let event;
  try {
    event = m.json();
  } catch (error) {
    m.term(error.message); // a message that is not JSON is not retried
    continue;
  }
  try {
    await update(m.subject.split(".").at(-1), event);
    m.ack();
  } catch (error) {
    console.error(m.headers?.get("Nats-Msg-Id"), error.message);
    // A bare nak would redeliver at once and use up every attempt.
    m.nak(Math.min(1000 * 2 ** (m.info.deliveryCount - 1), 600_000));
  }
}
await nc.drain(); // the last acknowledgements

// update applies an event to the state of its call, whose id is the last part of
// the subject. When another replica was faster, the bucket returns an error,
// and the event is retried.
async function update(id, event) {
  if (id === "_") return; // of no call
  const entry = await calls.get(id);
  const before = entry?.length ? entry.json() : {};
  const call = apply(before, event);
  if (call === before) return; // a duplicate
  if (entry) await calls.update(id, JSON.stringify(call), entry.revision);
  else await calls.create(id, JSON.stringify(call));
  if (event.type.endsWith(".CallDisconnected")) console.log(`${id} ended ${call.ended}`);
}
