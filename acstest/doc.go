// Package acstest simulates Azure Communication Services (ACS) for tests,
// demonstrations and developers without an Azure account. The command serve never
// imports it; demo, simulate, trigger, probe and tests do.
//
// It simulates both sides of the service:
//
//	Issuer   the key server: OIDC document, key set, signed tokens, faults
//	Caller   the webhook sender: calls, one callback after another
//
// A Caller also simulates Event Grid, which starts calls: see [EventGridOptions].
//
// Calls are data. events.yaml has the data of each event type, and each file in flows
// is one kind of call: which events come, in which order and pace, from which leg. A
// new flow is a new file. From there to the wire:
//
//		Flow ──NewCall──▶ callbacks ──Chaos──▶ callbacks ──Caller──▶ POST, token
//		                      └── Load.Expect counts ──┐      │
//		                                    compare ───┴── Report
//
//	 1. A [Flow] and a new [SimCall] give the callbacks of one call, each with its
//	    events, its pause and its [Bearer].
//	 2. [Chaos] duplicates, reorders, delays and merges some, and adds forgeries.
//	    A seed decides which, so a run can be repeated.
//	 3. The [Caller] posts them over HTTP, each one of a call after the answer to the
//	    one before, and each POST with a new token. After no answer, 429 or 5xx it
//	    retries.
//	 4. The [Report] counts what was sent and answered, and which events must now be
//	    in the stream. [Load.Expect] counts the same before the run.
//
// The answer to each callback is known:
//
//	callback                          answer    its events in the stream
//	good                              200       once
//	duplicate                         200       not again
//	expired, forged, wrong-audience,
//	alg-none, alg-hmac, day-long,
//	no-expiry, wrong-issuer,
//	malformed, missing                401       never
//	unknown-kid                       401, 503  never
//
// A [Probe] sends such callbacks to any webhook, one after another, and judges its
// answers.
//
// Names, ids and telephone numbers are invented; the numbers are from ranges that are
// reserved for fiction.
package acstest
