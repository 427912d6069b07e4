//go:build faults

package crash

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// Variables of the environment; see the package comment.
const (
	pointVariable    = "ACSBRIDGE_CRASH"
	volatileVariable = "ACSBRIDGE_VOLATILE"
)

var (
	point       string       // empty: none
	left        atomic.Int64 // passes of the point, the last one included
	losesWrites bool
)

// init takes the variables out of the environment: serve refuses variables
// with its prefix that are no setting.
func init() {
	losesWrites = take(volatileVariable) != ""
	value := take(pointVariable)
	if value == "" {
		return
	}
	name, pass, _ := strings.Cut(value, ":")
	n, err := strconv.ParseInt(pass, 10, 32)
	if err != nil || n < 1 || name == "" {
		panic(fmt.Sprintf("%s=%s: write it like after-fsync:3", pointVariable, value))
	}
	point = name
	left.Store(n)
}

func take(variable string) string {
	value := os.Getenv(variable)
	if err := os.Unsetenv(variable); err != nil {
		panic(err)
	}
	return value
}

// At kills the process when this is the pass of the point that was asked for.
func At(name string) {
	if name != point || left.Add(-1) != 0 {
		return
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {} // nothing is done after the point while the signal is on its way
}

// Volatile returns the file, or one that loses what is not synced when the
// process dies.
func Volatile(f File) File {
	if !losesWrites {
		return f
	}
	return &volatile{File: f}
}
