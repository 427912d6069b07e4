// Package ingest answers callbacks over HTTP: it has their token verified, decodes
// them, and answers when their events are durable. On a route of its own it does the
// same for deliveries of Event Grid. [LivezPath] is for health probes. Package edge has
// what is independent of callbacks: connections, addresses, limits.
//
// The order of the steps makes sure that a client without a good token gets no body
// read, and no detail in an answer:
//
//	source range → path and method → failed authentications of the client →
//	callback key → token → media type and encoding → bounded body → decode →
//	store → answer
//
// Answers, all without a body:
//
//	durable, or a duplicate                   200
//	not JSON, not CloudEvents                 400, and the callback is quarantined
//	no good token, no good key                401
//	outside the source ranges                 403
//	path, method                              404, 405
//	body too large                            413
//	media type, content encoding              415
//	token cannot be verified, not durable,
//	too many requests in flight, draining,
//	too many failed authentications,
//	too many quarantined callbacks            503 with Retry-After
//
// 400, 401, 403 and 413 are final for the sender (Event Grid never sends the event
// again), so they are answered only when no retry could succeed. Every fault of ours is
// 503, never 429, on which ACS may drop the event. Refusals close an HTTP/1 connection,
// because what follows on it may be a request that a proxy in front has not seen. It is
// discarded unparsed for a while, or the sender would get a reset in place of the
// answer.
//
// # Refusals
//
// A final answer loses an event when the configuration is wrong, but most final
// answers are to junk. Each kind of refusal, a route and a reason, is logged once a minute
// with its remedy, and [Handler.Activity] has the recent ones. Requests that cannot
// have been callbacks do not count.
//
// # Event Grid
//
// The route for Event Grid ([EventGrid]) has one path and nothing below it. Its
// credentials, a token of Entra ID or a key, are not valid for callbacks, and those of
// callbacks are not valid here. The steps are the same with three differences: the
// source ranges are those of callbacks and are not checked; tokens are not bound to a
// body, because Event Grid uses one for a day; and the topic of the events decides the
// resource, since the token names none.
//
// A subscription is validated before it delivers. The form of the request decides about that;
// no body is searched:
//
//	OPTIONS with WebHook-Request-Origin        200 with WebHook-Allowed-Origin
//	POST with aeg-event-type
//	SubscriptionValidation, of that one event  200 with its code
//	one of the two without the other           400, quarantined
package ingest
