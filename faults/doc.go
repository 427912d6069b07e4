// Package faults attacks the promise that nothing answered 200 is ever lost.
//
// Everything is in its tests. By themselves they test the suite's own parts and
// take a second. The faults run in one of two forms, on Linux:
//
//	go test ./faults -v -form=short             within four minutes
//	go test ./faults -v -form=long -timeout 0   all rounds
//
// -run picks one of them, -seed repeats what was left to chance (the seed is
// printed; timing is not repeated), and -artifacts keeps the logs of every
// process.
//
// A scenario is a fault and the world that it comes upon, all of it real
// processes that die with the test:
//
//	sender ─link─▶ acsbridge ─links─▶ nats-server × 1 or 3 ─links between them
//	   └── tokens of an acstest.Issuer, which the bridge asks for keys
//
// The sender plays ACS: many calls at a time, in each one callback after the
// other, repeated with a new token until it is answered 200. It keeps the bytes
// of every event and the times and answers of every attempt. Some callbacks are
// forged or go astray, some are sent again after their 200.
//
// A link is a TCP proxy that can be slow, hold everything back in one direction
// or both, or reset its connections in the middle of a message.
//
// The bridge is built with the tag faults, so that it can be told to die at a
// named point (package internal/failpoint).
//
// A flood is connections of strangers beside the sender, straight to the bridge.
//
// Disks that are full, that fail, or that lose their power are file systems of
// the test's own, in memory or in an image. To mount them takes Linux and root;
// elsewhere those tests are skipped.
//
// Then everything is healed, the sender finishes what it has begun, the journal
// empties, and the oracle compares all that was sent with the whole stream:
//
//	O1  answered 200: stored exactly once, the same bytes, the claims of a
//	    token that was sent with it
//	O2  401, 404: not stored; and no such answer for a good event
//	O3  503: stored at most once; in the end answered 200
//	O4  no answer: the same
//	O5  nothing forged is stored, also not inside of something else
//	O6  in a call, what was answered before the next was sent is stored first
//	O7  nothing is stored that was not sent
//	O8  after the last heal: an answer 200 within ten seconds, an empty journal
//	    within a minute, and the bridge at rest takes what it took before
//	O9  the bridge's counters agree with what the sender and the stream know
//
// A violation is printed with everything known of its event.
package faults
