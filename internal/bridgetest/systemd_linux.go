package bridgetest

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// NotifySocket is a socket as systemd gives one to a service of Type=notify.
func NotifySocket(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return conn
}

// State returns the next state of the service, "" when none comes in time.
func State(conn *net.UnixConn, within time.Duration) string {
	_ = conn.SetReadDeadline(time.Now().Add(within))
	buffer := make([]byte, 4096)
	n, _ := conn.Read(buffer)
	return string(buffer[:n])
}

// JournalStream returns both ends of a stream to the journal, and sets the variable
// that names it.
func JournalStream(t *testing.T) (service, journal *os.File) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(ends[0], &stat); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
	service, journal = os.NewFile(uintptr(ends[0]), "service"), os.NewFile(uintptr(ends[1]), "journal")
	t.Cleanup(func() { service.Close(); journal.Close() })
	return service, journal
}
