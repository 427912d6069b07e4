package deploy_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// What an event takes of a NATS server. docs/deployment.md ("Sizing") says how it
// was measured.
const (
	// leastStored is how much of the store one event takes at least.
	leastStored = 1600
	// mostMemory is the memory for one event, which has a subject of its own, when
	// the server reads its store after a kill.
	mostMemory = 300
	// serverMemory is that of a server without a stream.
	serverMemory = 20 << 20
)

// TestCompose_sizing checks that NATS has the memory for whatever its store can
// hold, and the store room for the streams. A server with more events than memory
// is killed at every start.
func TestCompose_sizing(t *testing.T) {
	options, err := server.ProcessConfigFile("nats/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	s := containerSettings(t, realVariables())
	nats := readCompose(t, realVariables()).Services["nats"]
	stream := int64(mebibytes(t, s.StreamMaxBytes, "GiB")) << 30
	quarantine := quarantineSize(t)
	if stream == 0 || stream+quarantine > options.JetStreamMaxStore {
		t.Errorf("the stream may hold %d bytes (0: no limit) and the quarantine %d, JetStream %d",
			stream, quarantine, options.JetStreamMaxStore)
	}
	needed := options.JetStreamMaxStore/leastStored*mostMemory + options.JetStreamMaxMemory + serverMemory
	soft := int64(mebibytes(t, nats.Environment["GOMEMLIMIT"], "MiB")) << 20
	hard := int64(mebibytes(t, nats.MemLimit, "m")) << 20
	if needed > soft {
		t.Errorf("a full store takes %d MiB of memory, GOMEMLIMIT is %d MiB", needed>>20, soft>>20)
	}
	if soft > hard*85/100 {
		t.Errorf("GOMEMLIMIT is %d MiB, want 85 %% of mem_limit, %d MiB", soft>>20, hard>>20)
	}

	// The page says the same.
	page := strings.Join(strings.Fields(read(t, "docs/deployment.md")), " ")
	for _, figure := range []string{
		fmt.Sprintf("%d bytes of the store at least", leastStored),
		fmt.Sprintf("%d bytes of memory at most", mostMemory),
		fmt.Sprintf("a stream of %d GiB", stream>>30),
		fmt.Sprintf("a quarantine of %d MiB", quarantine>>20),
		fmt.Sprintf("`max_file_store` of %d GiB", options.JetStreamMaxStore>>30),
		fmt.Sprintf("`max_memory_store` of %d MiB", options.JetStreamMaxMemory>>20),
		fmt.Sprintf("`GOMEMLIMIT` of %d MiB", soft>>20),
		fmt.Sprintf("a memory limit of %d MiB", hard>>20),
	} {
		if !strings.Contains(page, figure) {
			t.Errorf("docs/deployment.md does not say %q", figure)
		}
	}
}

// quarantineSize is how large the bridge lets the quarantine become.
func quarantineSize(t *testing.T) (bytes int64) {
	t.Helper()
	server := natstest.Start(t)
	bridge := exec.Command(binary, "serve", "--resource=contoso="+testGUID, "--nats-url="+server.URL(),
		"--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--data-dir="+t.TempDir())
	if err := bridge.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = bridge.Process.Kill()
		_ = bridge.Wait()
	}()
	conn, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	natstest.Until(t, func() bool {
		stream, err := js.Stream(t.Context(), schemas.QuarantineStream)
		if err != nil {
			return false // not made yet
		}
		bytes = stream.CachedInfo().Config.MaxBytes
		return true
	})
	return bytes
}
