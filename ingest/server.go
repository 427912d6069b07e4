package ingest

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"
)

// Bounds of a connection. A callback is small and its sender is a data centre:
// who needs longer is no sender of ours.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 15 * time.Second // above answerWithin
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10 // a token has at most 8 KiB

	maxStreams           = 250 // of one HTTP/2 connection
	maxReadFrame         = 16 << 10
	maxReceiveConnection = 1 << 20
	maxReceiveStream     = 64 << 10
	pingAfter            = 15 * time.Second
	pingTimeout          = 5 * time.Second
	writeByteTimeout     = 10 * time.Second
)

// NewServer returns the server for callbacks: HTTP/1.1 and, over TLS, HTTP/2,
// with every wait and size bounded. tlsConfig is nil for plain HTTP behind a
// proxy.
func NewServer(h http.Handler, tlsConfig *tls.Config, logger *slog.Logger) *http.Server {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // over TLS; never h2c
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
		},
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		// "OPTIONS *" too is the handler's to refuse; net/http would answer 200.
		DisableGeneralOptionsHandler: true,
	}
}
