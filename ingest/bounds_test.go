package ingest

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestBoundsAreExact(t *testing.T) {
	const open, end = `{"id":"1","source":"s","type":"t","specversion":"1.0","data":`, `}`
	event := open + `1` + end
	// Counted are the document, brackets, colons and commas: 14 around the
	// elements, whose commas are one fewer than they.
	tokens := func(n int) string {
		list := strings.Repeat("1,", n-13)
		return open + "[" + strings.TrimSuffix(list, ",") + "]" + end
	}
	for _, c := range []struct {
		name, body string
		want       Reason
	}{
		{"events", "[" + strings.Repeat(event+",", MaxEvents-1) + event + "]", ""},
		{"events", "[" + strings.Repeat(event+",", MaxEvents) + event + "]", TooManyEvents},
		{"depth", open + strings.Repeat("[", MaxDepth-1) + strings.Repeat("]", MaxDepth-1) + end, ""},
		{"depth", open + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + end, TooDeep},
		{"tokens", tokens(MaxTokens), ""},
		{"tokens", tokens(MaxTokens + 1), TooManyTokens},
		{"call id of another type", open + `{"callConnectionId":7}` + end, ""},
	} {
		_, err := decode([]byte(c.body))
		var bad *malformedError
		if errors.As(err, &bad); (bad == nil) != (c.want == "") || bad != nil && bad.reason != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	if MaxBody != 256<<10 || MaxEvents != 100 || MaxDepth != 64 || MaxTokens != 50_000 || answerWithin != 5*time.Second {
		t.Error("a documented bound has changed")
	}
}

func TestTraceparentIsWellFormedOrAbsent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for value, want := range map[string]string{
		good: good, "": "", good + "x": "", good[:54]: "",
		"ff" + good[2:]: "", strings.ToUpper(good): "", "0-" + good[2:]: "",
		good[:10] + "-" + good[11:]: "", good[:54] + "\n": "",
	} {
		if got := traceparent(http.Header{"Traceparent": {value}}); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

func TestEveryWaitOfTheServerIsBounded(t *testing.T) {
	h := &Handler{config: Config{Logger: slog.New(slog.DiscardHandler)}}
	s := h.Server(nil)
	for name, d := range map[string]time.Duration{
		"read header": s.ReadHeaderTimeout, "read": s.ReadTimeout, "write": s.WriteTimeout, "idle": s.IdleTimeout,
		"ping": s.HTTP2.PingTimeout, "send ping": s.HTTP2.SendPingTimeout, "write byte": s.HTTP2.WriteByteTimeout,
	} {
		if d <= 0 || d > time.Minute {
			t.Errorf("%s: %s", name, d)
		}
	}
	if s.ReadHeaderTimeout > 5*time.Second || s.WriteTimeout <= answerWithin || s.MaxHeaderBytes != 16<<10 {
		t.Errorf("got %+v", s)
	}
	if h2 := s.HTTP2; h2.MaxConcurrentStreams != 100 || h2.MaxReadFrameSize != 16<<10 ||
		h2.MaxReceiveBufferPerConnection != 1<<20 || h2.MaxReceiveBufferPerStream != 64<<10 {
		t.Errorf("HTTP/2: got %+v", h2)
	}
	if !s.Protocols.HTTP1() || !s.Protocols.HTTP2() || !s.Protocols.UnencryptedHTTP2() {
		t.Errorf("protocols: %v", s.Protocols)
	}
	if p := h.Server(&tls.Config{}).Protocols; !p.HTTP1() || !p.HTTP2() || p.UnencryptedHTTP2() {
		t.Errorf("protocols with a certificate: %v", p)
	}
}
