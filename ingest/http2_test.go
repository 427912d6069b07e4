package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/publish"
)

// h2Client speaks HTTP/2 without TLS.
func h2Client(t *testing.T) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestHTTP2_withoutTLS(t *testing.T) {
	address := startServer(t, newHandler(t, ingest.Config{}), nil)
	defer http.DefaultClient.CloseIdleConnections()
	if r := post(t, h2Client(t), address); r.StatusCode != 200 || r.ProtoMajor != 2 {
		t.Errorf("by prior knowledge: %s %s", r.Proto, r.Status)
	}
	if r := post(t, http.DefaultClient, address); r.StatusCode != 200 || r.ProtoMajor != 1 {
		t.Errorf("HTTP/1.1: %s %s", r.Proto, r.Status)
	}
	// A proxy that passes this on does not know that the protocol has changed.
	if r := post(t, http.DefaultClient, address, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"); r.StatusCode != 200 || r.ProtoMajor != 1 {
		t.Errorf("upgrade: %s %s", r.Proto, r.Status)
	}
}

// TestHTTP2_hasTheBoundsOfTLS compares what servers announce.
func TestHTTP2_hasTheBoundsOfTLS(t *testing.T) {
	h := newHandler(t, ingest.Config{})
	plain, overTLS := dialer(startServer(t, h, nil)), dialerTLS(startServer(t, h, serverTLS(t)), "h2")
	announced := func(dial func() (net.Conn, error)) (list []string) {
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		p := newH2Peer(t, conn)
		settings, ok := p.frame().(*http2.SettingsFrame)
		if !ok {
			t.Fatal("no settings")
		}
		_ = settings.ForeachSetting(func(s http2.Setting) error {
			list = append(list, s.String())
			return nil
		})
		for { // the window of the connection
			if window, ok := p.frame().(*http2.WindowUpdateFrame); ok {
				return append(list, fmt.Sprint("connection window + ", window.Increment))
			}
		}
	}
	got, want := announced(plain), announced(overTLS)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, s := range []string{"MAX_CONCURRENT_STREAMS = 100]", "MAX_FRAME_SIZE = 16384]", "INITIAL_WINDOW_SIZE = 65536]", "MAX_HEADER_LIST_SIZE = 16"} {
		if !strings.Contains(strings.Join(got, "\n"), s) {
			t.Errorf("no %s in %q", s, got)
		}
	}
}

func TestHTTP2_inFlightLimit(t *testing.T) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	address := startServer(t, newHandler(t, ingest.Config{MaxInFlight: 1, Publisher: &fakePublisher{do: func(context.Context, *publish.Delivery) error {
		arrived <- struct{}{}
		<-finish
		return nil
	}}}), nil)
	client, first := h2Client(t), make(chan int, 1)
	go func() { first <- post(t, client, address).StatusCode }()
	<-arrived
	if r := post(t, client, address); r.StatusCode != 503 {
		t.Errorf("one callback too many: %s", r.Status)
	}
	close(finish)
	if status := <-first; status != 200 {
		t.Errorf("the first: %d", status)
	}
}

// h2Peer is a client whose frames a test writes and reads one by one.
type h2Peer struct {
	*http2.Framer
	t      *testing.T
	conn   net.Conn
	fields bytes.Buffer
	coder  *hpack.Encoder
}

func newH2Peer(t *testing.T, conn net.Conn) *h2Peer {
	t.Helper()
	p := &h2Peer{Framer: http2.NewFramer(conn, conn), t: t, conn: conn}
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.coder = hpack.NewEncoder(&p.fields)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	p.check(p.WriteSettings())
	return p
}

func (p *h2Peer) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// frame returns the next frame, nil at the end of the connection.
func (p *h2Peer) frame() http2.Frame {
	p.t.Helper()
	frame, err := p.ReadFrame()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	p.check(err)
	return frame
}

// request begins a callback whose body is still to come.
func (p *h2Peer) request(id uint32, authorization string) {
	p.t.Helper()
	p.fields.Reset()
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":authority", "b"}, {":path", "/callbacks"}, {"authorization", authorization},
	} {
		if f[1] != "" {
			p.check(p.coder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
		}
	}
	p.check(p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.fields.Bytes(), EndHeaders: true}))
}

// until reads frames until one of a stream ends it, or the connection ends, and
// returns what came on the way.
func (p *h2Peer) until() (seen []string) {
	p.t.Helper()
	for {
		switch f := p.frame().(type) {
		case nil:
			return append(seen, "closed")
		case *http2.PingFrame:
			p.check(p.WritePing(true, f.Data))
		case *http2.MetaHeadersFrame:
			seen = append(seen, f.PseudoValue("status"))
			if f.StreamEnded() {
				return append(seen, "end")
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return append(seen, "end")
			}
		case *http2.RSTStreamFrame:
			return append(seen, "RST_STREAM "+f.ErrCode.String())
		case *http2.GoAwayFrame:
			seen = append(seen, fmt.Sprintf("GOAWAY %s after %d", f.ErrCode, f.LastStreamID))
		}
	}
}

// inMemory serves a handler in a bubble of synctest and returns a connection.
func inMemory(t *testing.T, h *ingest.Handler) (server *http.Server, conn net.Conn) {
	t.Helper()
	l := &queuedListener{queue: make(chan net.Conn, 1)}
	front, back := net.Pipe()
	l.queue <- connFrom{back, "127.0.0.1:1"}
	server = h.Server(nil)
	go func() { _ = server.Serve(h.LimitListener(l)) }()
	t.Cleanup(func() {
		server.Close()
		front.Close()
	})
	return server, front
}

// queuedListener accepts the connections of a queue.
type queuedListener struct {
	queue chan net.Conn
	once  sync.Once
}

func (l *queuedListener) Accept() (net.Conn, error) {
	if conn, more := <-l.queue; more {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l *queuedListener) Close() error {
	l.once.Do(func() { close(l.queue) })
	return nil
}

func (l *queuedListener) Addr() net.Addr { return &net.TCPAddr{} }

// connFrom is a connection from an address.
type connFrom struct {
	net.Conn
	address string
}

func (c connFrom) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.address))
}

func TestHTTP2_waitsAreBounded(t *testing.T) {
	for name, test := range map[string]struct {
		do     func(t *testing.T, conn net.Conn)
		within time.Duration
	}{
		"half a preface": {func(t *testing.T, conn net.Conn) {
			if _, err := io.WriteString(conn, http2.ClientPreface[:10]); err != nil {
				t.Fatal(err)
			}
		}, 7 * time.Second}, // with the time to read what is wrong with it
		"preface alone": {func(t *testing.T, conn net.Conn) {
			if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
				t.Fatal(err)
			}
		}, 5 * time.Second},
		"no answer to a ping": {func(t *testing.T, conn net.Conn) { newH2Peer(t, conn) }, 22 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, conn := inMemory(t, newHandler(t, ingest.Config{}))
				start, ended := time.Now(), make(chan struct{})
				go func() {
					_, _ = io.Copy(io.Discard, conn)
					close(ended)
				}()
				test.do(t, conn)
				<-ended
				if took := time.Since(start); took > test.within {
					t.Errorf("closed after %s, want %s", took, test.within)
				}
			})
		})
	}
}

func TestHTTP2_idleAndSlowPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, conn := inMemory(t, newHandler(t, ingest.Config{}))
		p := newH2Peer(t, &buffered{Conn: conn})
		p.check(p.WriteSettingsAck())
		start := time.Now()
		p.request(1, "Bearer x")
		if got := p.until(); got[0] != "503" || time.Since(start) != 10*time.Second {
			t.Errorf("a body that does not come: %q after %s", got, time.Since(start))
		}
		start = time.Now()
		if diff := cmp.Diff([]string{"RST_STREAM NO_ERROR", "GOAWAY NO_ERROR after 1", "closed"}, append(p.until(), p.until()...)); diff != "" {
			t.Error(diff)
		}
		if took := time.Since(start); took > time.Minute+time.Second {
			t.Errorf("an idle connection was closed after %s", took)
		}
	})
}

// TestHTTP2_earlyAnswer refuses streams before their body has come: the answer is
// there at once, and the stream is not reset while the body comes within bounds.
func TestHTTP2_earlyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, conn := inMemory(t, newHandler(t, ingest.Config{}))
		p := newH2Peer(t, &buffered{Conn: conn})
		p.check(p.WriteSettingsAck())
		p.request(1, "")
		for status := ""; status == ""; {
			if f, ok := p.frame().(*http2.MetaHeadersFrame); ok {
				if status = f.PseudoValue("status"); status != "401" || f.StreamEnded() {
					t.Fatalf("got %s, ended: %v", status, f.StreamEnded())
				}
			}
		}
		p.check(p.WriteData(1, true, make([]byte, 1000)))
		if diff := cmp.Diff([]string{"end"}, p.until()); diff != "" {
			t.Error(diff)
		}
		start := time.Now()
		p.request(3, "")
		if got := p.until(); got[0] != "401" || got[1] != "end" {
			t.Errorf("a body that does not come: %q", got)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("its stream ended after %s", took)
		}
	})
}

// buffered keeps a test that writes from waiting for a server that writes, too.
type buffered struct{ net.Conn }

func (b *buffered) Write(p []byte) (int, error) {
	data := bytes.Clone(p)
	go func() { _, _ = b.Conn.Write(data) }()
	synctest.Wait()
	return len(p), nil
}

// TestHTTP2_shutdown stops a server while a callback is on its way.
func TestHTTP2_shutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, conn := inMemory(t, newHandler(t, ingest.Config{}))
		p := newH2Peer(t, &buffered{Conn: conn})
		p.check(p.WriteSettingsAck())
		p.request(1, "Bearer x")
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- server.Shutdown(t.Context()) }()
		go func() {
			time.Sleep(time.Second)
			_ = p.WriteData(1, true, []byte(defaultBody))
		}()
		got := append(p.until(), p.until()...)
		if diff := cmp.Diff([]string{"GOAWAY NO_ERROR after 1", "200", "end", "closed"}, got); diff != "" {
			t.Error(diff)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}
