package journal

import (
	"os"

	"golang.org/x/sys/unix"
)

const canSyncData = true

func syncData(fd uintptr) error {
	for {
		err := unix.Fdatasync(int(fd))
		if err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
