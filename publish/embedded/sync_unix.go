//go:build unix

package embedded

import "golang.org/x/sys/unix"

// SyncFiles writes everything to the disk. It is for the moment after a stream
// was created: the server syncs a stream's blocks every [SyncInterval], but
// never the file that says that there is a stream.
func SyncFiles() { unix.Sync() }
