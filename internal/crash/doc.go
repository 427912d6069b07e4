// Package crash lets a process die as if the power had gone, for tests of what
// the next start finds. It works in builds with the tag faults alone; in others
// its functions are empty, and the compiler removes the calls.
//
// A point is one call, crash.At("after-fsync"). The environment variable
// ACSBRIDGE_CRASH=after-fsync:3 makes the third pass of that point kill the
// process with SIGKILL: nothing is flushed, closed or deferred.
//
// SIGKILL takes the process but not what the kernel has of its writes. With
// ACSBRIDGE_VOLATILE=1, files that were handed to crash.Volatile keep what is
// written in memory until it is synced, so that any death of the process takes
// along what a power cut would. Not simulated are directory entries, torn
// sectors, and disks that lie about a sync.
package crash

import "io"

// File is a file that is written and read in places.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
}
