package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/schemas"
)

// BenchmarkReplay sends a stream's events again with the command, which is a
// process of its own, as is NATS. The CPU time is the command's alone.
func BenchmarkReplay(b *testing.B) {
	server := (&wholePath{b: b}).start("natsd", b.TempDir())
	defer server.stop()
	storeEvents(b, server.says, tailed)
	nc, err := nats.Connect(server.says)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	copies, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "ACS_REPLAY", Subjects: []string{schemas.ReplayPrefix + ".>"}})
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	for _, target := range []string{"subject", "stdout", "file"} {
		b.Run(target, func(b *testing.B) {
			var cpu time.Duration
			runs := 0
			for b.Loop() {
				to := "subject:" + schemas.ReplayPrefix
				switch target {
				case "stdout":
					to = target
				case "file":
					to = fmt.Sprintf("file:%s", filepath.Join(dir, fmt.Sprint(runs)))
				}
				cmd := exec.Command("acsbridge", "replay", "--nats-url", server.says, "--since", "all", "--to", to)
				var said bytes.Buffer
				cmd.Stderr = &said // its output is not read
				if err := cmd.Run(); err != nil {
					b.Fatalf("%v\n%s", err, &said)
				}
				cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				runs++
			}
			events := float64(runs) * tailed
			b.ReportMetric(events/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(cpu.Nanoseconds())/1000/events, "cpu-µs/event")
			if info, err := copies.Info(b.Context()); target == "subject" && (err != nil || info.State.Msgs != uint64(runs*tailed)) {
				b.Errorf("%d copies, %v", info.State.Msgs, err)
			}
		})
	}
}
