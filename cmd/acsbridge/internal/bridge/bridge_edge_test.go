package bridge

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestBridge_edgeSettings runs a bridge with every setting of the edge and
// looks at what each of them does to a request. What they do in detail is
// tested in package ingest.
func TestBridge_edgeSettings(t *testing.T) {
	cert, key := writePair(t)
	b := runBridge(t, onLoopback(t, "--resource=contoso="+testGUID, "--tls-cert="+cert, "--tls-key="+key,
		"--callback-key=new="+writeFile(t, "callback-key", testSecret), "--max-connections=1",
		"--source-range=198.51.100.0/24", "--trusted-proxy=127.0.0.1"), slog.New(slog.DiscardHandler))

	// It takes the one connection there may be, until it is closed.
	first, err := net.Dial("tcp", b.callbacks.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := postEdge(b, "", "198.51.100.7", 200*time.Millisecond); err == nil {
		t.Error("a second connection was answered")
	}
	first.Close()

	for _, test := range []struct {
		query, client string
		want          int
	}{
		{"", "203.0.113.1", 403},
		{"", "198.51.100.7", 401},
		{"acsbridge-key=" + testSecret, "198.51.100.7", 401}, // for want of a token
	} {
		if got, err := postEdge(b, test.query, test.client, time.Minute); err != nil || got != test.want {
			t.Errorf("%q from %s: %d, %v, want %d", test.query, test.client, got, err, test.want)
		}
	}
	want := `
# HELP acsbridge_callback_key_total Requests that came with a good callback key, by its name.
# TYPE acsbridge_callback_key_total counter
acsbridge_callback_key_total{key="new"} 1
# HELP acsbridge_rejected_total Requests rejected by a limit of the edge, by reason.
# TYPE acsbridge_rejected_total counter
acsbridge_rejected_total{reason="busy"} 0
acsbridge_rejected_total{reason="callback_key"} 1
acsbridge_rejected_total{reason="eventgrid_key"} 0
acsbridge_rejected_total{reason="quarantine_rate"} 0
acsbridge_rejected_total{reason="refused_client"} 0
acsbridge_rejected_total{reason="source_range"} 1
`
	if err := testutil.GatherAndCompare(b.registry, strings.NewReader(want), "acsbridge_callback_key_total", "acsbridge_rejected_total"); err != nil {
		t.Error(err)
	}
}

// postEdge posts to a bridge, as its trusted proxy on behalf of a client.
func postEdge(b *Bridge, query, client string, timeout time.Duration) (status int, err error) {
	request, err := http.NewRequest(http.MethodPost, b.CallbackURL()+"?"+query, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("X-Forwarded-For", client)
	c := http.Client{Timeout: timeout, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	response, err := c.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}
