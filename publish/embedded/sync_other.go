//go:build !unix

package embedded

// SyncFiles does nothing where there is no sync(2): see the unix version.
func SyncFiles() {}
