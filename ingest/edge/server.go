// Package edge bounds what clients can cost before and while a callback is
// verified: connections and their timeouts, failed authentications of one client,
// callbacks in flight. It tells clients apart by their addresses, and serves the TLS
// certificate. It knows nothing of tokens, events or answers.
package edge

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	"github.com/acsbridge/acsbridge/internal/lograte"
)

// Timeouts and sizes of a connection. A callback is small and comes from a data
// centre, so that a good sender needs none of them.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10 // a token has at most 8 KiB

	// WriteTimeout bounds the time from a request's header to the end of its answer. It
	// is longer than reading the body and storing its events may take.
	WriteTimeout = 15 * time.Second

	// maxStreams of one HTTP/2 connection is the least that RFC 9113, section
	// 6.5.2 recommends. A proxy that needs more opens another connection.
	maxStreams           = 100
	maxReadFrame         = 16 << 10
	maxReceiveConnection = 1 << 20
	maxReceiveStream     = 64 << 10
	pingAfter            = 15 * time.Second
	pingTimeout          = 5 * time.Second
	writeByteTimeout     = 10 * time.Second
)

// NewServer returns a server for HTTP/1.1 and HTTP/2, with every wait and size
// bounded. tlsConfig is nil for plain HTTP behind a proxy; there a client speaks
// HTTP/2 by prior knowledge (RFC 9113, section 3.3), and an "Upgrade: h2c" has no
// effect. http2Error is called for each HTTP/2 connection or stream that ends
// because of the client.
func NewServer(h http.Handler, tlsConfig *tls.Config, logger *slog.Logger, http2Error func()) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // over TLS
	protocols.SetUnencryptedHTTP2(tlsConfig == nil)
	return &http.Server{
		Handler:           h,
		TLSConfig:         tlsConfig,
		Protocols:         &protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      WriteTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReadFrameSize:              maxReadFrame,
			MaxReceiveBufferPerConnection: maxReceiveConnection,
			MaxReceiveBufferPerStream:     maxReceiveStream,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
			WriteByteTimeout:              writeByteTimeout,
			CountError:                    func(string) { http2Error() },
		},
		ErrorLog: slog.NewLogLogger(lograte.Handler(logger.Handler()), slog.LevelDebug),
		// net/http would answer "OPTIONS *" with 200; the handler refuses it.
		DisableGeneralOptionsHandler: true,
	}
}
