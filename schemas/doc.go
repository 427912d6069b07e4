// Package schemas holds acsbridge's contract with its consumers: the event
// envelope, the subject of a message and the names and escaping of its
// headers. Every other room takes these from here, and nothing here knows how
// an event arrives or where it is stored.
//
// A message in the stream is one event:
//
//	subject  acs.<resource>.<EventType>.<callConnectionId>
//	payload  the event's own JSON bytes (CloudEvents 1.0, structured mode)
//	headers  content-type, Nats-Msg-Id, ce-*, acs-token-*, acs-*
//
// Nothing from outside reaches a subject or a header unescaped: see [Token]
// and [HeaderValue].
package schemas
