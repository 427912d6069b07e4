package ingest

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	"github.com/acsbridge/acsbridge/internal/lograte"
)

// Bounds of a connection. A callback is small and its sender is a data centre:
// who needs longer is no sender of ours.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 15 * time.Second // above answerWithin
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10 // a token has at most 8 KiB

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

// Server returns the server for callbacks: HTTP/1.1 and HTTP/2, with every wait
// and size bounded. tlsConfig is nil for plain HTTP behind a proxy; there a client
// speaks HTTP/2 by prior knowledge (RFC 9113, section 3.3), and an "Upgrade: h2c"
// has no effect.
func (h *Handler) Server(tlsConfig *tls.Config) *http.Server {
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
		WriteTimeout:      writeTimeout,
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
			CountError:                    func(string) { h.metrics.broken.Inc() },
		},
		ErrorLog: slog.NewLogLogger(lograte.Handler(h.config.Logger.Handler()), slog.LevelDebug),
		// "OPTIONS *" too is the handler's to refuse; net/http would answer 200.
		DisableGeneralOptionsHandler: true,
	}
}
