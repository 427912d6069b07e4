package check_test

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/check"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// The tests wait most of the time, for answers that do not come.
const parallel = "12"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "acsbridge-runtime-")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_RUNTIME_DIR", dir) // no bridge of this user is found
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// set is a set-up of a bridge: real key server, real NATS, a data directory.
type set struct {
	t      *testing.T
	issuer *acstest.Issuer
	server *natstest.Server // nil when other arguments name one
	args   []string
	opts   check.Options
}

// healthy is a set-up without a fault. Arguments of the test come last, and win.
func healthy(t *testing.T, args ...string) *set {
	t.Helper()
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
	if err == nil {
		err = issuer.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Close() })
	s := &set{t: t, issuer: issuer}
	s.args = []string{
		"--resource=" + acstest.DemoResource + "=" + acstest.DemoAudience, "--issuer=" + issuer.Name(), "--oidc-config-url=" + issuer.MetadataURL(),
		"--listen=" + bridgetest.FreeAddress(t), "--admin-listen=" + bridgetest.FreeAddress(t), "--data-dir=" + t.TempDir(), "--journal-max-bytes=8MiB",
	}
	if !slices.ContainsFunc(args, func(arg string) bool {
		return strings.HasPrefix(arg, "--nats-url=") || strings.HasPrefix(arg, "--nats-listen=")
	}) {
		s.server = natstest.Start(t)
		s.args = append(s.args, "--nats-url="+s.server.URL())
	}
	s.args = append(s.args, args...)
	return s
}

// settings parses the arguments and more of them.
func (s *set) settings(more ...string) *config.Settings {
	s.t.Helper()
	settings, err := config.Parse(append(slices.Clone(s.args), more...), nil, io.Discard)
	if err != nil {
		s.t.Fatal(err)
	}
	return settings
}

// run runs a bridge with the set-up until the test ends, or stop is called.
func (s *set) run(more ...string) (b *bridge.Bridge, stop func()) {
	s.t.Helper()
	b, err := bridge.New(s.settings(more...), "test", slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	}
	s.t.Cleanup(stop)
	return b, stop
}

// running is run once the bridge has keys and a stream.
func (s *set) running(more ...string) *bridge.Bridge {
	s.t.Helper()
	b, _ := s.run(more...)
	natstest.Until(s.t, func() bool { return b.Pending() == nil })
	return b
}

// check examines the set-up.
func (s *set) check(more ...string) check.Report {
	s.t.Helper()
	s.opts.Settings = s.settings(more...)
	return check.Run(s.t.Context(), s.opts)
}

// token signs one for the resource, or as the spec says.
func (s *set) token(spec acstest.TokenSpec) string {
	s.t.Helper()
	if spec.Audience == "" {
		spec.Audience = acstest.DemoAudience
	}
	token, err := s.issuer.Sign(spec)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// want is a finding: patterns of its text and its remedy.
type want struct {
	area          string
	level         check.Level
	found, remedy string
}

// expect expects a finding, and that all others are ok, except those of the areas in also.
func expect(t *testing.T, r check.Report, w want, also ...string) {
	t.Helper()
	has := false
	for _, f := range r.Findings {
		match := f.Area == w.area && f.Level == w.level && regexp.MustCompile(w.found).MatchString(f.Found) && regexp.MustCompile(w.remedy).MatchString(f.Remedy)
		has = has || match
		if !match && f.Level != check.OK && !slices.Contains(also, f.Area) && !ofThisMachine(f) {
			t.Errorf("also %s %s: %s → %s", f.Area, f.Level, f.Found, f.Remedy)
		}
	}
	if !has {
		t.Errorf("no finding %+v among\n%s", w, list(r))
	}
}

// ofThisMachine reports whether a finding is about the directory for temporary files.
func ofThisMachine(f check.Finding) bool {
	return f.Area == "data" && regexp.MustCompile(`is in memory|container's own layer|^an fsync takes`).MatchString(f.Found)
}

func list(r check.Report) string {
	var text strings.Builder
	for _, f := range r.Findings {
		text.WriteString(f.Area + " " + string(f.Level) + ": " + f.Found + " → " + f.Remedy + "\n")
	}
	return text.String()
}

// expectHealthy expects no finding that is worse than ok.
func expectHealthy(t *testing.T, r check.Report) {
	t.Helper()
	for _, f := range r.Findings {
		if f.Level != check.OK && !ofThisMachine(f) {
			t.Errorf("%s %s: %s → %s", f.Area, f.Level, f.Found, f.Remedy)
		}
	}
}

// waitKeys waits until a bridge has keys.
func waitKeys(t *testing.T, b *bridge.Bridge) {
	t.Helper()
	natstest.Until(t, func() bool { return !strings.HasPrefix(b.Pending().Error(), "no keys") })
}
