package ingest

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/verify"
)

// TestRefusedClientsAreBoundedAndForgotten fills the memory from a whole /40 of
// clients, and then lets time pass.
func TestRefusedClientsAreBoundedAndForgotten(t *testing.T) {
	var f refusals
	now := time.Now()
	client := func(n int) netip.Addr {
		var a [16]byte
		binary.BigEndian.PutUint64(a[:], 0x20010db8<<32|uint64(n))
		return netip.AddrFrom16(a)
	}
	for n := range 5 * maxRefusedClients {
		f.charge(client(n), now)
		if held := f.held.Load(); held > 2*maxRefusedClients || held != int64(len(f.young)+len(f.old)) {
			t.Fatalf("after %d clients: %d held, %d and %d in the maps", n+1, held, len(f.young), len(f.old))
		}
	}
	if held := f.held.Load(); held < maxRefusedClients {
		t.Errorf("only %d clients are remembered", held)
	}
	// The latest is remembered when it turns from young to old, and spends on.
	latest := client(5*maxRefusedClients - 1)
	for range refusalBurst - 1 {
		f.charge(latest, now)
	}
	if !f.exhausted(latest, now) {
		t.Error("the latest client has refusals left")
	}
	f.age(now)
	if !f.exhausted(latest, now) {
		t.Error("the latest client was forgotten as soon as it was old")
	}
	if now = now.Add(time.Second); f.exhausted(latest, now) {
		t.Error("the bucket does not fill")
	}
	for range 2 { // anybody's request makes them older
		now = now.Add(refusalMemory + 1)
		f.exhausted(client(0), now)
	}
	if held := f.held.Load(); held != 0 {
		t.Errorf("%d clients are remembered for ever", held)
	}
}

// TestGoodCallbacksDoNotWaitForTheMemory sees to it that nobody is looked up
// while nobody was refused.
func TestGoodCallbacksDoNotWaitForTheMemory(t *testing.T) {
	var f refusals
	if f.held.Load() != 0 {
		t.Fatal("a new memory is not empty")
	}
	f.charge(netip.MustParseAddr("127.0.0.1"), time.Now())
	if f.held.Load() != 0 {
		t.Error("a client that is never limited is remembered")
	}
}

// BenchmarkEdge is what the edge costs a good callback with two callback keys
// and refusals of other clients beside it.
func BenchmarkEdge(b *testing.B) {
	keys, err := verify.NewSharedKeys([]CallbackKey{{Name: "a", Secret: "0123456789abcdef0123456789abcdef"}, {Name: "b", Secret: "fedcba9876543210fedcba9876543210"}})
	if err != nil {
		b.Fatal(err)
	}
	var f refusals
	now := time.Now()
	client := netip.MustParseAddr("52.112.0.1")
	f.charge(netip.MustParseAddr("198.51.100.7"), now)
	const query = "callerId=%2B15550100&acsbridge-key=fedcba9876543210fedcba9876543210"
	b.ReportAllocs()
	for b.Loop() {
		if f.held.Load() > 0 && f.exhausted(client, now) {
			b.Fatal("exhausted")
		}
		_, values := splitKeys(query)
		if _, ok := keys.Find(values); !ok {
			b.Fatal("no key")
		}
	}
}
