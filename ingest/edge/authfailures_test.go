package edge

import (
	"encoding/binary"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// requestOf returns a request of a client.
func requestOf(client netip.Addr) *http.Request {
	return &http.Request{RemoteAddr: netip.AddrPortFrom(client, 1).String()}
}

// TestAuthFailures_forgetClients has failures of a whole /40 of clients, and then
// lets time pass.
func TestAuthFailures_forgetClients(t *testing.T) {
	f := NewAuthFailures(&Addresses{})
	now := time.Now()
	client := func(n int) *http.Request {
		var a [16]byte
		binary.BigEndian.PutUint64(a[:], 0x20010db8<<32|uint64(n))
		return requestOf(netip.AddrFrom16(a))
	}
	for n := range 5 * maxFailingClients {
		f.Add(client(n), now)
		if held := f.clients.Load(); held > 2*maxFailingClients || held != int64(len(f.current)+len(f.previous)) {
			t.Fatalf("after %d clients: %d held, %d and %d in the maps", n+1, held, len(f.current), len(f.previous))
		}
	}
	if held := f.clients.Load(); held < maxFailingClients {
		t.Errorf("only %d clients are remembered", held)
	}
	// The latest client is remembered in the next generation.
	latest := client(5*maxFailingClients - 1)
	for range failureBurst - 1 {
		f.Add(latest, now)
	}
	if !f.Exceeded(latest, now) {
		t.Error("the latest client has failures left")
	}
	f.rotate(now)
	if !f.Exceeded(latest, now) {
		t.Error("the latest client was forgotten with its generation")
	}
	if now = now.Add(time.Second); f.Exceeded(latest, now) {
		t.Error("the bucket does not fill")
	}
	for range 2 { // any request ends a generation
		now = now.Add(failureMemory + 1)
		f.Exceeded(client(0), now)
	}
	if held := f.clients.Load(); held != 0 {
		t.Errorf("%d clients are remembered for ever", held)
	}
}

// TestAuthFailures_withoutFailures holds that good requests take no lock while no
// client has failures.
func TestAuthFailures_withoutFailures(t *testing.T) {
	f := NewAuthFailures(&Addresses{})
	f.Add(requestOf(netip.MustParseAddr("127.0.0.1")), time.Now())
	if f.clients.Load() != 0 {
		t.Error("a client that is never limited is remembered")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Exceeded(requestOf(netip.MustParseAddr("52.112.0.1")), time.Now()) {
		t.Error("a client without failures is limited")
	}
}

// BenchmarkAuthFailures is what failures of other clients cost a good callback.
func BenchmarkAuthFailures(b *testing.B) {
	f := NewAuthFailures(&Addresses{})
	now := time.Now()
	f.Add(requestOf(netip.MustParseAddr("198.51.100.7")), now)
	good := requestOf(netip.MustParseAddr("52.112.0.1"))
	b.ReportAllocs()
	for b.Loop() {
		if f.Exceeded(good, now) {
			b.Fatal("limited")
		}
	}
}
