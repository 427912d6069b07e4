package deploy_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// deliverStops is how long deliver can need to stop: its default --timeout, and a grace.
const deliverStops = 20 * time.Second

const webhookSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazfgtfaeYxk="

// TestUnit_deliver runs the command of the unit, with the settings that it shows, and
// holds the unit against how that ends.
func TestUnit_deliver(t *testing.T) {
	keys := unit(t, deliverUnitFile)
	_, example, _ := strings.Cut(read(t, deliverUnitFile), "#   OPTIONS=")
	options, _, _ := strings.Cut(example, "\n")
	credentials := t.TempDir()
	if err := os.WriteFile(filepath.Join(credentials, "secret"), []byte(webhookSecret+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	expand := func(to string) []string {
		command := strings.ReplaceAll(keys["ExecStart"][0], "%i", "crm")
		return strings.Fields(os.Expand(command, func(name string) string {
			return map[string]string{"TO": to, "OPTIONS": options, "CREDENTIALS_DIRECTORY": credentials}[name]
		}))[1:]
	}
	ended := runDeliver(t, expand, nil)
	prevented := strings.Fields(keys["RestartPreventExitStatus"][0])
	if !slices.Contains(prevented, strconv.Itoa(ended)) || !slices.Contains(prevented, strconv.Itoa(usageStatus)) {
		t.Errorf("RestartPreventExitStatus %v, want %d and %d", prevented, usageStatus, ended)
	}
	seconds, err := strconv.Atoi(keys["TimeoutStopSec"][0])
	if err != nil || time.Duration(seconds)*time.Second < deliverStops+5*time.Second {
		t.Errorf("TimeoutStopSec %v leaves no time to finish requests", keys["TimeoutStopSec"])
	}
}

// TestCompose_deliver runs the command of the service.
func TestCompose_deliver(t *testing.T) {
	service := readCompose(t, nil).Services["deliver"]
	expand := func(to string) []string {
		return readCompose(t, map[string]string{"DELIVER_TO": to, "DELIVER_ALLOW_PRIVATE": "true"}).Services["deliver"].Command
	}
	runDeliver(t, expand, []string{"ACSBRIDGE_WEBHOOK_SECRET=" + webhookSecret})
	if grace, err := time.ParseDuration(service.StopGracePeriod); err != nil || grace < deliverStops+5*time.Second {
		t.Errorf("stop_grace_period %s leaves no time to finish requests", service.StopGracePeriod)
	}
	check := service.Healthcheck.Test
	if c := flags(t, service.Command); check[len(check)-1] != c["--admin-listen"] || check[len(check)-2] != "--admin" {
		t.Errorf("health check %q, and the admin listener is %s", check, c["--admin-listen"])
	}
	for name := range service.Environment {
		if name != "NATS_URL" && name != "ACSBRIDGE_WEBHOOK_SECRET" && name != "GOMEMLIMIT" && !strings.HasPrefix(name, "OTEL_") {
			t.Errorf("variable %s", name)
		}
	}
	if got, want := service.Environment["NATS_URL"], containerSettings(t, realVariables()).NatsURL; got != want {
		t.Errorf("it connects to %s, want %s", got, want)
	}
}

// runDeliver runs deliver with the arguments for an application's URL, until that has got
// an event and answers the next one with 410. It returns the exit status of that.
func runDeliver(t *testing.T, args func(to string) []string, environment []string) (status int) {
	t.Helper()
	server := natstest.Start(t)
	js := server.JetStream()
	natstest.CreateStream(t, js, jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{schemas.SubjectPrefix + ".>"}, AllowDirect: true})
	var posts atomic.Int64
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil && posts.Add(1) > 1 {
			w.WriteHeader(http.StatusGone)
		}
	}))
	t.Cleanup(app.Close)
	command := append(args(app.URL), "--allow-private", "--admin-listen=127.0.0.1:0", "--since=all")
	start := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), binary, command...)
		cmd.Env, cmd.Stderr = append(environment, "NATS_URL="+server.URL()), t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	store := func(id string) {
		m := nats.NewMsg(schemas.SubjectPrefix + ".contoso.PlayCompleted." + schemas.Slot("c") + ".c")
		m.Data = []byte(`{"id":"` + id + `","source":"calling/callConnections/c","type":"Microsoft.Communication.PlayCompleted","specversion":"1.0","data":{"callConnectionId":"c"}}`)
		m.Header.Set(schemas.HeaderMsgID, id)
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	store("1")
	cmd := start()
	natstest.Until(t, func() bool { return posts.Load() == 1 })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	store("2")
	cmd = start()
	exit, ok := errors.AsType[*exec.ExitError](cmd.Wait())
	if !ok || posts.Load() != 2 {
		t.Fatalf("after 410: %v, %d posts", exit, posts.Load())
	}
	return exit.ExitCode()
}
