package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
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

// startBridge runs serve with the settings until the test ends, and returns
// its callback URL.
func startBridge(t *testing.T, args ...string) *url.URL {
	t.Helper()
	ignoreEnvironment(t)
	b := startServe(t, append(args, "--data-dir="+t.TempDir())...)
	t.Cleanup(func() { b.stop(syscall.SIGTERM) })
	target, err := url.Parse(b.callbacks)
	if err != nil {
		t.Fatal(err)
	}
	return target
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

func TestCallbackKey_inURL(t *testing.T) {
	file := bridgetest.WriteFile(t, "key", testSecret+"\n")
	for target, want := range map[string]string{
		"http://h/callbacks":           "http://h/callbacks?acsbridge-key=" + testSecret,
		"http://h/callbacks?a=%2B1&b=": "http://h/callbacks?a=%2B1&b=&acsbridge-key=" + testSecret,
	} {
		if got, err := withCallbackKey(target, file); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", target, got, err, want)
		}
		if got, err := withCallbackKey(target, ""); err != nil || got != target {
			t.Errorf("%s without a key: %s, %v", target, got, err)
		}
	}
	for _, bad := range []string{file + "x", bridgetest.WriteFile(t, "short", testSecret[1:])} {
		if _, err := withCallbackKey("http://h", bad); err == nil || !strings.Contains(err.Error(), "--callback-key-file: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := withCallbackKey("http://h:x", file); err == nil || strings.Contains(err.Error(), testSecret) {
		t.Errorf("a bad target: %v", err)
	}
}
