// Package embedded runs a NATS server with JetStream inside the bridge: for a
// laptop, a demo, a single small machine.
//
// Its stream has one replica and acknowledges before it syncs its files, so a
// power cut would take the events of the last [SyncInterval] along. The
// journal in front of it keeps them twice as long and publishes them again.
// For production there is a cluster with three replicas.
package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/acsbridge/acsbridge/internal/datadir"
)

const (
	// SyncInterval is how often the stream's files are synced.
	SyncInterval = 5 * time.Second
	// maxMemory bounds streams in memory; the bridge's own are in files.
	maxMemory = 64 << 20
	// startWait bounds the start: recovering a large stream takes seconds.
	startWait = 60 * time.Second
)

// ErrAddressTaken reports that something else listens on the address.
var ErrAddressTaken = errors.New("address is taken")

// Options of the server.
type Options struct {
	// Dir holds the streams. It is created when absent. Required.
	Dir string
	// Listen is where the nats command line and consumers connect. Port 0
	// means any free one. Empty means 127.0.0.1:4222.
	Listen string
	Logger *slog.Logger // nil means silence
}

// Server is a running server.
type Server struct {
	*server.Server
	unlock func() error
}

// Start starts the server and returns when it takes connections.
func Start(opts Options) (*Server, error) {
	host, port, err := address(cmp.Or(opts.Listen, "127.0.0.1:4222"))
	if err != nil {
		return nil, err
	}
	if err := datadir.Make(opts.Dir); err != nil {
		return nil, fmt.Errorf("create NATS directory: %w", err)
	}
	unlock, err := datadir.Lock(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("open NATS directory: %w", err)
	}
	s, err := server.NewServer(&server.Options{
		ServerName:         "acsbridge",
		Host:               host,
		Port:               port,
		JetStream:          true,
		StoreDir:           opts.Dir,
		JetStreamMaxMemory: maxMemory,
		SyncInterval:       SyncInterval,
		NoSigs:             true, // it would catch SIGTERM and end the process
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded NATS: %w", err), unlock())
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s.SetLoggerV2(logger{opts.Logger}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startWait) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, errors.Join(fmt.Errorf("embedded NATS did not start on %s:%d within %s; its log lines say why", host, port, startWait), unlock())
	}
	return &Server{Server: s, unlock: unlock}, nil
}

// address splits listen and makes sure that it is free: the server
// itself would only say that it is not ready.
func address(listen string) (host string, port int, err error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return "", 0, fmt.Errorf("embedded NATS: %w: %w", ErrAddressTaken, err)
	}
	if err := l.Close(); err != nil {
		return "", 0, err
	}
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, err
	}
	if port, err = strconv.Atoi(text); err != nil {
		return "", 0, fmt.Errorf("embedded NATS: port %q is not a number", text)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// Close stops the server and waits until its files are closed.
func (s *Server) Close() error {
	s.Shutdown()
	s.WaitForShutdown()
	return s.unlock()
}

// logger hands the server's lines to slog. The standard one would end the
// process on a fatal error.
type logger struct{ *slog.Logger }

func (l logger) Noticef(format string, v ...any) {
	l.Debug("nats-server: " + fmt.Sprintf(format, v...))
}
func (l logger) Warnf(format string, v ...any)  { l.Warn("nats-server: " + fmt.Sprintf(format, v...)) }
func (l logger) Errorf(format string, v ...any) { l.Error("nats-server: " + fmt.Sprintf(format, v...)) }
func (l logger) Fatalf(format string, v ...any) { l.Error("nats-server: " + fmt.Sprintf(format, v...)) }
func (l logger) Debugf(format string, v ...any) {}
func (l logger) Tracef(format string, v ...any) {}
