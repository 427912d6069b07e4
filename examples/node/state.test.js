import assert from "node:assert/strict";
import { test } from "node:test";
import { apply } from "./state.js";

const event = (type, data) => ({ type: `Microsoft.Communication.${type}`, data });
const events = [
  event("CallConnected", {}),
  event("ParticipantsUpdated", { sequenceNumber: 0, participants: [{}] }),
  event("ParticipantsUpdated", { sequenceNumber: 3, participants: [{}, {}] }),
  event("CallDisconnected", { resultInformation: { code: 200, subCode: 7000 } }),
  event("PlayCompleted", {}),
];

function* orders(list) {
  if (list.length === 0) yield [];
  for (const [i, first] of list.entries()) {
    for (const others of orders(list.toSpliced(i, 1))) yield [first, ...others];
  }
}

test("order and repetition do not matter", () => {
  for (const order of orders(events)) {
    let state = {};
    for (const e of [...order, ...order.slice(0, 2), ...order]) state = apply(state, e);
    assert.deepEqual(state, { connected: true, sequence: 3, participants: 2, ended: "200/7000" });
    for (const e of order) assert.equal(apply(state, e), state);
  }
});

test("what is absent does no harm", () => {
  for (const data of [{}, null, undefined]) {
    assert.deepEqual(apply({}, event("ParticipantsUpdated", data)), {});
    assert.deepEqual(apply({}, event("CallDisconnected", data)), { ended: "without a reason" });
  }
});
