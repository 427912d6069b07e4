//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	replicas    = 3
	callsOfEach = 10 // of each scenario
	killAfter   = 15 // actions
)

// TestMain runs this binary as a replica of the example when the test asks for it, with
// shorter times.
func TestMain(m *testing.M) {
	url := os.Getenv("TEST_REPLICA_NATS")
	if url == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	v, err := newIVR(os.Stdout)
	if err != nil {
		panic(err)
	}
	nc, err := nats.Connect(url)
	if err != nil {
		panic(err)
	}
	v.wait = 3 * time.Second
	service := v.service()
	service.Lease, service.FirstRetry = 3*time.Second, 100*time.Millisecond
	if err := consume.Run(ctx, nc, service); err != nil {
		panic(err)
	}
}

// TestReplicas plays calls through a bridge, with an ACS that does what the replicas ask.
// Callbacks are sent twice, answers of ACS are lost, and a replica is killed. Each call
// must get every action once, in order.
func TestReplicas(t *testing.T) {
	server := natstest.Start(t)
	acs := newACS(t, startBridge(t, server.URL()))
	environment := append(os.Environ(), "TEST_REPLICA_NATS="+server.URL(),
		"ACS_CONNECTION_STRING=endpoint="+acs.URL+"/;accesskey="+base64.StdEncoding.EncodeToString(acs.key))
	var processes []*exec.Cmd
	for range replicas {
		p := exec.Command(os.Args[0])
		p.Env, p.Stderr = environment, t.Output()
		launch(t, p)
		processes = append(processes, p)
	}
	awaitReplicas(t, server)
	for range callsOfEach {
		for scenario := range scenarios {
			acs.begin(scenario)
		}
	}
	natstest.Until(t, func() bool { return acs.actions() >= killAfter })
	if err := processes[0].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	natstest.Until(t, func() bool { return acs.ended() == callsOfEach*len(scenarios) })
	want := make(map[string]int)
	for scenario, s := range scenarios {
		want[scenario+": "+strings.Join(s.want, " ")] = callsOfEach
	}
	if diff := cmp.Diff(want, acs.stories()); diff != "" {
		t.Error(diff)
	}
	if acs.lost() == 0 {
		t.Error("no answer was lost")
	}
	if letters := server.Messages(consume.DeadStream("ivr")); len(letters) > 0 {
		t.Errorf("%d dead letters, the first: %s", len(letters), letters[0].Header.Get(schemas.HeaderDeadError))
	}
	for _, p := range processes[1:] {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// awaitReplicas waits until each replica has a share of the slots.
func awaitReplicas(t *testing.T, server *natstest.Server) {
	t.Helper()
	natstest.Until(t, func() bool {
		status, err := consume.Inspect(t.Context(), server.JetStream(), "ivr", schemas.Stream)
		if err != nil || len(status.Owners) < 16 {
			return false
		}
		owners := slices.Sorted(maps.Values(status.Owners))
		return len(slices.Compact(owners)) == replicas
	})
}

// launch starts a process that is killed when the test ends, unless it has ended.
func launch(t *testing.T, p *exec.Cmd) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	})
}

// startBridge runs the built acsbridge, and returns a caller that sends callbacks to it.
func startBridge(t *testing.T, nats string) *acstest.Caller {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "acsbridge")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/acsbridge").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
	if err == nil {
		err = issuer.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Close() })
	p := exec.Command(binary, "serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json", "--data-dir="+t.TempDir(),
		"--nats-url="+nats, "--resource="+acstest.DemoResource+"="+acstest.DemoAudience, "--issuer="+issuer.Name(), "--oidc-config-url="+issuer.MetadataURL())
	log, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	launch(t, p)
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, Callbacks string }
		if json.Unmarshal(lines.Bytes(), &line) != nil || line.Callbacks == "" {
			continue
		}
		go func() {
			for lines.Scan() { // so that the bridge can write
			}
		}()
		caller, err := acstest.NewCaller(acstest.CallerOptions{Target: line.Callbacks, Signer: issuer})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(caller.Close)
		return caller
	}
	t.Fatal("the bridge does not listen")
	return nil
}
