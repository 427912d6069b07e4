package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/publish/embedded"
)

// start starts a server on any free port.
func start(t *testing.T, opts embedded.Options) *embedded.Server {
	t.Helper()
	opts.Listen = "127.0.0.1:0"
	s, err := embedded.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeServer(t *testing.T, s *embedded.Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// stream returns the stream T as a client sees it over TCP.
func stream(t *testing.T, s *embedded.Server) jetstream.Stream {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	str, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "T", Subjects: []string{"t.>"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "t.a", nil); err != nil {
		t.Fatal(err)
	}
	return str
}

func TestServer_keepsItsStreams(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "Start")
	for round := range 3 {
		s := start(t, embedded.Options{Dir: dir})
		info, err := stream(t, s).Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := info.State.Msgs, uint64(round+1); got != want {
			t.Errorf("stream has %d messages, want %d", got, want)
		}
		closeServer(t, s)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestServer_oneForADirectory(t *testing.T) {
	dir := t.TempDir()
	s := start(t, embedded.Options{Dir: dir})
	if second, err := embedded.Start(embedded.Options{Dir: dir, Listen: "127.0.0.1:0"}); !errors.Is(err, datadir.ErrLocked) {
		t.Errorf("got %v, %v, want ErrLocked", second, err)
	}
	closeServer(t, s)
	closeServer(t, start(t, embedded.Options{Dir: dir}))
}

func TestServer_takenAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	if _, err := embedded.Start(embedded.Options{Dir: dir, Listen: l.Addr().String()}); !errors.Is(err, embedded.ErrAddressTaken) {
		t.Errorf("got %v, want ErrAddressTaken", err)
	}
	closeServer(t, start(t, embedded.Options{Dir: dir})) // the directory is not left locked
}

func TestServer_listen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Start(embedded.Options{Dir: t.TempDir(), Listen: address})
	if errors.Is(err, embedded.ErrAddressTaken) {
		t.Skip("another process took the port")
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Addr().String(); got != address {
		t.Errorf("listens on %s, want %s", got, address)
	}
	closeServer(t, s)
}

func TestServer_inProcess(t *testing.T) {
	s := start(t, embedded.Options{Dir: t.TempDir()})
	defer closeServer(t, s)
	link, err := natsconn.Connect(natsconn.Config{URL: "nats://127.0.0.1:1", InProcess: s}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := link.JetStream(ctx); err != nil {
		t.Error(err)
	}
}

// The server's standard logger ends the process on a fatal line.
func TestServer_log(t *testing.T) {
	var lines bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := start(t, embedded.Options{Dir: t.TempDir(), Logger: logger})
	s.Fatalf("port %d", 7)
	s.Errorf("disk %d", 8)
	s.Warnf("slow %d", 9)
	s.Noticef("ready %d", 10)
	s.Debugf("noise")
	s.Tracef("noise")
	closeServer(t, s)
	for _, want := range []string{
		`level=ERROR msg="nats-server: port 7"`, `level=ERROR msg="nats-server: disk 8"`,
		`level=WARN msg="nats-server: slow 9"`, `level=DEBUG msg="nats-server: ready 10"`,
	} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(lines.String(), "noise") {
		t.Error("debug lines of the server are logged")
	}
	if s.Running() {
		t.Error("the server runs after Close")
	}
}

// The bridge keeps what the stream acknowledged for twice this time.
func TestServer_syncInterval(t *testing.T) {
	s := start(t, embedded.Options{Dir: t.TempDir()})
	defer closeServer(t, s)
	config := s.JetStreamConfig()
	if config.SyncInterval != embedded.SyncInterval || config.MaxMemory != 64<<20 {
		t.Errorf("sync interval %s, memory for streams %d bytes", config.SyncInterval, config.MaxMemory)
	}
	if address := s.Addr().String(); strings.HasSuffix(address, ":4222") {
		t.Errorf("any free port was asked for, got %s", address)
	}
}

// By default a server in the process would end it on SIGTERM, before the
// bridge has stopped.
func TestServer_signals(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	defer signal.Stop(signals)
	s := start(t, embedded.Options{Dir: t.TempDir()})
	defer closeServer(t, s)
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGTERM); err != nil {
		t.Skip("no signals here:", err)
	}
	<-signals
	if !s.Running() {
		t.Error("the server stopped by itself")
	}
	stream(t, s)
}
