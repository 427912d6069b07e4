// Package crash has points at which a process can be made to die, as if the
// power had gone there, for tests of what the next start finds.
//
// A point is one call, crash.At("after-fsync"). Without the build tag faults it
// is an empty function that the compiler removes. With it, the environment
// variable ACSBRIDGE_CRASH=after-fsync:3 makes the third pass of that point
// kill the process with SIGKILL: nothing is flushed, closed or deferred.
package crash
