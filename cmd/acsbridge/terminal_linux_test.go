package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// terminal returns both ends of a pseudo-terminal: see pts(4).
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	t.Cleanup(func() { person.Close() })
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return person, program
}

// TestPrinter_colorsForTerminals shows a failure on a terminal, with and without
// NO_COLOR.
func TestPrinter_colorsForTerminals(t *testing.T) {
	server := natstest.Start(t)
	js := server.JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "acs.contoso.PlayFailed.a.c-1", []byte(`{"id":"e","type":"PlayFailed"}`)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		environment []string
		want        bool
	}{
		{[]string{"TERM=xterm"}, true},
		{[]string{"TERM=xterm", "NO_COLOR="}, true}, // empty counts as unset
		{[]string{"TERM=xterm", "NO_COLOR=1"}, false},
		{[]string{"TERM=dumb"}, false},
	} {
		screen, program := terminal(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "acsbridge", "tail", "--nats-url", server.URL())
		cmd.Stdout, cmd.Env = program, append([]string{"PATH=" + os.Getenv("PATH")}, test.environment...)
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		program.Close()
		seen, _ := io.ReadAll(screen) // ends with EIO
		if got := strings.Contains(string(seen), "\x1b[31mPlayFailed"); got != test.want || !strings.Contains(string(seen), "PlayFailed") {
			t.Errorf("%v: the terminal shows %q", test.environment, seen)
		}
	}
}
