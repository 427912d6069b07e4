package consume_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/schemas"
)

// parkedVariable has the URL of NATS for a replica that is a process of its own, and whose
// handler always fails.
const parkedVariable = "CONSUME_TEST_PARKED"

// TestParked_replica is that replica. It ends with its standard input.
func TestParked_replica(t *testing.T) {
	url := os.Getenv(parkedVariable)
	if url == "" {
		t.Skip("it is a process of BenchmarkParked")
	}
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	// Calls are not spread evenly over the slots, and each has a sixteenth of MaxParked.
	if err := consume.Run(ctx, nc, consume.Service[struct{}]{
		Name: "bench", StartAt: time.Unix(1, 0), FirstRetry: 3 * time.Hour, LastRetry: 3 * time.Hour, MaxAge: 24 * time.Hour, MaxParked: 120_000,
		Logger: slog.New(slog.DiscardHandler),
		Handle: func(context.Context, *consume.Call[struct{}], *schemas.Message) error { return errors.New("not yet") },
	}); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkParked reports what a replica with parked calls takes, as a process of its own:
// its memory when all are parked and after a restart, and its processor time at rest, in
// percent of one processor. An operation is a tenth of a second at rest.
//
//	go test ./consume -run '^$' -bench Parked -benchtime 100x
func BenchmarkParked(b *testing.B) {
	for _, calls := range []int{1, 10_000, 100_000} {
		b.Run(fmt.Sprint("calls=", calls), func(b *testing.B) { benchmarkParked(b, calls) })
	}
}

func benchmarkParked(b *testing.B, calls int) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		b.Skip("memory and processor time are read from /proc")
	}
	server := newStream(b)
	js := server.JetStream()
	replica := startParked(b, server.URL())
	for i := range calls {
		if _, err := js.PublishMsgAsync(newEvent("PlayCompleted", fmt.Sprint("call-", i), "0", nil), jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	awaitParked(b, js, calls)
	resident, peak := replica.memory(b, "VmRSS"), replica.memory(b, "VmHWM")
	replica.stop(b)
	replica = startParked(b, server.URL())
	awaitParked(b, js, calls)
	for busy := time.Second; busy > 100*time.Millisecond; { // the entries are read
		before := replica.processorTime(b)
		<-time.After(time.Second)
		busy = replica.processorTime(b) - before
	}
	restarted := replica.memory(b, "VmRSS")
	before, began := replica.processorTime(b), time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for b.Loop() {
		<-tick.C
	}
	b.ReportMetric(resident, "MB")
	b.ReportMetric(peak, "MB-peak")
	b.ReportMetric(restarted, "MB-restarted")
	b.ReportMetric(100*(replica.processorTime(b)-before).Seconds()/time.Since(began).Seconds(), "cpu-%")
	if letters := server.Messages(consume.DeadStream("bench")); len(letters) > 0 {
		b.Errorf("%d dead letters", len(letters))
	}
}

// awaitParked waits until every call has an entry, and every slot an owner.
func awaitParked(b *testing.B, js jetstream.JetStream, calls int) {
	b.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; <-time.After(100 * time.Millisecond) {
		stream, err := js.Stream(b.Context(), "KV_"+consume.Bucket("bench"))
		if err == nil {
			info, err := stream.Info(b.Context(), jetstream.WithSubjectFilter("$KV."+consume.Bucket("bench")+".>"))
			if err != nil {
				b.Fatal(err)
			}
			entries, leases := 0, 0
			for subject := range info.State.Subjects {
				switch {
				case strings.Contains(subject, ".call."):
					entries++
				case strings.HasSuffix(subject, ".lease"):
					leases++
				}
			}
			if entries == calls && leases == 16 && acknowledged(b, js) {
				return
			}
		}
		if time.Now().After(deadline) {
			b.Fatal("the calls are not parked")
		}
	}
}

// acknowledged reports whether the service has finished or parked every event.
func acknowledged(b *testing.B, js jetstream.JetStream) bool {
	for _, slot := range "0123456789abcdef" {
		c, err := js.Consumer(b.Context(), schemas.Stream, consume.ConsumerName("bench", string(slot)))
		if err != nil {
			b.Fatal(err)
		}
		if info := c.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
			return false
		}
	}
	return true
}

// parkedReplica is a process.
type parkedReplica struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

func startParked(b *testing.B, url string) *parkedReplica {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestParked_replica$")
	cmd.Env, cmd.Stderr = append(os.Environ(), parkedVariable+"="+url), os.Stderr
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return &parkedReplica{cmd, stdin}
}

func (r *parkedReplica) stop(b *testing.B) {
	b.Helper()
	if err := errors.Join(r.stdin.Close(), r.cmd.Wait()); err != nil {
		b.Fatal(err)
	}
}

// memory returns a value of /proc/PID/status in megabytes.
func (r *parkedReplica) memory(b *testing.B, name string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), name+":")
	kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kilobytes) / 1024
}

// processorTime is that of the process so far; the kernel counts it in hundredths of a
// second (proc_pid_stat(5)).
func (r *parkedReplica) processorTime(b *testing.B) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
