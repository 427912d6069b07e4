package main

import (
	"os"
	"syscall"
)

// syncData is what the journal does after a write.
func syncData(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
