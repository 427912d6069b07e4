package bridge

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// valueOf returns the value of a gauge or counter without labels.
func valueOf(t *testing.T, b *Bridge, name string) float64 {
	t.Helper()
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("%s is missing", name)
	return 0
}

// notesOf looks once and returns the texts of a part.
func notesOf(t *testing.T, b *Bridge, part string) (texts []string) {
	t.Helper()
	b.watch.check(t.Context())
	for _, n := range b.notes() {
		if n.part == part {
			texts = append(texts, n.text)
		}
	}
	return texts
}

// TestWatch_diskTooSmallForTheJournal has a file system of its own. A journal of 1 GiB
// takes 1056 MiB at most and that of the quarantine 272 MiB; their first 16 and 8 MiB
// are in use.
func TestWatch_diskTooSmallForTheJournal(t *testing.T) {
	free := int64(1 << 40)
	freeBytes = func(string) (int64, error) { return free, nil }
	t.Cleanup(func() { freeBytes = datadir.FreeBytes })
	b := idleBridge(t, onLoopback(t, "--resource=contoso="+testGUID, "--nats-url=nats://127.0.0.1:1"))
	now, atMost, err := b.settings.Publish().JournalDisk()
	if err != nil || atMost != 1328<<20 || now < 24<<20 || now > 25<<20 {
		t.Fatalf("the journal takes %d of %d bytes, %v", now, atMost, err)
	}
	need := atMost - now
	for _, step := range []struct {
		free  int64
		short bool
	}{
		{need, false}, {need - 1, true}, {need + diskMargin - 1, true}, {need + diskMargin, false}, {need, false}, {0, true},
	} {
		free = step.free
		if texts := notesOf(t, b, "disk"); (len(texts) == 1) != step.short || step.short && !strings.Contains(texts[0], "--journal-max-bytes") {
			t.Errorf("%d bytes free, %d needed: %q", free, need, texts)
		}
	}
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "acsbridge_data_dir_needed_bytes" && f.GetMetric()[0].GetGauge().GetValue() != float64(need) {
			t.Errorf("%s is %v, want %d", f.GetName(), f.GetMetric(), need)
		}
	}
}

// TestWatch_diskOfTheEmbeddedServer needs room for its stream, as far as that is bounded.
func TestWatch_diskOfTheEmbeddedServer(t *testing.T) {
	free := int64(2 << 30)
	freeBytes = func(string) (int64, error) { return free, nil }
	t.Cleanup(func() { freeBytes = datadir.FreeBytes })
	unbounded := idleBridge(t, onLoopback(t, "--resource=contoso="+testGUID))
	if texts := notesOf(t, unbounded, "disk"); len(texts) != 0 {
		t.Errorf("without a bound: %q", texts)
	}
	bounded := idleBridge(t, onLoopback(t, "--resource=contoso="+testGUID, "--stream-max-bytes=2GiB"))
	if texts := notesOf(t, bounded, "disk"); len(texts) != 1 {
		t.Errorf("with 2 GiB for the stream: %q", texts)
	}
}

// TestWatch_deadLetters has files as the bridge writes them
// and as a redrive leaves them.
func TestWatch_deadLetters(t *testing.T) {
	b := idleBridge(t, onLoopback(t, "--resource=contoso="+testGUID, "--nats-url=nats://127.0.0.1:1"))
	if texts := notesOf(t, b, "deadletters"); len(texts) != 0 {
		t.Fatalf("without any: %q", texts)
	}
	for _, name := range []string{"dead-letters.ndjson", "dead-letters-2.ndjson", "dead-letters.ndjson.taken"} {
		file := filepath.Join(b.settings.DataDir, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if texts := notesOf(t, b, "deadletters"); len(texts) != 0 {
			t.Errorf("%s is empty: %q", name, texts)
		}
		if err := os.WriteFile(file, []byte("{}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		texts := notesOf(t, b, "deadletters")
		if len(texts) != 1 || !strings.Contains(texts[0], "quarantine list --dead-letters "+file+" ") {
			t.Errorf("%s: %q", name, texts)
		}
		want := "# HELP acsbridge_dead_letter_bytes Bytes of the files of dead letters in --data-dir.\n# TYPE acsbridge_dead_letter_bytes gauge\nacsbridge_dead_letter_bytes 3\n"
		if err := testutil.GatherAndCompare(b.registry, strings.NewReader(want), "acsbridge_dead_letter_bytes"); err != nil {
			t.Error(err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if texts := notesOf(t, b, "deadletters"); len(texts) != 0 {
			t.Errorf("%s was taken away: %q", name, texts)
		}
	}
}

// TestWatch_quarantine fills the stream to its bound. The event stream is measured as
// well.
func TestWatch_quarantine(t *testing.T) {
	server := natstest.Start(t)
	ctx := t.Context()
	js := server.JetStream()
	config := jetstream.StreamConfig{
		Name: schemas.QuarantineStream, Subjects: []string{schemas.QuarantinePrefix + ".>"}, MaxBytes: 10_000, AllowDirect: true,
	}
	stream, err := js.CreateStream(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	b := idleBridge(t, onLoopback(t, "--resource=contoso="+testGUID, "--nats-url="+server.URL()))
	holds := func(want ...string) {
		t.Helper()
		natstest.Until(t, func() bool {
			texts := notesOf(t, b, "quarantine")
			if len(want) == 0 {
				return len(texts) == 0
			}
			for _, part := range want {
				if len(texts) != 1 || !strings.Contains(texts[0], part) {
					return false
				}
			}
			return true
		})
	}
	publish := func(size int) {
		if _, err := js.Publish(ctx, schemas.QuarantinePrefix+".contoso.not_json", make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	events := schemas.Stream
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: events, Subjects: []string{"acs.>"}, MaxBytes: 50_000, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	stored := time.Now()
	if _, err := js.Publish(ctx, "acs.contoso.CallConnected.0.a", make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	publish(100)
	holds("holds 1 callback ", "acsbridge quarantine list")
	for name, want := range map[string]float64{
		"acsbridge_stream_messages": 1, "acsbridge_stream_max_bytes": 50_000, "acsbridge_stream_consumers": 0, "acsbridge_quarantine_max_bytes": 10_000,
	} {
		if got := valueOf(t, b, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if bytes, first := valueOf(t, b, "acsbridge_stream_bytes"), valueOf(t, b, "acsbridge_stream_first_timestamp_seconds"); bytes < 1000 || math.Abs(first-float64(stored.Unix())) > 60 {
		t.Errorf("the stream has %v bytes, the first of %v", bytes, first)
	}
	publish(8000)
	holds("holds 2 callbacks", "nearly full")
	if err := stream.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	holds()
	config.MaxBytes = -1
	if _, err := js.UpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	publish(100)
	holds("could not be published, 0.0 MiB, the newest")
	if err := stream.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	holds()
	server.Stop()
	natstest.Until(t, func() bool { return !b.publisher.Status().Connected })
	holds()
}
