package edge_test

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/ingest/edge"
)

func TestServer_hasBounds(t *testing.T) {
	newServer := func(tlsConfig *tls.Config) *http.Server {
		return edge.NewServer(http.NotFoundHandler(), tlsConfig, slog.New(slog.DiscardHandler), nil)
	}
	s := newServer(nil)
	for name, d := range map[string]time.Duration{
		"read header": s.ReadHeaderTimeout, "read": s.ReadTimeout, "write": s.WriteTimeout, "idle": s.IdleTimeout,
		"ping": s.HTTP2.PingTimeout, "send ping": s.HTTP2.SendPingTimeout, "write byte": s.HTTP2.WriteByteTimeout,
	} {
		if d <= 0 || d > time.Minute {
			t.Errorf("%s: %s", name, d)
		}
	}
	if s.ReadHeaderTimeout > 5*time.Second || s.MaxHeaderBytes != 16<<10 {
		t.Errorf("got %+v", s)
	}
	if h2 := s.HTTP2; h2.MaxConcurrentStreams != 100 || h2.MaxReadFrameSize != 16<<10 ||
		h2.MaxReceiveBufferPerConnection != 1<<20 || h2.MaxReceiveBufferPerStream != 64<<10 {
		t.Errorf("HTTP/2: got %+v", h2)
	}
	if !s.Protocols.HTTP1() || !s.Protocols.HTTP2() || !s.Protocols.UnencryptedHTTP2() {
		t.Errorf("protocols: %v", s.Protocols)
	}
	if p := newServer(&tls.Config{}).Protocols; !p.HTTP1() || !p.HTTP2() || p.UnencryptedHTTP2() {
		t.Errorf("protocols with a certificate: %v", p)
	}
}

func TestServer_reportsErrorsOfHTTP(t *testing.T) {
	var log bytes.Buffer
	http2Errors := 0
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	server := edge.NewServer(http.NotFoundHandler(), nil, logger, func() { http2Errors++ })
	for range 3 {
		server.ErrorLog.Print("http: TLS handshake error")
		server.HTTP2.CountError("conn_close_preface")
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `level=DEBUG msg="http: TLS handshake error"`) || http2Errors != 3 {
		t.Errorf("%d errors of HTTP/2; the log has %s", http2Errors, got)
	}
}
