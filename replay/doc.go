// Package replay reads the stream back: events as they come, the story of a call,
// the calls of a time, and captures in a file. Package resend sends what it reads.
//
// A [Reader] asks for messages by batched direct get (ADR-31), one bounded request
// after another, each from the sequence at which the last one ended. It makes no
// consumer: the right to direct get is enough, leaves nothing on the server, and after an
// interruption continues at the message where it was. At the end of the stream it
// stops, or, when it follows, asks again a little later.
//
//	an answer breaks off               asked for again from there
//	a message is missing in an answer  asked for again from there
//	NATS is disconnected               a few more attempts; when following, without end
//	messages were deleted or purged    the reading continues after them, with a *MissedError
//	the replica that answers is behind asked again; then an error, or a warning
//	subjects have no slot              an *OldSubjectsError, since filters do not find them
//	the stream was created again       an error
//	no such stream, no direct get,
//	server older than 2.11             an error that says what to do
package replay
