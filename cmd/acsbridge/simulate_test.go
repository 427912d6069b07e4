package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// runCommand parses args for one command and runs it.
func runCommand(t *testing.T, ctx context.Context, grammar any, std stdio, args ...string) error {
	t.Helper()
	parser, err := newParser(grammar, std)
	if err != nil {
		t.Fatal(err)
	}
	command, err := parser.Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return command.Run(std)
}

// front has an address before the bridge has one: it holds the callbacks until
// there is a bridge to pass them to.
type front struct {
	bridge chan *url.URL // buffered; holds the bridge's URL once it is known
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := <-f.bridge
	f.bridge <- target
	proxy := httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host = target.Scheme, target.Host
	}}
	proxy.ServeHTTP(w, r)
}

// startBridge runs serve with the settings until the test ends, and returns
// its callback URL.
func startBridge(t *testing.T, args ...string) *url.URL {
	t.Helper()
	ignoreEnvironment(t)
	b := startServe(t, append(args, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--data-dir="+t.TempDir(), "--log-format=json")...)
	t.Cleanup(func() { b.stop(syscall.SIGTERM) })
	target, err := url.Parse(b.callbacks)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// TestSimulate starts the simulation and, with the flags that it prints, a
// bridge with a real JetStream. Every number of the report must be true of the
// stream. Then a single event is triggered with the same key.
func TestSimulate(t *testing.T) {
	nats := natstest.Start(t)
	f := &front{bridge: make(chan *url.URL, 1)}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	key := filepath.Join(t.TempDir(), "key.pem")
	const secret = "0123456789abcdef0123456789abcdef"
	callbackKey := writeFile(t, "callback-key", secret)

	var out bytes.Buffer
	said, say := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- runCommand(t, t.Context(), &simulateCmd{}, stdio{out: &out, err: say},
			"--target="+server.URL+"/callbacks", "--issuer-listen=127.0.0.1:0", "--key="+key, "--callback-key-file="+callbackKey,
			"--calls=14", "--rate=0", "--speed=200", "--seed=5", "--json",
			"--duplicates=0.3", "--reorder=0.2", "--hostile=0.3", "--flow=hostile", "--flow=recording", "--flow=outbound")
		say.Close()
	}()
	trust, trigger := announced(t, said)
	target := startBridge(t, append(trust, "--nats-url="+nats.URL(), "--callback-key=test="+callbackKey)...)
	f.bridge <- target
	if err := <-ended; err != nil {
		t.Fatal(err, out.String())
	}

	var report acstest.Report
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	want := expectation(t)
	got := acstest.Expectation{
		Callbacks: report.Callbacks, Kinds: report.Kinds, Answers: report.Answers, Stored: report.Stored,
	}
	if unsure := report.Answers[http.StatusServiceUnavailable]; unsure <= report.Kinds[string(acstest.BearerUnknownKid)] {
		got.Answers[http.StatusUnauthorized] += unsure // an unknown kid may get either
		delete(got.Answers, http.StatusServiceUnavailable)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-expected +got):\n%s", diff)
	}
	messages := nats.Await("ACS", report.Stored)
	if len(messages) != report.Stored {
		t.Errorf("%d events stored, report says %d", len(messages), report.Stored)
	}

	event := runTrigger(t, nil, trigger...)
	messages = nats.Await("ACS", report.Stored+1)
	if got := messages[len(messages)-1].Header.Get(schemas.HeaderMsgID); !strings.Contains(got, event) {
		t.Errorf("the last event is %s, want %s", got, event)
	}
	for _, m := range messages {
		if text := fmt.Sprint(m.Header); strings.Contains(text, secret) || strings.Contains(text, ingest.KeyParameter) {
			t.Errorf("the callback key is stored: %s", text)
		}
	}
}

// announced reads the flags for serve and for trigger from the first lines of
// a simulation, and drops the rest of its output.
func announced(t *testing.T, said io.Reader) (trust, trigger []string) {
	t.Helper()
	var text []byte
	for buffer := make([]byte, 4096); trigger == nil; {
		n, err := said.Read(buffer)
		if err != nil {
			t.Fatalf("%v after %s", err, text)
		}
		text = append(text, buffer[:n]...)
		if found := regexp.MustCompile(`(?m)^  (--resource .*)\n(?:.*\n)*  acsbridge trigger (.*)\n`).FindSubmatch(text); found != nil {
			trust, trigger = strings.Fields(string(found[1])), strings.Fields(string(found[2]))
		}
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	return trust, trigger
}

// expectation is what the flags of TestSimulate must lead to.
func expectation(t *testing.T) acstest.Expectation {
	t.Helper()
	flows, err := acstest.NamedFlows("hostile", "recording", "outbound")
	if err != nil {
		t.Fatal(err)
	}
	want, err := acstest.Load{
		Flows: flows, Calls: 14, Seed: 5, Chaos: acstest.Chaos{Duplicate: 0.3, Reorder: 0.2, Hostile: 0.3},
	}.Expect()
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// TestSimulate_fails: a bridge that lets forgeries in is reported, and so are
// flags that make no sense.
func TestSimulate_fails(t *testing.T) {
	credulous := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer credulous.Close()
	busy := credulous.Listener.Addr().String()
	for name, test := range map[string]struct {
		args []string
		want string
		out  string
	}{
		"credulous bridge": {
			[]string{"--flow=hostile", "--calls=1", "--rate=0", "--speed=1000"},
			"4 of 11 callbacks got a wrong answer, first expired CallDisconnected: got 200, want 401",
			"wrong      4 answers\n",
		},
		"unknown flow":    {[]string{"--flow=hold"}, `unknown flow "hold" (one of answered-menu, hostile, `, ""},
		"no share":        {[]string{"--chaos=2"}, "duplicate 2 is not a share (0 to 1)", ""},
		"taken address":   {[]string{"--issuer-listen=" + busy}, "(another one is chosen with --issuer-listen)", ""},
		"no key":          {[]string{"--key=/dev/null"}, "/dev/null", ""},
		"no callback URL": {[]string{"--target=bridge"}, `target "bridge" is not an http URL`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			args := append([]string{"--target=" + credulous.URL, "--issuer-listen=127.0.0.1:0"}, test.args...)
			err := runCommand(t, t.Context(), &simulateCmd{}, stdio{out: &out, err: io.Discard}, args...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if !strings.Contains(out.String(), test.out) || (test.out == "") != (out.Len() == 0) {
				t.Errorf("printed %q, want %q in it", out.String(), test.out)
			}
		})
	}
}

// TestSimulate_untilStopped: without an end, the end of the context is one, and
// the report is printed.
func TestSimulate_untilStopped(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	bridge := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stop() }))
	defer bridge.Close()
	var out bytes.Buffer
	err := runCommand(t, ctx, &simulateCmd{}, stdio{out: &out, err: io.Discard},
		"--target="+bridge.URL, "--issuer-listen=127.0.0.1:0", "--flow=transfer")
	if err != nil {
		t.Error(err)
	}
	if got, want := out.String(), "1 more cut short\ncallbacks  1 (good: 1)"; !strings.Contains(got, want) {
		t.Errorf("printed %q, want %q in it", got, want)
	}
}

// TestSimulate_chaosFlags: a share of its own wins over --chaos.
func TestSimulate_chaosFlags(t *testing.T) {
	for _, test := range []struct {
		args []string
		want acstest.Chaos
	}{
		{nil, acstest.Chaos{}},
		{[]string{"--chaos=0.1"}, acstest.EvenChaos(0.1)},
		{[]string{"--hostile=0.5"}, acstest.Chaos{Hostile: 0.5}},
		{
			[]string{"--chaos=0.1", "--duplicates=0.2", "--reorder=0.3"},
			acstest.Chaos{Duplicate: 0.2, Reorder: 0.3, Delay: 0.1, Batch: 0.1, Hostile: 0.1},
		},
	} {
		var c simulateCmd
		parser, err := kong.New(&c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(test.args); err != nil {
			t.Fatal(err)
		}
		load, err := c.load()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, load.Chaos); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.args, diff)
		}
		if load.Seed == 0 {
			t.Error("no seed was chosen")
		}
	}
}

// TestSimulate_progress: a log gets a line every ten seconds and none after the end.
func TestSimulate_progress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller, err := acstest.NewCaller(acstest.CallerOptions{
			Target: "http://bridge.example", Signer: &acstest.Issuer{}, Transport: http.NewFileTransport(nil),
		})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		stop := showProgress(&out, caller)
		<-time.After(25 * time.Second)
		stop()
		<-time.After(time.Minute)
		line := "0 calls, 0 callbacks, 0 wrong answers, p99 0s\n"
		if got, want := out.String(), line+line; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
