package check_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/check"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/internal/usertest"
)

// TestRun_settings is about settings that are valid and unwise.
func TestRun_settings(t *testing.T) {
	t.Parallel()
	expect(t, healthy(t, "--admin-listen=0.0.0.0:0", "--admin-insecure").check(), want{"settings", "warn", "--admin-insecure", "--admin-token-file"})
	expect(t, healthy(t, "--listen=0.0.0.0:0").check(), want{"settings", "warn", "plain HTTP on 0.0.0.0:0", "--tls-cert"})
	expectHealthy(t, healthy(t, "--listen=0.0.0.0:0", "--trusted-proxy=10.0.0.0/8").check())
	r := healthy(t).check()
	if text := list(r); !strings.Contains(text, "settings ok: journal-max-bytes: 8MiB (flag --journal-max-bytes)") {
		t.Error(text)
	}
}

// TestRun_memory has a memory limit, which is one of the process.
func TestRun_memory(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "100MiB")
	before := debug.SetMemoryLimit(100 << 20)
	defer debug.SetMemoryLimit(before)
	expect(t, healthy(t).check(), want{"memory", "warn", "GOMEMLIMIT is 100 MiB, and these settings can use 156 MiB", "lower --max-connections"})
	expectHealthy(t, healthy(t, "--max-connections=256", "--max-in-flight=64").check())

	s := healthy(t, "--nats-listen="+bridgetest.FreeAddress(t))
	s.running()
	debug.SetMemoryLimit(60 << 20)
	expect(t, s.check(), want{"stream", "warn", "the subjects take about 0 MiB of the server's memory, and GOMEMLIMIT is 60 MiB", "keep less"}, "memory", "quarantine")
}

// TestRun_dataDir makes the faults of the data directory.
func TestRun_dataDir(t *testing.T) {
	t.Run("too small", func(t *testing.T) {
		expect(t, healthy(t, "--journal-max-bytes=900TiB").check(), want{"data", "fail", `free, and a full journal \(900TiB\) with its overhead needs \d+ GiB more`, "make room"})
	})
	t.Run("in memory", func(t *testing.T) {
		dir, err := os.MkdirTemp("/dev/shm", "acsbridge-test-")
		if name, _ := datadir.FileSystem("/dev/shm"); err != nil || name != "tmpfs" {
			t.Skip("no tmpfs on /dev/shm")
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		r := healthy(t, "--data-dir="+dir).check()
		if !regexp.MustCompile(`data fail: \S+ is in memory \(tmpfs\): a restart .* → put --data-dir on a disk`).MatchString(list(r)) {
			t.Error(list(r))
		}
	})
	t.Run("not writable", func(t *testing.T) {
		dir := filepath.Dir(usertest.Unreadable(t, ""))
		s := healthy(t, "--data-dir="+dir)
		var r check.Report
		usertest.AsOther(t, func() { r = s.check() })
		expect(t, r, want{"data", "fail", "cannot be written: .*permission denied", "give this user the right"})
	})
	t.Run("slow", func(t *testing.T) {
		defer check.SetSlowFsync(time.Nanosecond)()
		r := healthy(t).check()
		if !regexp.MustCompile(`data warn: an fsync takes \S+, at most \S+ → take a faster disk`).MatchString(list(r)) {
			t.Error(list(r))
		}
	})
	t.Run("settings of the last start unreadable", func(t *testing.T) {
		s := healthy(t)
		if err := os.WriteFile(filepath.Join(s.settings().DataDir, "last-start.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, s.check(), want{"data", "warn", "last-start.json cannot be read", "."})
	})
}

// TestRun_journal has a bridge leave a record behind, and then other settings, or a
// journal that cannot be read.
func TestRun_journal(t *testing.T) {
	t.Parallel()
	s := healthy(t)
	b, stop := s.run("--nats-url=nats://" + bridgetest.FreeAddress(t)) // which never comes
	waitKeys(t, b)
	if got := bridgetest.Post(t, b.CallbackURL(), s.token(acstest.TokenSpec{}), callbackBody(0)); got != 200 {
		t.Fatalf("answered %d", got)
	}
	stop()
	r := s.check()
	expect(t, r, want{"data", "ok", `the journal holds 1 record for stream ACS, subjects acs\.demo\.>`, ""})
	moved := s.check("--subject-prefix=calls")
	expect(t, moved, want{"data", "warn", "the journal holds 1 record journaled for --subject-prefix acs, to be sent with calls", "restore"}, "data")
	expect(t, moved, want{"data", "warn", "--subject-prefix was acs and is calls", "restore"}, "data")
	off := s.check("--journal=off")
	expect(t, off, want{"data", "warn", "holds 1 record that --journal off does not send", "--journal on"})

	meta := filepath.Join(s.settings().DataDir, "journal", "wal-meta.db")
	if err := os.WriteFile(meta, []byte(strings.Repeat("broken ", 4<<10)), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, s.check(), want{"data", "fail", "the journal cannot be read", "Disk failing"})
	expect(t, s.check("--journal=off"), want{"data", "warn", "cannot be read", "Disk failing"})
}

// TestFinding_print writes lines of 80 columns at most, and nothing that a terminal obeys.
func TestFinding_print(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	f := check.Finding{Area: "keys", Level: check.Fail, Found: strings.Repeat("word ", 40) + strings.Repeat("x", 200) + "\x1b[31m", Remedy: strings.Repeat("do it ", 40)}
	f.Print(&out, false, "")
	f.Print(&out, false, "keys")
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if strings.Count(out.String(), "keys\n") != 1 || strings.Contains(out.String(), "\x1b") || strings.Count(out.String(), "  fail  word") != 2 {
		t.Error(out.String())
	}
}
