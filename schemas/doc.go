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
// enumeration is a string with its known values as constants, and what a Go type
// has no place for is kept in [Rest]. A field is a pointer where zero and absent
// differ.
//
// The Go types are the contract's one source. From them and their comments
// come, by go generate, the methods that decode and encode them and the JSON
// Schemas, which [Schema] returns. In a field's tag, pii says what is personal
// about its value:
//
//	identifier  tells who somebody is, as a telephone number does
//	name        a person's name
//	said        what somebody said or pressed
//	text        text for people, which can name somebody
//	context     what the application or a caller's system has attached
//	secret      whoever has it can act for the receiver
//
// Nothing from outside reaches a subject or a header unescaped: see [Token]
// and [HeaderValue].
package schemas
