// Package faults tests the promise that nothing answered 200 is ever lost.
//
// Everything is in its tests. Without a form they test the suite itself and take a
// second. The faults run in one of two forms, on Linux:
//
//	go test ./faults -v -form=short             within four minutes, in .ci/run
//	go test ./faults -v -form=long -timeout 0   all rounds, in some hours
//
// The long form is meant for a nightly run: on a machine of its own, because it checks
// durations, and as root, because it mounts file systems. It takes more than two hours,
// which one scenario needs alone. It prints every violation and the seed; -artifacts keeps
// the logs of all processes:
//
//	go test ./faults -v -form=long -timeout 12h -artifacts -outputdir /var/tmp/faults
//
// -run selects a scenario, and -seed repeats its random decisions, but not its timing.
//
// A scenario is a fault and its environment, all of it real processes that die with the
// test:
//
//	sender ─proxy─▶ acsbridge ─proxies─▶ nats-server × 1 or 3 ─proxies between them
//	   └── tokens of an acstest.Issuer, whose keys the bridge fetches
//
// The sender is ACS: many calls at a time, in each one callback after the other, each
// repeated with a new token until it is answered 200. It keeps the bytes of every event
// and the times and answers of every attempt. Some callbacks are forged or have a wrong
// path, some are sent again after their 200.
//
// A proxy (natstest.Proxy) can be slow, hold one direction or both, or reset its
// connections in the middle of a message.
//
// The bridge is built with the tag faults, so that it can die at a failpoint (package
// internal/failpoint).
//
// An attacker sends junk straight to the bridge.
//
// Disks that are full, fail, or lose their power are file systems of the test, in memory
// or in an image. To mount them needs Linux and root; elsewhere those tests are skipped.
//
// Then all faults end, the sender finishes what it has begun, the journal empties, and
// the oracle compares all that was sent with the whole stream:
//
//	O1  answered 200: stored exactly once, the same bytes, the claims of a
//	    token that was sent with it
//	O2  401, 404: not stored; and no such answer for a good event
//	O3  503: stored at most once; in the end answered 200
//	O4  no answer: the same
//	O5  nothing forged is stored, also not inside of something else
//	O6  in a call, what was answered before the next was sent is stored first
//	O7  nothing is stored that was not sent
//	O8  after the last fault: an answer 200 within ten seconds, an empty journal
//	    within a minute, and the bridge returns to its footprint
//	O9  the bridge's counters match what was sent and stored
//
// A violation is printed with everything known of its event.
package faults
