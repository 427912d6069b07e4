package bridge

import (
	"errors"
	"net"
	"os"
	"strconv"
	"time"
)

// notify writes a state of this process to systemd, or to another supervisor that
// speaks its protocol (sd_notify(3)). Without one it does nothing.
func (b *Bridge) notify(state string) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	conn, err := net.Dial("unixgram", socket) // which reads a leading @ as an abstract name
	if err == nil {
		_, err = conn.Write([]byte(state))
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		b.logger.Warn("systemd does not learn the state of the bridge: it ends the bridge when TimeoutStartSec or WatchdogSec is over, unless the unit has Type=exec and no watchdog",
			"state", state, "NOTIFY_SOCKET", socket, "error", err)
	}
}

// watchdog returns a function that reports to systemd that this process is alive
// (sd_watchdog_enabled(3)), nil when the unit has no WatchdogSec. The loop of [watch] calls
// it, whose checks take the locks of every room: when one of those is never released, the
// calls end and systemd kills the process. The state of NATS and of the key server does not
// count, since a restart does not bring them back.
func (b *Bridge) watchdog() func() {
	µs, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if pid := os.Getenv("WATCHDOG_PID"); err != nil || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil
	}
	if every := time.Duration(µs) * time.Microsecond; every < 3*watchInterval {
		b.logger.Warn("WatchdogSec is too short: systemd may kill a bridge that works",
			"WatchdogSec", every.String(), "least", (3 * watchInterval).String())
	}
	return func() { b.notify("WATCHDOG=1") }
}
