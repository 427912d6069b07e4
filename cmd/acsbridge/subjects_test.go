package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/schemas"
)

// TestSubjects_dataDirectoryWithoutSlots starts from a data directory of a bridge whose
// subjects had no slot: a journal, callbacks for quarantine, a dead letter and a capture.
// All of it is sent with the subjects of today.
func TestSubjects_dataDirectoryWithoutSlots(t *testing.T) {
	ignoreEnvironment(t)
	l := &quarantineLoad{restartLoad: newRestartLoad(t)}
	if said, err := exec.CommandContext(t.Context(), "tar", "-xzf", "testdata/data-dir-without-slots.tar.gz", "-C", l.data).CombinedOutput(); err != nil {
		t.Fatalf("unpack: %v\n%s", err, said)
	}
	subjects := func(stream string, n int) (list []string) {
		for _, m := range l.nats.Await(stream, n) {
			list = append(list, m.Subject+" "+m.Header.Get(schemas.HeaderEventID))
		}
		slices.Sort(list)
		return list
	}

	l.bridge = l.start()
	want := []string{
		"acs.demo.PlayCompleted.6.c-2 6", "acs.demo.PlayCompleted.a.c-1 5",
		"acs.demo.h_47d8a4a86c7433e263d0404a445daabd.1.h_684888c0ebb17f374298b65ee2807526 7",
	}
	if diff := cmp.Diff(want, subjects(schemas.Stream, len(want))); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"acs-quarantine.demo.not_json "}, subjects(schemas.QuarantineStream, 1)); diff != "" {
		t.Errorf("quarantine (-want +got):\n%s", diff)
	}

	l.run(false, `^1 published\n$`, "redrive", "--all", "--yes", "--dead-letters="+filepath.Join(l.data, "dead-letters.ndjson"))
	want = slices.Insert(want, 1, "acs.demo.PlayCompleted.a.c-1 4")
	if diff := cmp.Diff(want, subjects(schemas.Stream, len(want))); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}

	copies := jetstream.StreamConfig{Name: "ACS_REPLAY", Subjects: []string{schemas.ReplayPrefix + ".>"}}
	if _, err := l.nats.JetStream().CreateStream(t.Context(), copies); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), processAtMost)
	defer cancel()
	command := exec.CommandContext(ctx, "acsbridge", "replay", "--from=file:"+filepath.Join(l.data, "capture.ndjson"))
	command.Env = append(os.Environ(), "NATS_URL="+l.nats.URL())
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("replay: %v\n%s", err, said)
	}
	want = []string{
		"acs-replay.demo.CallConnected.d.401f3500-9f1e-4f0a-8a5c-0123456789ab 2",
		"acs-replay.demo.CallConnected.d._ 3", "acs-replay.demo.PlayCompleted.a.c-1 1",
	}
	if diff := cmp.Diff(want, subjects("ACS_REPLAY", len(want))); diff != "" {
		t.Errorf("capture (-want +got):\n%s", diff)
	}
	l.bridge.stop(syscall.SIGTERM)
}
