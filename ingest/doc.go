// Package ingest is the HTTP edge: it takes callbacks, has their token
// verified, decodes them and answers when their events are durable.
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
//	no good token, no callback key            401
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
// ACS may drop the event. Refusals close an HTTP/1 connection, because what
// follows on it may be a request that a proxy in front has not seen.
package ingest
