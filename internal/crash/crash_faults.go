//go:build faults

package crash

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// Variable names the point and the pass of it that ends the process.
const Variable = "ACSBRIDGE_CRASH"

var (
	point string       // empty: none
	left  atomic.Int64 // passes of the point, the last one included
)

// init takes the variable out of the environment: serve refuses variables with
// its prefix that are no setting.
func init() {
	value, ok := os.LookupEnv(Variable)
	if !ok {
		return
	}
	name, pass, _ := strings.Cut(value, ":")
	n, err := strconv.ParseInt(pass, 10, 32)
	if err != nil || n < 1 || name == "" {
		panic(fmt.Sprintf("%s=%s: write it like after-fsync:3", Variable, value))
	}
	point = name
	left.Store(n)
	if err := os.Unsetenv(Variable); err != nil {
		panic(err)
	}
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
