// A service that reads acsbridge's stream: it keeps the state of each call in a
// bucket of NATS's key-value store, and says when one has ended.
//
//   acsbridge demo
//   npm ci && npm start
//
// Any number of them share the work. Each event may come twice and in any order:
// apply makes the same of it, and a revision in the bucket keeps two replicas from
// writing over each other.
import { connect, nanos } from "@nats-io/transport-node";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { apply } from "./state.js";

const stream = "ACS";
// Where the service's place in the stream is kept. Replicas share it; another
// service takes another name.
const name = "call-state-node";
const types = ["CallConnected", "ParticipantsUpdated", "CallDisconnected"];

const nc = await connect({
  servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222",
  name,
  maxReconnectAttempts: -1,
});
const calls = await new Kvm(nc).create(name, { ttl: 72 * 3600 * 1000 });
const manager = await jetstreamManager(nc);
const config = {
  filter_subjects: types.map((type) => `acs.*.${type}.*`),
  ack_wait: nanos(30_000),
  max_deliver: 12, // within half an hour by the pauses below; then it stays in the stream alone
};
try {
  await manager.consumers.info(stream, name);
  await manager.consumers.update(stream, name, config);
} catch (error) {
  if (error.name !== "ConsumerNotFoundError") throw error;
  await manager.consumers.add(stream, { durable_name: name, ack_policy: AckPolicy.Explicit, ...config });
}
const consumer = await jetstream(nc).consumers.get(stream, name);
const messages = await consumer.consume();
// What was fetched by then and not begun comes again, after ack_wait.
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => messages.close());

for await (const m of messages) {
  let event;
  try {
    event = m.json();
  } catch (error) {
    m.term(error.message); // what is no JSON is not worth another try
    continue;
  }
  try {
    await update(m.subject.split(".").at(-1), event);
    m.ack();
  } catch (error) {
    console.error(m.headers?.get("Nats-Msg-Id"), error.message);
    // A bare nak would come back at once and use up every attempt.
    m.nak(Math.min(1000 * 2 ** (m.info.deliveryCount - 1), 600_000));
  }
}
await nc.drain(); // the last acknowledgements

// update applies an event to the state of its call, whose id is the last part of
// the subject. When another replica was faster, the error of the bucket says so,
// and the event is tried again.
async function update(id, event) {
  if (id === "_") return; // nobody's
  const entry = await calls.get(id);
  const before = entry?.length ? entry.json() : {};
  const call = apply(before, event);
  if (call === before) return; // it came before
  if (entry) await calls.update(id, JSON.stringify(call), entry.revision);
  else await calls.create(id, JSON.stringify(call));
  if (event.type.endsWith(".CallDisconnected")) console.log(`${id} ended ${call.ended}`);
}
