//go:build !linux

package main

import "os"

// syncData is what the journal does after a write.
func syncData(f *os.File) error { return f.Sync() }
