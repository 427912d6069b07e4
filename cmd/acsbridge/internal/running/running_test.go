package running_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/running"
)

// useDirectory gives a test a directory for state files, and returns where they are.
func useDirectory(t *testing.T) string {
	base := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", base)
	return filepath.Join(base, "acsbridge", "running")
}

// files are the names in a directory.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func find(t *testing.T) []running.State {
	t.Helper()
	states, err := running.Find()
	if err != nil {
		t.Fatal(err)
	}
	return states
}

func TestPublish_findsNewestFirst(t *testing.T) {
	dir := useDirectory(t)
	if states := find(t); len(states) != 0 {
		t.Fatalf("found %v before anything was published", states)
	}
	removeOld, err := running.Publish(running.State{Command: "serve", NatsURL: "nats://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	removeNew, err := running.Publish(running.State{Command: "demo", NatsURL: "nats://127.0.0.1:2", Key: "key.pem"})
	if err != nil {
		t.Fatal(err)
	}
	states := find(t)
	if len(states) != 2 || states[0].NatsURL != "nats://127.0.0.1:2" || states[0].Key != "key.pem" || states[0].PID != os.Getpid() || states[1].Command != "serve" {
		t.Errorf("found %+v", states)
	}
	for _, name := range files(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, error %v; want 0600", name, info.Mode(), err)
		}
	}
	removeNew()
	if states := find(t); len(states) != 1 || states[0].Command != "serve" {
		t.Errorf("found %+v after the newest was removed", states)
	}
	removeOld()
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

// TestFind_removesFilesOfTheDead has the files of a process whose lock has ended.
func TestFind_removesFilesOfTheDead(t *testing.T) {
	dir := useDirectory(t)
	remove, err := running.Publish(running.State{Command: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	living := files(t, dir)
	for _, name := range []string{"demo-1-7.lock", "demo-1-7.json", "serve-2-8.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"command":"demo"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if states := find(t); len(states) != 1 || states[0].PID != os.Getpid() {
		t.Errorf("found %+v", states)
	}
	if left := files(t, dir); strings.Join(left, " ") != strings.Join(living, " ") {
		t.Errorf("%q are left, want %q", left, living)
	}
}

// TestPublish_whileOthersLook publishes as other commands remove files of dead processes.
func TestPublish_whileOthersLook(t *testing.T) {
	useDirectory(t)
	done := make(chan struct{})
	var looking sync.WaitGroup
	for range 2 {
		looking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_, _ = running.Find()
				}
			}
		})
	}
	for range 200 {
		remove, err := running.Publish(running.State{Command: "demo"})
		if err != nil {
			t.Error(err)
			break
		}
		if states := find(t); len(states) != 1 {
			t.Errorf("found %+v", states)
		}
		remove()
	}
	close(done)
	looking.Wait()
}
