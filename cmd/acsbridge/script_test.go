package main

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptCommands are what the scripts know besides testscript's own commands.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"freeport": freeport,
	"occupy":   occupy,
	"await":    await,
	"empty":    empty,
	"holds":    holds,
	"capture":  capture,
	"private":  onlyOwner,
}

// awaitAtMost bounds await. A start takes a fraction of a second; the rest is
// for a machine that has other things to do.
const awaitAtMost = 30 * time.Second

// freeport NAME... sets each variable to a loopback address without a
// listener.
func freeport(ts *testscript.TestScript, neg bool, args []string) {
	for _, l := range listenFor(ts, "freeport", neg, args) {
		ts.Check(l.Close())
	}
}

// occupy NAME... sets each variable to a loopback address that stays taken
// until the script ends.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	for _, l := range listenFor(ts, "occupy", neg, args) {
		ts.Defer(func() { l.Close() })
	}
}

// listenFor listens once for each name, so that no two get the same address.
func listenFor(ts *testscript.TestScript, command string, neg bool, names []string) (listeners []net.Listener) {
	if neg || len(names) == 0 {
		ts.Fatalf("usage: %s NAME...", command)
	}
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		ts.Setenv(name, l.Addr().String())
		listeners = append(listeners, l)
	}
	return listeners
}

// await URL PATTERN asks until status and body match the pattern.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await URL PATTERN")
	}
	untilMatch(ts, args[0], args[1], func() string { return ask(args[0]) })
}

// holds FILE PATTERN waits until what another process writes matches.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: holds FILE PATTERN")
	}
	untilMatch(ts, args[0], args[1], func() string {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil {
			return err.Error()
		}
		return string(text)
	})
}

// capture NAME PATTERN sets the variable to the first group of the pattern's first
// match in the last standard output.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME PATTERN")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	match := pattern.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(match) < 2 {
		ts.Fatalf("nothing matches %q", args[1])
	}
	ts.Setenv(args[0], match[1])
}

// untilMatch looks again and again at what is to match a pattern.
func untilMatch(ts *testscript.TestScript, what, match string, look func() string) {
	pattern, err := regexp.Compile("(?m)" + match)
	ts.Check(err)
	deadline := time.After(awaitAtMost)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		seen := look()
		if pattern.MatchString(seen) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("%s did not come to match %q; last it was:\n%s", what, match, seen)
		}
	}
}

// ask returns status and body of a GET, or why there are none.
func ask(url string) string {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d\n%s", response.StatusCode, body)
}

// empty DIR checks that a directory holds nothing, or with ! that it does.
func empty(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] empty DIR")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	if (len(entries) == 0) == neg {
		ts.Fatalf("%s holds %v", args[0], entries)
	}
}

// private DIR checks that other users have no right to the directory or to
// anything in it, or with ! that they have one.
func onlyOwner(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] private DIR")
	}
	var open []string
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			open = append(open, fmt.Sprintf("%v %s", info.Mode(), path))
		}
		return err
	}))
	if (len(open) > 0) != neg {
		ts.Fatalf("open to other users: %q", open)
	}
}
