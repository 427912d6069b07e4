// Package publish makes verified events durable and brings them to NATS
// JetStream, each exactly once and in order.
//
//	Event + Claims → record ─▶ journal (fsync) ─▶ forwarder ─▶ stream
//	                              └── Publish returns
//
// [Publisher.Publish] turns a callback's events into records, one message
// each, and appends them to the journal. The forwarder is the journal's one
// reader. It publishes record after record, up to a window of 512 without an
// acknowledgement, and keeps a cursor behind the last one that the stream has
// together with all before it. Of one call only one record is under way at a
// time, so a call's events keep their order even when the stream refuses one
// and takes the next. Publish waits for the cursor a short while, so
// that an answer usually means: in the stream. The journal is always in the
// path, so recovery is the normal path too.
//
// On any failure the forwarder backs off and begins again at the cursor, which
// is kept in a file. What is published twice, the stream folds by its
// Nats-Msg-Id, as long as its duplicate window lasts. Before a record is sent
// that has waited longer than a quarter of that, the ids of the stream's tail are
// read back, and what is among them is not sent.
//
// What happens when something dies:
//
//	NATS away             the journal holds the events; Publish does not wait
//	journal full          ErrUnavailable
//	disk failing          ErrUnavailable; the journal opens again by itself
//	bridge killed         the journal holds the events; the next start goes on
//	record never fits     dead-letter file, with the reason; the rest goes on
//	record corrupt        dead-letter file; the rest goes on
//	a wrong setting, missing rights, no room
//	                      the journal holds the events until that is mended
//	another stream acknowledges
//	                      that does not count; the journal holds the events
//	quarantine stream away
//	                      a journal of its own holds them; events go on
//	embedded server loses power
//	                      the journal keeps acknowledged records for twice the
//	                      server's sync interval and publishes them again
//
// What is for quarantine takes the same way with a journal and a forwarder of its
// own. Records are addressed when they are sent, by the settings of that moment; a
// [target] knows where its stream is and what is not well with it.
//
// Without a journal, Publish returns when the stream has every event, or with
// ErrUnavailable after two seconds.
//
// Nothing is published without claims, and only package verify can make
// claims. The journal is trusted: whoever can write it can put events on the
// stream.
package publish
