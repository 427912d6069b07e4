// Package resend sends events again that were read from the stream or from a file,
// and brings quarantined callbacks and dead letters to the stream.
//
// A [Sender] sends messages to a [Target]: [Copies] under another subject, [Posts] to
// an application, or a [replay.Capture] in a file. It sends the messages of one call
// one after another, each when the target has accepted the one before it, and those
// of different calls at the same time; so the order of a call is kept whatever fails
// and is tried again. Everything before [Progress].Next is done: a replay that
// continues there sends some messages twice and leaves none out.
//
//	the target rejects a message          it is reported, the others continue; ten in a row end it
//	the callback URL to append was cut    it is not posted, and reported
//	nothing answers at the URL            an error within seconds
//	the target fails for a while          tried again, the rest of that call waits
//	NATS is disconnected                  waited for
//	no stream takes the copies            an error that says what to do
//	an acknowledgement of another stream  an error: nothing more is sent
//
// A [Checkpoint] keeps that place in a file. A [Redactor] replaces what identifies the
// participants of a call. A [Redrive] makes events of quarantined callbacks and dead letters;
// its comment names what it trusts.
package resend
