// Package schemas holds acsbridge's contract with its consumers: the event
// envelope and the data of each type of event, the subject of a message and the
// names and escaping of its headers. Every other room takes these from here, and
// nothing here knows how an event arrives or where it is stored.
//
// A message in the stream is one event:
//
//	subject  acs.<resource>.<EventType>.<slot>.<callConnectionId>
//	payload  the event's own JSON bytes (CloudEvents 1.0, structured mode)
//	headers  content-type, Nats-Msg-Id, ce-*, acs-token-*, acs-*
//
// [Parse] reads one:
//
//	message, err := schemas.Parse(m.Headers(), m.Data())
//	if err != nil {
//		return err
//	}
//	switch data := message.Event.Data.(type) {
//	case *schemas.CallConnected:
//		…
//	case *schemas.RecognizeCompleted:
//		…
//	}
//
// The data of an event is as open as the wire: ACS promises no member of it, adds
// types, members and values with every API version, and its SDKs, its
// documentation and its service disagree on some. So every field is optional, an
// enumeration is a string with its known values as constants, a member that a type
// does not name is ignored, and one of another type than its field leaves that zero.
// The whole event is the payload, in its sender's bytes. A field is a pointer where
// zero and absent differ. [encoding/json] reads the typed event, which takes names
// in any case; the ids in the subject are read with exact names.
//
// The Go types are the contract's one source. From them and their comments come, by
// go generate, the JSON Schemas, which [Schema] returns, and the AsyncAPI. In a
// field's tag, pii says what can be personal about its value; [PII] returns it.
//
// Nothing from outside reaches a subject or a header unescaped: see [Token]
// and [HeaderValue].
package schemas
