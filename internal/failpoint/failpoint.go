// Package failpoint lets a process die as in a power cut, for tests of what the
// next start finds. It works in builds with the tag faults alone; in others its
// functions are empty, and the compiler removes the calls.
//
// A failpoint is one call, failpoint.At("after-fsync"). The environment variable
// ACSBRIDGE_FAILPOINT=after-fsync:3 makes the third pass of that point kill the
// process with SIGKILL: nothing is flushed, closed or deferred.
//
// With ACSBRIDGE_BROKEN=fence a guard of that name is left out, where the code asks
// failpoint.Broken("fence"): a suite that does not fail then does not test the guard.
//
// After SIGKILL the kernel still has what the process wrote. With
// ACSBRIDGE_VOLATILE=1, files that were handed to failpoint.Volatile keep writes
// in memory until they are synced, so that any death of the process loses what a
// power cut would. Not simulated are directory entries, torn sectors, and disks
// that do not do what they report for a sync.
package failpoint

import "io"

// File is a file that is written and read in places.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
}
