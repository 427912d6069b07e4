// Package acstest is a stand-in for Azure Communication Services: what a test,
// a demonstration or a developer without an Azure account puts in front of a
// bridge. The command serve never imports it; demo, simulate, trigger and
// tests do.
//
// It plays both sides of the service:
//
//	Issuer   the key server: OIDC document, key set, signed tokens, faults
//	Caller   the webhook sender: calls, one callback after another
//
// A Caller also plays Event Grid, by which calls begin: see [EventGridOptions].
//
// A call is told as data. events.yaml says what stands in the data of each
// event type, and each file in flows is the story of one kind of call: which
// events come, in which order and pace, from which leg. A new flow is a new
// file. From there to the wire:
//
//		Flow ──NewCall──▶ deliveries ──Chaos──▶ deliveries ──Caller──▶ POST, token
//		                      └── Load.Expect counts ──┐        │
//		                                    compare ───┴── Report
//
//	 1. A [Flow] and a new [Call] give the deliveries of one call, each with its
//	    events, its pause and the [Bearer] it is sent with.
//	 2. [Chaos] duplicates, reorders, delays and merges some, and adds forgeries.
//	    A seed decides which, so a run can be repeated.
//	 3. The [Caller] posts them over HTTP, the next one of a call after the
//	    answer to the one before, each POST with a new token. What gets no
//	    answer, 429 or 5xx is sent again.
//	 4. The [Report] says what was sent, what came back, and which events must
//	    now be in the stream. [Load.Expect] tells the same before the run.
//
// Every delivery knows its answer:
//
//	delivery                          answer    its events in the stream
//	good                              200       once
//	duplicate                         200       not again
//	expired, forged, wrong-audience,
//	alg-none, alg-hmac, day-long,
//	missing                           401       never
//	unknown-kid                       401, 503  never
//
// Names, ids and telephone numbers are invented; the numbers are from the
// ranges that are set aside for fiction.
package acstest
