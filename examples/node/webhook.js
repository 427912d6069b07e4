// A webhook for the events of calls, with the SDK of ACS: it asks callers for a key, puts
// them through or tells the opening hours, and prints what it would ask of ACS. Run it
// behind acsbridge:
//
//   acsbridge demo
//   npm ci && WEBHOOK_SECRET=$(cat crm.secret) node webhook.js
//   acsbridge deliver --name crm --to http://127.0.0.1:3000/api/callbacks --append-path \
//     --allow-private --secret-file crm.secret
//
// deliver posts one event of a call at a time, in order, and posts it again until the
// answer is 2xx: answer when the work is done.
import express from "express";
import { parseCallAutomationEvent } from "@azure/communication-call-automation";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const app = express();

// The signature is about the bytes of the body, so it is verified before they are parsed.
// ACS sends less than 256 KiB; express takes 100 KiB by default.
const body = express.raw({ type: "application/json", limit: "256kb" });
app.post("/api/callbacks{/*path}", body, async (request, response) => {
  let event;
  try {
    [event] = webhook.verify(request.body, request.headers);
  } catch {
    response.sendStatus(401); // this is not from deliver
    return;
  }
  let parsed;
  try {
    parsed = parseCallAutomationEvent(event);
  } catch {
    response.sendStatus(200); // a type that this version of the SDK does not know
    return;
  }
  try {
    await handle(parsed, request.get("webhook-id"));
    response.sendStatus(200);
  } catch (error) {
    console.error(error.message);
    response.sendStatus(500); // it is posted again; the other calls go on
  }
});

const server = app.listen(process.env.PORT ?? 3000, "127.0.0.1", () => {
  console.log(`listening at http://127.0.0.1:${server.address().port}/api/callbacks`);
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => server.close());

// handle does the work of one event. An event can come twice, when an answer is lost: id
// is the same then. Give it to the effect, as Repeatability-Request-ID to ACS, or keep it
// with the state that the effect changes, in one transaction.
async function handle(event, id) {
  const act = (action) => console.log(`${event.callConnectionId} ${action} ${id}`);
  switch (event.kind) {
    case "CallConnected":
      return act("recognize menu"); // the operationContext comes back with the answer
    case "RecognizeCompleted":
      return act(event.dtmfResult?.tones?.[0] === "zero" ? "transfer" : "play");
    case "RecognizeFailed":
      return act(event.operationContext === "menu" ? "recognize menu-again" : "hang-up");
    case "PlayCompleted":
      if (event.operationContext !== "opening-hours") return;
      return act("hang-up");
    case "PlayFailed":
    case "CallTransferFailed":
      return act("hang-up");
    case "CallDisconnected": {
      const result = event.resultInformation;
      return act(`ended ${result ? `${result.code}/${result.subCode}` : "without a reason"}`);
    }
  }
}
