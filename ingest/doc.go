// Package ingest is the HTTP edge: it takes callbacks, has their token
// verified, decodes them and answers when their events are durable. On a route
// of its own it takes the deliveries of Event Grid, in the same way. [LivezPath] is
// for load balancers, and answers all who ask.
//
// The order of the steps is the promise that nobody without a good token gets
// a body read or a byte of detail:
//
//	source range → method and path → refused clients → callback key → token →
//	media type and encoding → bounded body → decode → publish → answer
//
// Answers, all without a body:
//
//	durable, or a duplicate                   200
//	not JSON, no CloudEvents                  400, and the callback is quarantined
//	no good token, no key                     401
//	outside the source ranges                 403
//	path, method                              404, 405
//	body too large                            413
//	media type, content encoding              415
//	no verdict possible, not durable,
//	too many requests under way, draining,
//	too many refusals of the client,
//	too much for the quarantine               503 with Retry-After
//
// 401 and 400 are final for the sender, so they are given only when no other
// try could succeed. Everything that is our fault is 503, never 429, on which
// ACS may drop the event; and nothing that a later try could mend is answered
// 400, 401, 403 or 413, after which Event Grid never comes again. Refusals close an
// HTTP/1 connection, because what follows on it may be a request that a proxy in front
// has not seen. It is thrown away unparsed for a while, or the sender would get a reset
// in the place of the answer.
//
// # Refusals
//
// A final answer is a lost event when the configuration is wrong, and most often the
// answer to a stranger's junk. Each kind of refusal, a route and a reason, is logged
// once a minute with what cures it, and [Handler.Activity] has what was refused lately.
// Requests that look for something else than callbacks do not count.
//
// # Event Grid
//
// The route for Event Grid ([EventGrid]) has one path and nothing below it, and
// senders of its own. What opens it, a token of Entra ID or a key, does not open
// that of callbacks, nor the other way round. The steps are the same but for
// these: source ranges, which are those of callbacks, are not asked for; tokens
// are not bound to a body, because Event Grid uses one for a day; and the
// resource is picked by the topic of the events, since the token names none.
//
// A subscription is validated before it delivers. That is decided by what a
// request is, and nothing in a body is searched for:
//
//	OPTIONS with WebHook-Request-Origin        200 with WebHook-Allowed-Origin
//	POST with aeg-event-type
//	SubscriptionValidation, of that one event  200 with its code
//	one of the two without the other           400, quarantined
package ingest
