package bridge

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/verify"
)

// logLines keeps the lines of a log, each as its level, message and attributes.
type logLines struct {
	mu   sync.Mutex
	list []string
}

func (l *logLines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (l *logLines) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *logLines) WithGroup(string) slog.Handler                    { return l }

func (l *logLines) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, line)
	return nil
}

// taken returns the lines that hold a text, and forgets all.
func (l *logLines) taken(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.list {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	l.list = nil
	return found
}

func (l *logLines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(strings.Join(l.list, "\n"), text)
}

// TestWatch_warnsOnce polls the notes every half second for a
// minute.
func TestWatch_warnsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var present []condition
		var mu sync.Mutex
		set := func(c ...condition) {
			mu.Lock()
			defer mu.Unlock()
			present = c
		}
		log := &logLines{}
		w := &watch{logger: slog.New(log), checks: []func(context.Context) []condition{func(context.Context) []condition {
			mu.Lock()
			defer mu.Unlock()
			return present
		}}}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.run(ctx)
		figure := func(n int) condition {
			return condition{"disk", note{"disk", fmt.Sprint("short of ", n)}, "short"}
		}
		set(figure(0))
		time.Sleep(watchInterval)
		synctest.Wait()
		for n := range 120 {
			if len(w.notes()) != 1 {
				t.Fatalf("poll %d: notes %v", n, w.notes())
			}
			set(figure(n))
			time.Sleep(time.Second / 2)
		}
		if got := log.taken(""); len(got) != 1 || got[0] != "WARN problem found, /readyz shows it until it is over part=disk note=short of 0" {
			t.Errorf("said %q", got)
		}
		worse := figure(1000)
		worse.state = "worse"
		set(worse)
		time.Sleep(watchInterval)
		synctest.Wait()
		if got := log.taken("WARN"); len(got) != 1 {
			t.Errorf("when it was worse, said %q", got)
		}
		set()
		time.Sleep(watchInterval)
		synctest.Wait()
		if got := log.taken("INFO problem is over, /readyz shows it no longer part=disk"); len(got) != 1 || len(w.notes()) != 0 {
			t.Errorf("when it was over, said %q, notes %v", got, w.notes())
		}
	})
}

// TestWatch_certificateExpires lets the days of a certificate pass.
func TestWatch_certificateExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		dir := t.TempDir()
		certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		renew := func(from, until time.Time) {
			cert, key := bridgetest.Pair(t, from, until)
			for name, text := range map[string]string{certFile: cert, keyFile: key} {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		start := time.Now()
		renew(start.Add(day), start.Add(31*day))
		certificate, err := edge.OpenCertificate(certFile, keyFile, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		b := &Bridge{settings: &config.Settings{}, registry: prometheus.NewRegistry(), link: &natsconn.Link{}, certificate: certificate}
		log := &logLines{}
		w := &watch{logger: slog.New(log), checks: []func(context.Context) []condition{b.expiries()}}
		step := func(after time.Duration, want string) {
			t.Helper()
			time.Sleep(time.Until(start.Add(after)))
			w.check(t.Context())
			notes := w.notes()
			if said := log.taken("WARN"); (want != "") != (len(said) == 1) {
				t.Errorf("after %v: said %q", after, said)
			}
			if want == "" && len(notes) == 0 {
				return
			}
			if len(notes) != 1 || notes[0].part != "tls" || !strings.Contains(notes[0].text, want) || want == "" {
				t.Errorf("after %v: notes %q, want %q", after, notes, want)
			}
		}
		step(0, "is not valid before 2000-01-02 00:00Z: ACS does not connect; check this host's clock")
		step(day, "")
		step(17*day-time.Second, "")
		step(17*day+time.Second, "expires on 2000-02-01 00:00Z, in 13 days: then ACS does not connect; renew it")
		step(31*day, "expired on 2000-02-01 00:00Z: ACS does not connect; renew it")
		renew(start, start.Add(90*day))
		step(31*day+time.Minute, "")
		if err := os.Remove(keyFile); err != nil {
			t.Fatal(err)
		}
		step(32*day, "cannot be read again, repair its files: ")
	})
}

func TestValidity_chain(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2030, 1, day, 0, 0, 0, 0, time.UTC) }
	der := func(from, until time.Time) []byte {
		cert, _ := bridgetest.Pair(t, from, until)
		block, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(strings.Split(cert, "-----")[2], "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		return block
	}
	got := ofChain([][]byte{der(at(1), at(20)), der(at(3), at(10)), []byte("none")})
	if want := (validity{at(3), at(10)}); !got.from.Equal(want.from) || !got.until.Equal(want.until) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestWatch_natsCredentialsExpire has a server that cannot be reached: the files are
// looked at before a connection fails for them.
func TestWatch_natsCredentialsExpire(t *testing.T) {
	soon, later := time.Now().Add(9*24*time.Hour), time.Now().Add(400*24*time.Hour)
	creds := func(expires time.Time) string {
		claims := fmt.Sprintf(`{"exp":%d,"sub":"U"}`, expires.Unix())
		return "-----BEGIN NATS USER JWT-----\neyJ0eXAiOiJKV1QifQ." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln\n------END NATS USER JWT------\n"
	}
	cert, key := bridgetest.Pair(t, time.Time{}, soon)
	old, _ := bridgetest.Pair(t, time.Time{}, time.Now().Add(-time.Hour))
	good, goodKey := bridgetest.Pair(t, time.Time{}, later)
	files := map[string]string{
		"cert": bridgetest.WriteFile(t, "cert.pem", cert), "key": bridgetest.WriteFile(t, "key.pem", key),
		"ca": bridgetest.WriteFile(t, "ca.pem", old+cert+old), "creds": bridgetest.WriteFile(t, "bridge.creds", creds(soon)),
	}
	b := idleBridge(t, onLoopback(t, "--resource=contoso="+testGUID, "--nats-url=tls://127.0.0.1:1", "--nats-creds="+files["creds"],
		"--nats-ca="+files["ca"], "--nats-cert="+files["cert"], "--nats-key="+files["key"]))
	texts := func() (list []string) {
		b.watch.check(t.Context())
		for _, n := range b.notes() {
			if strings.Contains(n.text, "(--nats-") || strings.Contains(n.text, "--nats-ca:") || strings.Contains(n.text, "in --nats-ca ") {
				list = append(list, strings.SplitN(n.text, " on ", 2)[0])
			}
		}
		return list
	}
	want := []string{
		"the client certificate for NATS (--nats-cert, or of the context) expires",
		"the user JWT for NATS (--nats-creds, or of the context) expires",
		"the last certificate in --nats-ca expires",
	}
	if diff := cmp.Diff(want, texts()); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	expected := fmt.Sprintf(`
# HELP acsbridge_nats_credential_expiry_timestamp_seconds When what the bridge needs to connect to NATS expires, as Unix time: client_certificate, user_jwt, certificate_authority.
# TYPE acsbridge_nats_credential_expiry_timestamp_seconds gauge
acsbridge_nats_credential_expiry_timestamp_seconds{credential="certificate_authority"} %[1]d
acsbridge_nats_credential_expiry_timestamp_seconds{credential="client_certificate"} %[1]d
acsbridge_nats_credential_expiry_timestamp_seconds{credential="user_jwt"} %[1]d
`, soon.Unix())
	if err := testutil.GatherAndCompare(b.registry, strings.NewReader(expected), "acsbridge_nats_credential_expiry_timestamp_seconds"); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{"cert": good, "key": goodKey, "ca": "\ufeff" + good + old, "creds": creds(later)} {
		if err := os.WriteFile(files[name], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := texts(); len(got) != 0 {
		t.Errorf("renewed, and still said: %q", got)
	}
}

func TestWatch_oldKeys(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		keys verify.KeyStatus
		said bool
	}{
		"fetched":            {verify.KeyStatus{Held: 1, FetchedAt: now.Add(-2 * time.Hour)}, false},
		"failed just now":    {verify.KeyStatus{Held: 1, FetchedAt: now.Add(-time.Minute), LastError: os.ErrDeadlineExceeded}, false},
		"failed for an hour": {verify.KeyStatus{Held: 1, FetchedAt: now.Add(-time.Hour), LastError: os.ErrDeadlineExceeded}, true},
		"none":               {verify.KeyStatus{FetchedAt: now.Add(-25 * time.Hour), LastError: os.ErrDeadlineExceeded}, false},
	} {
		if got := keyConditions("keys", "callbacks", test.keys, now); (len(got) == 1) != test.said {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestNoteCounter_metric has a dead letter for a note, and the unreachable server for
// another.
func TestNoteCounter_metric(t *testing.T) {
	b := idleBridge(t, onLoopback(t, "--resource=contoso="+testGUID, "--nats-url=nats://127.0.0.1:1"))
	if err := os.WriteFile(filepath.Join(b.settings.DataDir, "dead-letters.ndjson"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.watch.check(t.Context())
	want := `
# HELP acsbridge_notes Lines with note in /readyz: what is not well although callbacks are taken, by part.
# TYPE acsbridge_notes gauge
acsbridge_notes{part="deadletters"} 1
acsbridge_notes{part="nats"} 1
`
	if err := testutil.GatherAndCompare(b.registry, strings.NewReader(want), "acsbridge_notes"); err != nil {
		t.Error(err)
	}
}
