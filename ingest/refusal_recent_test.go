package ingest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRecentRefusals keeps the newest of each kind, and shows networks of clients.
func TestRecentRefusals(t *testing.T) {
	t.Parallel()
	var r recentRefusals
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	junk := netip.MustParseAddr("203.0.113.77")
	r.add(Refused{At: began, Route: routeCallbacks, Reason: "wrong_audience", Status: 401}, netip.MustParseAddr("2001:db8:1:2:3::4%eth0"), nil)
	for i := range 2 * maxRecent {
		r.add(Refused{At: began.Add(time.Duration(i+1) * time.Second), Route: routeCallbacks, Reason: "missing_token", Status: 401}, junk, nil)
	}
	r.add(Refused{At: began.Add(time.Hour), Route: routeEventGrid, Reason: "expired"}, netip.Addr{}, &refusedToken{authorization: "Bearer x"})
	list := r.list()
	var got []string
	for _, refused := range []Refused{list[0], list[1], list[len(list)-2], list[len(list)-1]} {
		got = append(got, fmt.Sprint(refused.At.Sub(began), " ", refused.Route, " ", refused.Reason, " ", refused.Client, " ", refused.Signed))
	}
	want := []string{
		"1h0m0s eventgrid expired invalid Prefix false",
		"1m40s callbacks missing_token 203.0.113.0/24 false",
		"51s callbacks missing_token 203.0.113.0/24 false",
		"0s callbacks wrong_audience 2001:db8:1:2::/64 false",
	}
	if diff := cmp.Diff(want, got); diff != "" || len(list) != maxRecent+2 {
		t.Errorf("%d refusals (-want +got):\n%s", len(list), diff)
	}
}
