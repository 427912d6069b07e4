// Package publish makes verified events durable and brings them to NATS
// JetStream: each once, and those of a call in order.
//
//	Event + Claims → record ─▶ journal (fsync) ─▶ forwarder ─▶ stream
//	                              └── Publish returns
//
// [Publisher.Publish] turns a callback's events into records, one message
// each, and appends them to the journal. The forwarder is the journal's one
// reader. It has a window of records behind a cursor, which stands at the last record
// that the stream has together with all before it. A record waits for the
// acknowledgement of the one of its call before it, so that a call's events keep
// their order even when the stream refuses one and takes the next; calls overtake
// one another. Publish waits for the stream for some milliseconds, as long as
// that is likely to be enough. The journal is always in the path, so recovery is
// the normal path too.
//
// On any failure the forwarder backs off and begins again at the cursor, which
// is kept in a file. The stream deduplicates by Nats-Msg-Id as long as its
// duplicate window lasts. Before a record is sent that has waited longer than a
// quarter of that, the ids at the end of the stream are looked up.
//
// What happens when something dies:
//
//	NATS disconnected     the journal holds the events; Publish does not wait
//	journal full          ErrUnavailable
//	disk failing          ErrUnavailable; the journal opens again by itself
//	bridge killed         the journal holds the events; the next start goes on
//	record never fits     dead-letter file, with the reason; the rest goes on
//	record corrupt        dead-letter file; the rest goes on
//	a wrong setting, missing rights, no room
//	                      the journal holds the events until that is corrected
//	another stream acknowledges
//	                      that does not count; the journal holds the events
//	quarantine stream unreachable
//	                      a journal of its own holds them; events go on
//	embedded server loses power
//	                      the journal keeps acknowledged records for twice the
//	                      server's sync interval and publishes them again
//
// The quarantine has a journal and a forwarder of its own. Records are addressed
// when they are sent, by the settings of that moment; a [target] knows where its
// stream is and what is wrong with it.
//
// Without a journal, Publish returns when the stream has every event, or with
// ErrUnavailable after two seconds.
//
// Nothing is published without claims, and only package verify can make
// claims. The journal is trusted: a process that can write it can put events on
// the stream.
package publish
