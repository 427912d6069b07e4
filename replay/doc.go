// Package replay reads the stream back: for those who look into it, and for
// those who send what it holds to somewhere else.
//
// A [Reader] asks for messages by batched direct get (ADR-31), one bounded
// request after another, each from the sequence at which the last one ended. It
// makes no consumer. So it needs no right but to ask, leaves nothing on the
// server, takes nothing away from any consumer, and goes on after an
// interruption at the message where it was. At the end of the stream it stops,
// or, when it follows, asks again a little later.
//
// What can go wrong on the way, and what comes of it:
//
//	an answer breaks off               asked for again from there
//	a message is missing in an answer  asked for again from there
//	NATS is away                       a few more attempts; in following, for ever
//	messages were deleted or purged    the reading goes on behind them, Notice says *MissedError
//	the replica that answers is behind asked again; in the end an error, or Notice says so
//	the stream began again             an error
//	no such stream, no direct get,
//	server older than 2.11             an error that says what to do
//
// A [Sender] brings what was read, or the lines of a file ([ReadCapture]), to a
// [Target]: [Copies] under another subject, [Posts] to an application, or a
// [Capture] in a file. It sends the messages of one call one after another, each
// when the target has the one before it, and those of different calls side by
// side; so whatever fails and is tried again, the order of a call is kept. It
// knows at every moment where to go on: everything before [Progress].Next is
// settled. Whoever goes on there sends some messages twice and leaves none out.
//
//	the target does not take a message    it is reported, the others go on; ten in a row end it
//	its callback URL was cut              it is not posted, and reported
//	the target fails for a while          tried again, the rest of that call waits
//	NATS is away                          waited for
//	no stream takes the copies            an error that says what to do
//	an acknowledgement of another stream  an error: nothing more is sent
//
// A [Redactor] takes out who took part. A [Redrive] brings what was set aside to
// the stream, and says whom that trusts.
package replay
