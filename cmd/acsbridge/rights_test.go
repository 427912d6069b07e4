package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

const operatorPassword, ivrPassword, crmPassword = "of-the-operator", "of-ivr", "of-crm"

// rights returns what the command prints.
func rights(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), append([]string{"rights"}, args...), stdio{&out, &out}); err != nil {
		t.Fatalf("rights %v: %v", args, err)
	}
	return out.String()
}

// setPasswords sets those that the configurations take from the environment.
func setPasswords(t *testing.T) {
	t.Helper()
	ignoreEnvironment(t)
	for name, password := range map[string]string{
		"OPERATOR": operatorPassword, "SERVICE_IVR": ivrPassword, "SERVICE_CRM": crmPassword,
		"BRIDGE": "of-the-bridge", "HANGUPS": "of-the-hangups_password", "VIEWER": "of-the-viewer_password",
	} {
		t.Setenv(name+"_PASSWORD", password)
	}
}

// printedConfig returns the configuration of a server with an account of the streams, and
// those that rights prints for the services ivr and crm.
func printedConfig(t *testing.T) (file string) {
	t.Helper()
	dir, ivr := t.TempDir(), rights(t, "ivr", "--output=config")
	var exports strings.Builder // the printed file names them in its comments
	for line := range strings.Lines(ivr) {
		if export, ok := strings.CutPrefix(line, "#   "); ok {
			exports.WriteString(export)
		}
	}
	for name, text := range map[string]string{
		"ivr.conf": ivr, "crm.conf": rights(t, "crm", "--output=config"),
		"server.conf": "jetstream {}\naccounts {\n  STREAMS {\n    jetstream: enabled\n    users: [{ user: operator, password: $OPERATOR_PASSWORD }]\n" +
			"    exports: [\n" + exports.String() + "    ]\n  }\n  include ivr.conf\n  include crm.conf\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "server.conf")
}

// deployedConfig is a configuration whose file ivr.conf is what rights prints.
const deployedConfig = "../../deploy/nats/rights.conf"

// startConfigured starts a server with the accounts of a configuration. The test itself
// is the operator.
func startConfigured(t *testing.T, file string) *natstest.Server {
	t.Helper()
	configured, err := natsserver.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return natstest.Start(t, func(o *natsserver.Options) {
		o.Accounts, o.Users, o.NoAuthUser = configured.Accounts, configured.Users, "operator"
	})
}

// newRightsServer starts such a server with the stream, and runs the commands that rights
// prints for the services.
func newRightsServer(t *testing.T, file string, services ...string) *natstest.Server {
	t.Helper()
	s := startConfigured(t, file)
	if _, err := s.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{
		Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true, MaxAge: 72 * time.Hour,
	}); err != nil {
		t.Fatal(err)
	}
	for _, service := range services {
		shell(t, s, rights(t, service, "--output=commands", "--type=PlayCompleted", "--type=CallConnected"))
	}
	return s
}

// shell runs printed commands, as the operator.
func shell(t *testing.T, s *natstest.Server, commands string) {
	t.Helper()
	process := exec.CommandContext(t.Context(), "sh", "-e")
	process.Stdin = strings.NewReader(commands)
	process.Env = append(os.Environ(), "NATS_URL="+s.URL(), "NATS_USER=operator", "NATS_PASSWORD="+operatorPassword)
	if output, err := process.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, output, commands)
	}
}

// TestRights_commands compares what the printed commands make with what the package
// makes where it may.
func TestRights_commands(t *testing.T) {
	setPasswords(t)
	s := newRightsServer(t, printedConfig(t), "ivr")
	js := s.JetStream()
	service := consume.Service[struct{}]{Name: "ivr", Types: []string{"CallConnected", "PlayCompleted"}}
	for range 2 {
		needs, err := service.Needs(1)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), schemas.Stream)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range needs.Consumers {
			consumer, err := stream.Consumer(t.Context(), want.Durable)
			if err != nil {
				t.Fatal(err)
			}
			got := consumer.CachedInfo().Config
			if got.MaxAckPending < 10_000 {
				t.Errorf("consumer %s may have %d messages in flight", want.Durable, got.MaxAckPending)
			}
			got.MaxAckPending, got.MaxWaiting, got.Metadata, got.Name = want.MaxAckPending, 0, nil, ""
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		service.Types = []string{"CallConnected"}
		shell(t, s, rights(t, "ivr", "--output=types", "--type=CallConnected"))
	}
	needs, err := service.Needs(1)
	if err != nil {
		t.Fatal(err)
	}
	printed, err := js.KeyValue(t.Context(), needs.Bucket.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := js.Stream(t.Context(), needs.DeadLetters.Name)
	if err != nil {
		t.Fatal(err)
	}
	status, err := printed.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := dead.CachedInfo().Config
	if status.LimitMarkerTTL() != needs.Bucket.LimitMarkerTTL || status.History() != 1 || status.TTL() != 0 || got.MaxAge != needs.DeadLetters.MaxAge ||
		got.Duplicates != needs.DeadLetters.Duplicates || !got.AllowDirect || !slices.Equal(got.Subjects, needs.DeadLetters.Subjects) {
		t.Errorf("bucket %+v\nstream %+v", status, got)
	}
}

// asService connects as a service does, and hears what it may not do.
func asService(t *testing.T, url, user, password string) (*nats.Conn, jetstream.JetStream, chan error) {
	t.Helper()
	refusals := make(chan error, 256)
	nc, err := nats.Connect(url, nats.UserInfo(user, password), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refusals <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.NewWithAPIPrefix(nc, "$JS.acs.API")
	if err != nil {
		t.Fatal(err)
	}
	return nc, js, refusals
}

// TestRights_deployed has the file beside rights.conf be what the command prints.
func TestRights_deployed(t *testing.T) {
	const file = "../../deploy/nats/ivr.conf"
	want := rights(t, "ivr", "--output=config")
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, bridgetest.ReadFile(t, file)); diff != "" {
		t.Errorf("%s; -update writes it\n%s", file, diff)
	}
}

// TestRights_service runs a service under the printed rights, and under those of
// rights.conf.
func TestRights_service(t *testing.T) {
	setPasswords(t)
	for name, file := range map[string]string{"printed": printedConfig(t), "deployed": deployedConfig} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runService(t, newRightsServer(t, file, "ivr"))
		})
	}
}

// runService runs two replicas through events, state, waits, dead letters, a hand-over
// and a restart of NATS. No request of theirs may be refused.
func runService(t *testing.T, s *natstest.Server) {
	log := &bridgetest.Log{}
	var mu sync.Mutex
	var handled []string
	service := consume.Service[[]string]{
		Name: "ivr", Domain: "acs", Types: []string{"CallConnected", "PlayCompleted"}, Lease: 3 * time.Second, FirstRetry: time.Millisecond, LastRetry: time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
		Handle: func(_ context.Context, call *consume.Call[[]string], m *schemas.Message) error {
			id := m.Event.ID
			if _, timeout := m.Event.Data.(*consume.Timeout); timeout {
				id = "timeout"
			}
			if id == "bad" {
				return consume.Permanent(errors.New("it is bad"))
			}
			if id == "fails" && call.Attempt == 1 {
				return errors.New("not yet")
			}
			if id == "first" {
				call.Expect(time.Millisecond, "RecognizeCompleted")
			}
			call.State = append(call.State, id)
			mu.Lock()
			defer mu.Unlock()
			handled = append(handled, call.ID+" "+strings.Join(call.State, ","))
			return nil
		},
	}
	saw := func(want string) {
		t.Helper()
		natstest.Until(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Contains(handled, want)
		})
	}
	start := func() (stop func()) {
		nc, _, refusals := asService(t, s.URL(), "ivr", ivrPassword)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- consume.Run(ctx, nc, service) }()
		return func() {
			t.Helper()
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("%v\n%s", err, log)
			}
			for len(refusals) > 0 {
				if err := <-refusals; errors.Is(err, nats.ErrPermissionViolation) {
					t.Error(err)
				}
			}
		}
	}
	js := s.JetStream()
	stopFirst := start()
	natstest.Until(t, func() bool { return strings.Count(log.String(), "slot was taken") == 16 })
	storeEvent(t, js, "a", "first")
	saw("a first,timeout")
	storeEvent(t, js, "b", "bad")
	s.Await(consume.DeadStream("ivr"), 1)
	storeEvent(t, js, "b", "fails")
	saw("b fails")
	stopSecond := start()
	natstest.Until(t, func() bool { return strings.Count(log.String(), "slot was given back") == 8 })
	stopFirst()
	storeEvent(t, js, "a", "second")
	saw("a first,timeout,second")
	s.Restart()
	storeEvent(t, s.JetStream(), "a", "third")
	saw("a first,timeout,second,third")
	stopSecond()
}

// TestRights_refused tries what a service must not be able to do: directly, and by having
// answers sent where they would be events, orders, or another service's state.
func TestRights_refused(t *testing.T) {
	setPasswords(t)
	s := newRightsServer(t, printedConfig(t), "ivr", "crm")
	js := s.JetStream()
	storeEvent(t, js, "a", "0")
	crm, err := js.KeyValue(t.Context(), consume.Bucket("crm"))
	if err == nil {
		_, err = crm.Create(t.Context(), "a.call.a", []byte(`{"state":"secret"}`))
	}
	if err != nil {
		t.Fatal(err)
	}
	nc, service, _ := asService(t, s.URL(), "ivr", ivrPassword)
	heard, err := js.Conn().SubscribeSync(">") // all that happens in the account of the streams
	if err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	// What is its own works, so that a refusal below says something.
	if _, err := service.Stream(t.Context(), schemas.Stream); err != nil {
		t.Fatal(err)
	}
	forbidden := []string{
		"acs.contoso.CallConnected.a.a", "$KV.acs_crm.a.call.a", "acs-dead.crm.contoso.CallConnected.a.a", "$JS.ACK.ACS.crm-a.1.1.1.1.0",
	}
	for _, request := range []string{
		"STREAM.DELETE.ACS", "STREAM.PURGE.ACS", "STREAM.UPDATE.ACS", "STREAM.MSG.DELETE.ACS", "STREAM.CREATE.EVIL", "STREAM.NAMES", "DIRECT.GET.ACS",
		"STREAM.MSG.GET.KV_acs_crm", "DIRECT.GET.KV_acs_crm", "DIRECT.GET.KV_acs_crm.$KV.acs_crm.a.call.a", "STREAM.INFO.KV_acs_crm", "STREAM.MSG.GET.ACS_DEAD_CRM",
		"STREAM.DELETE.KV_acs_ivr", "STREAM.PURGE.KV_acs_ivr", "STREAM.DELETE.ACS_DEAD_IVR", "STREAM.DELETE.KV_acs_crm",
		"CONSUMER.CREATE.ACS.evil", "CONSUMER.CREATE.ACS.ivr-0", "CONSUMER.DURABLE.CREATE.ACS.evil", "CONSUMER.DELETE.ACS.ivr-0",
		"CONSUMER.INFO.ACS.crm-a", "CONSUMER.MSG.NEXT.ACS.crm-a", "CONSUMER.RESET.ACS.crm-a", "CONSUMER.PAUSE.ACS.crm-a", "$KV.acs_crm.a.call.a",
	} {
		forbidden = append(forbidden, "$JS.API."+request, "$JS.acs.API."+request)
	}
	for _, subject := range forbidden {
		answer, err := nc.Request(subject, []byte(`{"seq":1}`), 50*time.Millisecond)
		if err == nil && !bytes.Contains(answer.Data, []byte(`"error"`)) {
			t.Errorf("%s is answered: %s", subject, answer.Data)
		}
	}
	reached := map[string]int{}
	for m, err := heard.NextMsg(100 * time.Millisecond); err == nil; m, err = heard.NextMsg(100 * time.Millisecond) {
		if !strings.HasPrefix(m.Subject, "_R_.") && !strings.HasPrefix(m.Subject, "$JS.EVENT.ADVISORY.API") { // its answer, and a report
			reached[m.Subject]++
		}
	}
	if diff := cmp.Diff(map[string]int{"$JS.API.STREAM.INFO.ACS": 1}, reached); diff != "" { // what is its own
		t.Errorf("what has reached the account of the streams: %s", diff)
	}
	if err := heard.Unsubscribe(); err != nil {
		t.Fatal(err)
	}

	// An answer goes back to the account of its request, and from there no further than
	// the service's own rights go.
	for _, request := range []string{"STREAM.MSG.GET.ACS", "STREAM.INFO.ACS", "CONSUMER.INFO.ACS.ivr-a", "CONSUMER.MSG.NEXT.ACS.ivr-a"} {
		for _, answer := range forbidden {
			if err := nc.PublishRequest("$JS.acs.API."+request, answer, []byte(`{"seq":1}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a round trip behind the answers
		if _, err := service.Stream(t.Context(), schemas.Stream); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Messages(schemas.Stream); len(got) != 1 {
		t.Errorf("the stream has %d events, want 1", len(got))
	}
	if value, err := crm.Get(t.Context(), "a.call.a"); err != nil || value.Revision() != 1 {
		t.Errorf("the other service's state: %v, %v", value, err)
	}
	for _, slot := range strings.Fields(hexSlots) {
		if consumer, err := js.Consumer(t.Context(), schemas.Stream, "crm-"+slot); err != nil || consumer.CachedInfo().Delivered.Consumer != 0 {
			t.Errorf("the other service's consumer %s: %v", slot, err)
		}
	}
}

// TestRights_otherTypes says what to do when the consumers have other types than the
// service wants, and it may not change them.
func TestRights_otherTypes(t *testing.T) {
	setPasswords(t)
	s := newRightsServer(t, printedConfig(t), "ivr")
	nc, _, _ := asService(t, s.URL(), "ivr", ivrPassword)
	service := consume.Service[struct{}]{
		Name: "ivr", Domain: "acs", Types: []string{"DialogStarted"}, Logger: slog.New(slog.DiscardHandler),
		Handle: func(context.Context, *consume.Call[struct{}], *schemas.Message) error { return nil },
	}
	err := consume.Run(t.Context(), nc, service)
	if err == nil || !strings.Contains(err.Error(), "give it the types of the service: ") || !strings.Contains(err.Error(), "; acsbridge rights ivr prints") {
		t.Error(err)
	}
}
