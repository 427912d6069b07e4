// A service that reads acsbridge's stream itself: it keeps the state of each call in a
// bucket of NATS's key-value store, and prints when one has ended. acsbridge deliver (see
// webhook.js) does more: a failing event holds back its own call alone.
//
//   acsbridge demo
//   npm ci && node direct.js
//
// Order: a digit of the subject, the slot, is the same for all events of a call. One
// consumer for each of the sixteen slots, with one event in flight, keeps the order of the
// stream, whatever replicas and attempts there are. So a failing event holds back its slot.
//
// Duplicates: an event can come twice, and also be twice in the stream. The state has the
// ids that were handled last, and is written together with them.
import { connect, nanos } from "@nats-io/transport-node";
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";

const stream = "ACS";
// The consumers keep the service's position. Replicas share them; another service needs
// another name.
const name = "calls-node";
const types = ["CallConnected", "ParticipantsUpdated", "CallDisconnected"];

const nc = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222", name, maxReconnectAttempts: -1 });
const manager = await jetstreamManager(nc);
const calls = await new Kvm(jetstream(nc, { timeout: 1000 })).create(name, { ttl: 72 * 3600 * 1000 });
const readers = [];
for (const slot of "0123456789abcdef") {
  const durable_name = `${name}-${slot}`;
  const config = {
    filter_subjects: types.map((type) => `acs.*.${type}.${slot}.*`),
    max_ack_pending: 1, // the order: nothing comes before this event is done
    ack_wait: nanos(30_000), // more than twice the longest work
    max_deliver: 12, // within half an hour by the pauses below; then it stays in the stream alone
  };
  try {
    await manager.consumers.info(stream, durable_name);
    await manager.consumers.update(stream, durable_name, config);
  } catch (error) {
    if (error.name !== "ConsumerNotFoundError") throw error;
    // Events from now on: DeliverPolicy.All begins 72 hours back.
    const deliver_policy = DeliverPolicy.New;
    await manager.consumers.add(stream, { durable_name, ack_policy: AckPolicy.Explicit, deliver_policy, ...config });
  }
  const consumer = await jetstream(nc).consumers.get(stream, durable_name);
  readers.push(await consumer.consume({ max_messages: 1 }));
}
const stop = () => readers.forEach((messages) => messages.close());
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, stop);
await Promise.all(readers.map(read));
await nc.drain(); // the last acknowledgements

// read handles the events of one slot.
async function read(messages) {
  for await (const m of messages) {
    try {
      await update(m.subject.split(".").at(-1), m.headers?.get("Nats-Msg-Id"), m.json());
      m.ack();
    } catch (error) {
      console.error(m.headers?.get("Nats-Msg-Id"), error.message);
      // A bare nak would redeliver at once and use up every attempt.
      m.nak(Math.min(1000 * 2 ** (m.info.deliveryCount - 1), 600_000));
    }
  }
}

// update applies an event to the state of its call. When a replica that took too long
// writes after another one, the bucket returns an error.
async function update(call, id, { type, data }) {
  if (call === "_") return; // of no call
  const entry = await calls.get(call);
  const state = entry?.length ? entry.json() : { handled: [] };
  if (state.handled.includes(id)) return; // a duplicate
  state.handled = [...state.handled, id].slice(-16);
  switch (type.slice(type.lastIndexOf(".") + 1)) {
    case "CallConnected":
      state.connected = true;
      break;
    case "ParticipantsUpdated": // ACS can send an old roster after a new one
      if (!(data?.sequenceNumber > (state.sequence ?? -1))) break;
      state.sequence = data.sequenceNumber;
      state.participants = data.participants?.length ?? 0;
      break;
    case "CallDisconnected": {
      const result = data?.resultInformation;
      state.ended = result ? `${result.code}/${result.subCode}` : "without a reason";
    }
  }
  if (entry) await calls.update(call, JSON.stringify(state), entry.revision);
  else await calls.create(call, JSON.stringify(state));
  if (type.endsWith(".CallDisconnected")) console.log(`${call} ended ${state.ended}`);
}
