package bridgetest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// taken are the addresses that FreeAddress has returned.
var taken sync.Map

// FreeAddress returns a loopback address at which nothing listens, each time another
// one. Its port is below 32768, where the ports begin that the system assigns to listeners on
// port 0: another test could get one of those.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 20000+rand.IntN(12000)))
		if err != nil {
			continue
		}
		l.Close()
		if _, again := taken.LoadOrStore(l.Addr().String(), true); !again {
			return l.Addr().String()
		}
	}
	t.Fatal("no port between 20000 and 32000 is free")
	return ""
}
